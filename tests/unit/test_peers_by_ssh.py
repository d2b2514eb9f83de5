# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files come from another host by a real ssh to a real sshd, as nova's user, with the command as the module has it."""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import peers as peers_module
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE, UUID
from ansible_collections.stackops.nova.tests.support.host import Host, qcow2_of, qemu_img_create
from ansible_collections.stackops.nova.tests.support.peers import PeerHost, beside_a_peer, needs_sshd, peer_file
from ansible_collections.stackops.nova.tests.support.processes import mount, wait_until
from ansible_collections.stackops.nova.tests.support.records import record
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

pytestmark = needs_sshd

MIB = 1 << 20
SIZE = 8 * MIB
# Data, a hole of half its size, and data.
CONTENT = os.urandom(3 * MIB) + bytes(4 * MIB) + os.urandom(MIB)


class Both:
    """This host, and another one that has the file: two hosts of one cloud, as far as ssh goes."""

    def __init__(self, peer: PeerHost, root: Path) -> None:
        self.peer = peer
        # Nothing but the file system's own is on it, so that what is left is seen.
        (root / "disk").mkdir()
        mount("-t", "tmpfs", "-o", "size=32m,mode=755", "tmpfs", root / "disk")
        self.host = Host(root / "disk")
        for path in (self.host.instances_path, self.host.cache_path):
            os.chown(path, peer.user, peer.user)
        self.there = root / "there" / BASE
        self.there.parent.mkdir()
        self.there.write_bytes(CONTENT)
        os.chown(self.there, peer.user, peer.user)
        self.there.chmod(0o600)
        self.base = self.host.cache_path / BASE

    def options(self, *addresses: str, **more: Any) -> dict[str, Any]:
        return {"peers": {BASE: peer_file(self.there, hosts=addresses or (self.peer.honest,), **more)}}

    def restore(self, *addresses: str, **given: Any) -> FetchResult:
        """Restore the file, which a guest's disk needs."""
        directory = self.host.instances_path / UUID
        if not directory.exists():
            directory.mkdir()
            options = ("-u", "-f", "qcow2", "-b", self.base, "-F", "raw")
            qemu_img_create(directory / "disk", *options, size=str(SIZE))
        return self.host.restore(**{**self.options(*addresses), **given})

    def why_not(self, *addresses: str) -> str:
        """Why the file is not restored; nothing of it is left, no space, no process."""
        result = self.restore(*addresses)
        [failed] = result.done["failed"]
        assert has_remedy(failed["error"])
        assert not result.changed
        assert self.host.cached() == []
        assert self.left() == ([], 0)
        return str(failed["error"])

    def left(self) -> tuple[list[str], int]:
        """The processes of ssh that nova's user has, and the bytes that are taken by what has no name."""
        found = []
        for process in Path("/proc").iterdir():
            try:
                if process.name.isdigit() and process.stat().st_uid == self.peer.user:
                    command = (process / "cmdline").read_bytes()
                    # Other tests may run beside this one.
                    if command.startswith(b"/usr/bin/ssh\0") and os.fsencode(self.there) in command:
                        found.append(command.decode())
            except OSError:
                pass  # it ended
        space = os.statvfs(self.host.root)
        named = sum(each.lstat().st_blocks * 512 for each in self.host.root.rglob("*"))
        return found, (space.f_blocks - space.f_bfree) * space.f_frsize - named


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that nova's user can look into."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        yield Path(root)


def between(public: Path, body: Callable[[Both], Any]) -> Any:
    return beside_a_peer(public, lambda peer: body(Both(peer, public)))


def test_file_comes_byte_for_byte_with_its_holes_as_novas_own(public: Path) -> None:
    def run(both: Both) -> None:
        result = both.restore()
        assert result.error is None
        assert both.base.read_bytes() == CONTENT
        status = both.base.stat()
        assert status.st_blocks * 512 == 4 * MIB
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (both.peer.user, both.peer.user, 0o644)
        [restored] = result.done["restored"]
        assert restored["source_path"] == f"127.0.0.1:{both.there}"
        assert restored["checksum"] == hashlib.sha256(CONTENT).hexdigest()
        assert both.left() == ([], 0)

    between(public, run)


def test_image_is_precached_without_qemu_img_and_glance(public: Path) -> None:
    def run(both: Both) -> None:
        its_record = record(qcow2_of(public, CONTENT), disk_format="qcow2")
        os.environ["PATH"] = str(_programs(public, "ssh"))
        result = both.host.precache(images=[its_record], min_free_space=0, **both.options())
        assert result.error is None
        assert both.base.read_bytes() == CONTENT
        assert both.left() == ([], 0)

    between(public, run)


def _programs(root: Path, *names: str) -> Path:
    """A directory with these programs and no others."""
    (root / "programs").mkdir()
    for name in names:
        (root / "programs" / name).symlink_to(f"/usr/bin/{name}")
    return root / "programs"


def test_path_with_any_characters_is_one_word_of_the_remote_shell(public: Path) -> None:
    def run(both: Both) -> None:
        strange = both.there.with_name("it's $(touch hacked) \"; `touch hacked` *")
        both.there.rename(strange)
        both.there = strange
        assert both.restore().error is None
        assert both.base.read_bytes() == CONTENT
        assert not (both.peer.home / "hacked").exists()

    between(public, run)


def test_dry_run_makes_no_connection(public: Path) -> None:
    def run(both: Both) -> None:
        result = both.restore(both.peer.dead, check_mode=True)
        [restored] = result.done["restored"]
        assert (result.error, restored["contacted"]) == (None, False)

    between(public, run)


def test_next_host_is_asked_where_one_cannot_be_reached_or_trusted(public: Path) -> None:
    def run(both: Both) -> None:
        both.peer.lies(f"head -c {SIZE} /dev/urandom")
        peer = both.peer
        result = both.restore(peer.dead, peer.stranger, peer.liar, peer.honest)
        [restored] = result.done["restored"]
        assert restored["source_path"] == f"127.0.0.1:{both.there}"
        assert restored["read_bytes"] == 2 * SIZE
        assert both.base.read_bytes() == CONTENT

    between(public, run)


def test_host_that_cannot_be_reached_is_named(public: Path) -> None:
    def run(both: Both) -> None:
        text = both.why_not(both.peer.dead)
        assert f"From 127.0.0.3 came 0 of {SIZE} bytes: it ended early, and it says: ssh: connect to host" in text
        assert "Connection refused" in text

    between(public, run)


def test_host_whose_key_is_unknown_is_not_logged_in_to(public: Path) -> None:
    def run(both: Both) -> None:
        assert "it says: Host key verification failed" in both.why_not(both.peer.stranger)

    between(public, run)


def test_host_whose_key_has_changed_is_not_logged_in_to(public: Path) -> None:
    def run(both: Both) -> None:
        known = both.peer.home / ".ssh/known_hosts"
        other = (both.peer.home / ".ssh/id_ed25519.pub").read_text().split()[:2]
        known.write_text(f"127.0.0.* {' '.join(other)}\n")
        text = both.why_not()
        assert "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!" in text
        assert "known_hosts" in text

    between(public, run)


def test_key_that_is_not_accepted_is_named(public: Path) -> None:
    def run(both: Both) -> None:
        (both.peer.home / ".ssh/authorized_keys").write_text("")
        assert "it says: nova@127.0.0.1: Permission denied (publickey" in both.why_not()

    between(public, run)


def test_path_that_is_not_there_is_named(public: Path) -> None:
    def run(both: Both) -> None:
        options = both.options()
        options["peers"][BASE]["hosts"][0]["path"] = "/no/such/file"
        [failed] = both.restore(**options).done["failed"]
        assert "it says: cat: /no/such/file: No such file or directory" in failed["error"]

    between(public, run)


def test_configuration_of_the_user_runs_and_forwards_nothing(public: Path) -> None:
    """A master connection would outlive the run, and a forwarding would open a port."""

    def run(both: Both) -> None:
        config = both.peer.home / ".ssh/config"
        config.write_text(
            f"Host *\nControlMaster auto\nControlPath {both.peer.home}/master\nControlPersist 600\n"
            f"LocalForward 127.0.0.1:8022 127.0.0.1:22\nForwardAgent yes\n"
        )
        assert both.restore().error is None
        assert both.base.read_bytes() == CONTENT
        assert both.left() == ([], 0)
        assert not (both.peer.home / "master").exists()

    between(public, run)


def test_other_port_takes_another_command(public: Path) -> None:
    def run(both: Both) -> None:
        wrong = both.restore(peer_command=["ssh", "-o", "BatchMode=yes", "-p", "8022"])
        assert "port 8022: Connection refused" in wrong.done["failed"][0]["error"]
        assert both.restore(peer_command=["ssh", "-o", "BatchMode=yes", "-p", "22"]).error is None

    between(public, run)


def test_host_that_allows_no_cat_takes_a_command_of_its_own(public: Path) -> None:
    """What the other host allows is a script of its own, which gets what it was asked for in a variable."""

    def run(both: Both) -> None:
        both.peer.lies(f'case $SSH_ORIGINAL_COMMAND in "cat -- {both.there}") exec cat {both.there};; *) exit 9;; esac')
        assert both.restore(both.peer.liar).error is None
        assert both.base.read_bytes() == CONTENT
        for path in both.host.cache_path.iterdir():
            path.unlink()
        both.peer.lies("echo cat is not allowed >&2; exit 9")
        assert "it says: cat is not allowed" in both.why_not(both.peer.liar)

    between(public, run)


LIES: dict[str, Sequence[str]] = {
    "truncated": ("head -c -1 {file}", f"came {SIZE - 1} of {SIZE} bytes: it ended early"),
    "extended": ("cat {file}; echo", f"came {SIZE} of {SIZE} bytes: more bytes follow"),
    "endless": ("cat {file} /dev/zero", f"came {SIZE} of {SIZE} bytes: more bytes follow"),
    "other bytes": (f"head -c {SIZE} /dev/urandom", "their sha256 is"),
    "last byte": (f"head -c {SIZE - 1} {{file}}; printf x", "their sha256 is"),
    "dies": (f"head -c {MIB} {{file}}; kill -9 $$", f"of {SIZE} bytes: it ended early"),
    "cuts the connection": (f"head -c {MIB} {{file}}; kill -9 $PPID", f"of {SIZE} bytes: it ended early"),
    "silent": ("sleep 600", "it sends less than 10240 bytes a second"),
    "trickle": ("while printf x; do sleep 0.05; done", "it sends less than 10240 bytes a second"),
    "talks instead": ("yes no >&2", "it sends less than 10240 bytes a second"),
    "sends a terminal's codes": (r"printf '\033[2Jhello\n' >&2; exit 1", r"it says: \x1b[2Jhello"),
}


@pytest.mark.parametrize(("script", "words"), LIES.values(), ids=LIES)
def test_lying_host_leaves_nothing_and_is_named(
    public: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    def run(both: Both) -> None:
        both.peer.lies(script.format(file=both.there))
        with monkeypatch.context() as patch:
            patch.setattr(peers_module, "_TIMEOUT_SECONDS", 3.0 if "less than" in words else 60.0)
            text = both.why_not(both.peer.liar)
        assert f"The base file {BASE} came from no other host. From 127.0.0.2 came " in text
        assert words in text
        assert text.isprintable()
        assert both.restore().error is None
        assert both.base.read_bytes() == CONTENT

    between(public, run)


def test_host_that_lies_about_all_poisons_nobody(public: Path) -> None:
    """The host says that its own file is the right one. The checksum that came from elsewhere decides."""

    def run(both: Both) -> None:
        poison = both.there.with_name("poison")
        poison.write_bytes(os.urandom(SIZE))
        poison.chmod(0o644)
        both.peer.lies(f"cat {poison}")
        assert "their sha256 is" in both.why_not(both.peer.liar)
        [checksum] = both.host.restore(checksums_of=[BASE]).done["checksums"] or [None]
        assert checksum is None

    between(public, run)


def test_module_that_is_killed_leaves_no_connection_and_no_space(public: Path) -> None:
    def run(both: Both) -> None:
        both.peer.lies(f"head -c {4 * MIB} {both.there}; sleep 600")
        child = os.fork()
        if child == 0:
            try:
                both.restore(both.peer.liar)
            finally:
                os._exit(0)
        wait_until(lambda: len(both.left()[0]) == 1 and both.left()[1] >= 2 * MIB)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_until(lambda: both.left() == ([], 0))
        assert both.host.cached() == []

    between(public, run)


def test_rate_is_limited(public: Path) -> None:
    def run(both: Both) -> None:
        started = time.monotonic()
        assert both.restore(max_rate=4 * MIB).error is None
        assert time.monotonic() - started > SIZE / (4 * MIB) - 0.3

    between(public, run)


def test_checksums_of_two_hosts_are_what_lets_a_third_take_the_file(public: Path) -> None:
    """What the controller does, by hand: it asks two hosts, and gives what both say to the one that lacks it."""

    def run(both: Both) -> None:
        answers = []
        for number in range(2):
            witness = Host(public / f"witness{number}")
            witness.base(BASE, content=CONTENT)
            [answer] = witness.restore(checksums_of=[BASE], check_mode=True).done["checksums"]
            answers.append({key: answer[key] for key in ("size_bytes", "algorithm", "checksum")})
        assert answers[0] == answers[1]
        hosts = [{"host": both.peer.honest, "path": str(both.there)}]
        result = both.restore(peers={BASE: {"hosts": hosts, **answers[0]}})
        assert result.error is None
        assert both.base.read_bytes() == CONTENT
        assert result.done["restored"][0]["image_id"] in (None, IMAGE)

    between(public, run)
