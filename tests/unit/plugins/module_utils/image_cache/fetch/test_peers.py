# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file from another host, which does what it should or anything else. The command that logs in is a script here.

``tests/unit/test_peers_by_ssh.py`` has a real sshd in its place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.errors import (
    FetchError,
    ImageCacheError,
    RefusalError,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import peers as peers_module
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import streaming
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.peers import (
    Peer,
    PeerFile,
    PeerTransfer,
    fetch_from_peers,
    read_peers,
)
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.hashing import RateLimiter
from ansible_collections.stackops.nova.tests.support.constants import BASE, IMAGE
from ansible_collections.stackops.nova.tests.support.file_systems import on_file_system
from ansible_collections.stackops.nova.tests.support.host import Host
from ansible_collections.stackops.nova.tests.support.peers import HONEST, peer_file, runs
from ansible_collections.stackops.nova.tests.support.processes import (
    NOBODY,
    in_a_child,
    needs_root,
    wait_until,
)
from ansible_collections.stackops.nova.tests.support.remedies import has_remedy

MIB = 1 << 20
KIB = 1 << 10
# Two blocks and a bit, of which the second is zeros.
CONTENT = os.urandom(MIB) + bytes(MIB) + os.urandom(300) + b"end"
SHA256 = hashlib.sha256(b"").hexdigest()
ENTRY = {"hosts": [{"host": "cmp-1", "path": f"/nova/_base/{BASE}"}], "size_bytes": 1, "algorithm": "sha256"}
ENTRY["checksum"] = SHA256


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=9) | st.integers(), some, max_size=3),
    max_leaves=4,
)


def _mostly(*values: Any) -> st.SearchStrategy[Any]:
    """One of some values, or seldom anything."""
    return st.one_of(st.sampled_from(values), st.sampled_from(values), _JUNK)


# What the option has, or nearly.
_HOSTS = st.fixed_dictionaries(
    {
        "host": _mostly("cmp-1", "nova@a", "-a", "a b") | st.text(max_size=9),
        "path": _mostly("/a", "a", "/'\"$;") | st.text(max_size=9),
    }
)
_ENTRIES = st.fixed_dictionaries(
    {
        "hosts": st.lists(_HOSTS | _JUNK, max_size=3) | _JUNK,
        "size_bytes": _mostly(1, 1 << 40, 0),
        "algorithm": _mostly("sha256", "sha512", "md5"),
        "checksum": _mostly(SHA256, "0" * 128, "x"),
    },
    optional={"allocated_bytes": _mostly(0, 4096), "more": _JUNK},
)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The file that another host has."""
    path = tmp_path / "there"
    path.write_bytes(CONTENT)
    return path


def fetch(
    target: Path,
    entry: Mapping[str, Any],
    command: list[str],
    *,
    rate_limiter: RateLimiter | None = None,
    owner: Path | None = None,
    most_space: int = 1 << 40,
) -> PeerTransfer:
    """Fetch a file from other hosts into a new one."""

    def require_space(count: int) -> None:
        if count > most_space:
            raise RefusalError("There is no space. Set min_free_space.")

    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        return fetch_from_peers(
            read_peers({BASE: entry}, command),
            BASE,
            (owner or target.parent).stat(),
            descriptor,
            rate_limiter or RateLimiter(),
            require_space,
        )
    finally:
        os.close(descriptor)


def error_of(target: Path, entry: Mapping[str, Any], command: list[str], **options: Any) -> str:
    """Why a file is not fetched: what happened to which file, with which host, and what to do."""
    with pytest.raises(FetchError) as caught:
        fetch(target, entry, command, **options)
    text = str(caught.value)
    assert BASE in text
    assert has_remedy(text)
    return text


class TestOption:
    def test_entry_is_taken_as_it_is(self) -> None:
        peers = read_peers({BASE: {**ENTRY, "size_bytes": 9, "allocated_bytes": 4}}, HONEST)
        assert peers.files == {BASE: PeerFile((Peer("cmp-1", f"/nova/_base/{BASE}"),), 9, 4, "sha256", SHA256)}

    def test_file_takes_its_size_unless_that_is_known_better(self) -> None:
        assert read_peers({BASE: {**ENTRY, "size_bytes": 9}}, HONEST).files[BASE].allocated_bytes == 9
        more = {**ENTRY, "size_bytes": 9, "allocated_bytes": 4096}
        assert read_peers({BASE: more}, HONEST).files[BASE].allocated_bytes == 9

    @pytest.mark.parametrize("name", [BASE, f"{BASE}_1073741824", f"{BASE}_sm"])
    def test_files_that_come_from_an_image_are_taken(self, name: str) -> None:
        assert list(read_peers({name: ENTRY}, HONEST).files) == [name]

    @pytest.mark.parametrize(
        "name",
        ["swap_512", "ephemeral_1_0706d66", IMAGE, f"{BASE}.part", f"../{BASE}", BASE.upper(), "", "-", 7, None],
    )
    def test_other_names_are_refused(self, name: object) -> None:
        with pytest.raises(ImageCacheError, match="not the name of a base file that comes from an image") as caught:
            read_peers({name: ENTRY}, HONEST)
        assert has_remedy(str(caught.value))

    @pytest.mark.parametrize(
        "host", ["cmp-1", "nova@cmp-1.example.com", "192.0.2.7", "2001:db8::7", "::1", "fe80::1%eth0"]
    )
    def test_names_and_addresses_are_hosts(self, host: str) -> None:
        entry = {**ENTRY, "hosts": [{"host": host, "path": "/file"}]}
        assert read_peers({BASE: entry}, HONEST).files[BASE].peers == (Peer(host, "/file"),)

    @pytest.mark.parametrize(
        "host",
        [
            "-oProxyCommand=touch /tmp/x",
            "--",
            "-l@a",
            "nova@-oProxyCommand=x",
            *"; $`|&<>\n\t\0ä",
            "",
            "a b",
            "$(x)@b",
            "@a",
            "a@b@c",
            7,
        ],
    )
    def test_option_or_anything_but_a_name_is_no_host(self, host: object) -> None:
        entry = {**ENTRY, "hosts": [{"host": host, "path": "/file"}]}
        with pytest.raises(ImageCacheError, match="is not the name or the address of a host") as caught:
            read_peers({BASE: entry}, HONEST)
        assert has_remedy(str(caught.value))

    @pytest.mark.parametrize("path", ["file", "", "-n", "~/file", "/a\nb", "/a\0b", "/\udcff", 7, None])
    def test_path_that_is_not_absolute_or_not_shown_is_refused(self, path: object) -> None:
        entry = {**ENTRY, "hosts": [{"host": "cmp-1", "path": path}]}
        with pytest.raises(ImageCacheError, match="is not an absolute one") as caught:
            read_peers({BASE: entry}, HONEST)
        assert has_remedy(str(caught.value))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            *[({"size_bytes": value}, "size_bytes is not") for value in (0, -1, True, "1", 1.0, None, 1 << 63)],
            *[({"allocated_bytes": value}, "allocated_bytes is not") for value in (-1, True, "1", 1.5, 1 << 63)],
            *[({"algorithm": value}, "neither sha256 nor sha512") for value in ("sha1", "md5", "SHA256", None, [])],
            *[({"checksum": value}, "is not one of sha256") for value in ("", SHA256[1:], SHA256.upper(), 7, None)],
            ({"algorithm": "sha512"}, "is not one of sha512"),
            *[({"hosts": value}, "hosts is not a list") for value in ([], {}, None, "cmp-1")],
            *[({"hosts": [value]}, "does not have host, path") for value in ("cmp-1", {}, {"host": "a"}, None)],
            ({"hosts": [{"host": "a", "path": "/b", "port": 22}]}, "does not have host, path"),
            ({"sha256": SHA256}, "and nothing else"),
        ],
    )
    def test_wrong_value_is_refused(self, changes: dict[str, Any], words: str) -> None:
        with pytest.raises(ImageCacheError, match=words) as caught:
            read_peers({BASE: {**ENTRY, **changes}}, HONEST)
        assert BASE in str(caught.value)
        assert has_remedy(str(caught.value))

    @pytest.mark.parametrize("field", ENTRY)
    def test_missing_field_is_refused(self, field: str) -> None:
        with pytest.raises(ImageCacheError, match="does not have hosts, size_bytes, algorithm, checksum"):
            read_peers({BASE: {name: value for name, value in ENTRY.items() if name != field}}, HONEST)

    @pytest.mark.parametrize("command", [[], [""], ["/no/such/ssh"], ["no-such-ssh", "-T"], ["a\0b"], ["sh", "a\0b"]])
    def test_command_that_this_host_does_not_have_is_refused(self, command: list[str]) -> None:
        with pytest.raises(ImageCacheError, match="is not a command of this host") as caught:
            read_peers({BASE: ENTRY}, command)
        assert has_remedy(str(caught.value))

    @given(st.dictionaries(_mostly(BASE, f"{BASE}_sm", "swap_1").filter(_is_hashable), _ENTRIES | _JUNK, max_size=2))
    def test_any_option_is_refused_or_safe(self, option: dict[Any, Any]) -> None:
        files, error = parsed(option)
        assert not error or has_remedy(error)
        for file in files:
            assert 0 < file.size_bytes < 1 << 63
            assert 0 <= file.allocated_bytes <= file.size_bytes
            assert (file.algorithm, len(bytes.fromhex(file.checksum))) in (("sha256", 32), ("sha512", 64))
            assert file.peers
            for host, path in file.peers:
                assert not host.startswith("-")
                assert not set(host) & set(" \t\n\r\0'\"`$;&|<>()\\*?[]{}#~!")
                assert path.startswith("/")
                assert path.isprintable()


def parsed(option: dict[Any, Any]) -> tuple[list[PeerFile], str]:
    """The files that an option names, or why it is refused."""
    try:
        return list(read_peers(option, HONEST).files.values()), ""
    except ImageCacheError as exc:
        return [], str(exc)


class TestWholeFile:
    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    @pytest.mark.parametrize("size", [1, MIB - 1, MIB, len(CONTENT)])
    def test_file_has_all_bytes_and_nothing_else(self, tmp_path: Path, algorithm: str, size: int) -> None:
        (tmp_path / "there").write_bytes(CONTENT[:size])
        (tmp_path / "file").write_bytes(os.urandom(2 * len(CONTENT)))
        transfer = fetch(tmp_path / "file", peer_file(tmp_path / "there", algorithm=algorithm), HONEST)
        assert (tmp_path / "file").read_bytes() == CONTENT[:size]
        assert transfer == PeerTransfer(Peer("cmp-1", str(tmp_path / "there")), size)

    def test_zeros_become_holes(self, tmp_path: Path) -> None:
        content = bytes(8 * MIB) + os.urandom(MIB) + bytes(8 * MIB)
        (tmp_path / "there").write_bytes(content)
        fetch(tmp_path / "file", peer_file(tmp_path / "there"), HONEST)
        assert (tmp_path / "file").read_bytes() == content
        assert (tmp_path / "file").stat().st_blocks * 512 <= MIB + 256 * KIB

    @pytest.mark.parametrize("name", ["two words", "it's", "$(touch hacked)", "a;touch hacked", "-n", "*", "\\", '"'])
    def test_shell_of_the_other_host_takes_the_path_as_one_word(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(CONTENT)
        fetch(tmp_path / "file", peer_file(tmp_path / name), HONEST)
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert sorted(os.listdir(tmp_path)) == sorted([name, "file"])
        assert not Path("/hacked").exists()

    def test_rate_is_limited(self, tmp_path: Path, served: Path) -> None:
        started = time.monotonic()
        fetch(tmp_path / "file", peer_file(served), HONEST, rate_limiter=RateLimiter(4 * MIB))
        assert time.monotonic() - started > len(CONTENT) / (4 * MIB) - 0.1

    def test_rate_limit_of_our_own_is_no_slowness_of_the_host(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(peers_module, "_TIMEOUT_SECONDS", 0.2)
        monkeypatch.setattr(streaming, "LEAST_BYTES_PER_SECOND", 100 * MIB)
        fetch(tmp_path / "file", peer_file(served), HONEST, rate_limiter=RateLimiter(2 * MIB))
        assert (tmp_path / "file").read_bytes() == CONTENT


class TestCommandProcess:
    def test_command_gets_the_host_and_the_remote_command_after_the_end_of_its_options(
        self, tmp_path: Path, served: Path
    ) -> None:
        command = runs(f'printf "%s\\n" "$@" > {tmp_path}/words; cat -- {served}')
        fetch(tmp_path / "file", peer_file(served, hosts=["nova@cmp-7"]), command)
        assert (tmp_path / "words").read_text().splitlines() == ["--", "nova@cmp-7", f"cat -- {served}"]

    def test_command_has_no_input_and_nothing_of_our_environment(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", "/root/agent")
        monkeypatch.setenv("OS_PASSWORD", "secret")
        command = runs(f"{{ cat; env; pwd; ls /proc/self/fd; }} > {tmp_path}/seen; cat -- {served}")
        fetch(tmp_path / "file", peer_file(served), command)
        lines = (tmp_path / "seen").read_text().splitlines()
        names = {line.partition("=")[0] for line in lines if "=" in line}
        assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH", "LC_ALL", "HOME", "USER", "LOGNAME"}
        assert "/" in lines
        assert {line for line in lines if line.isdigit()} <= {"0", "1", "2", "3"}

    @needs_root
    def test_command_has_no_rights_of_root(self, public_host: Host) -> None:
        served, seen = public_host.root / "there", public_host.root / "seen"
        served.write_bytes(CONTENT)
        seen.mkdir()
        for path in (public_host.cache_path, seen):
            os.chown(path, NOBODY, NOBODY)
        command = runs(f"{{ cat /proc/self/status; echo core $(ulimit -c) home $HOME; }} > {seen}/it; cat {served}")

        def fetch_as_root_with_groups() -> None:
            os.setgroups([0, 4])
            fetch(public_host.root / "file", peer_file(served), command, owner=public_host.cache_path)

        in_a_child(fetch_as_root_with_groups)
        words = (seen / "it").read_text()
        for line in ("Uid", "Gid"):
            assert f"{line}:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}\n" in words
        assert re.search(r"^Groups:\s*$", words, re.MULTILINE)
        assert "CapPrm:\t0000000000000000" in words
        assert "CapEff:\t0000000000000000" in words
        assert "core 0 home /nonexistent" in words
        assert (seen / "it").stat().st_uid == NOBODY

    def test_user_without_a_name_has_no_home(self) -> None:
        assert peers_module.environment_of(4_000_000) == {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}


class TestNextHost:
    def test_each_host_that_fails_is_followed_by_the_next(self, tmp_path: Path, served: Path) -> None:
        command = runs('case $2 in cmp-3) eval "$3";; cmp-1) printf lies;; *) exit 3;; esac')
        transfer = fetch(tmp_path / "file", peer_file(served, hosts=["cmp-1", "cmp-2", "cmp-3", "cmp-4"]), command)
        assert (tmp_path / "file").read_bytes() == CONTENT
        assert transfer == PeerTransfer(Peer("cmp-3", str(served)), len(CONTENT) + len("lies"))

    def test_each_of_several_failing_hosts_is_named_with_its_reason(self, tmp_path: Path, served: Path) -> None:
        command = runs("echo $2 is down >&2; exit 255")
        text = error_of(tmp_path / "file", peer_file(served, hosts=["cmp-1", "cmp-2"]), command)
        for host in ("cmp-1", "cmp-2"):
            assert f"From {host} came 0 of {len(CONTENT)} bytes: it ended early, and it says: {host} is down." in text

    def test_many_failing_hosts_are_shortened_to_the_first(self, tmp_path: Path, served: Path) -> None:
        hosts = [f"cmp-{number}" for number in range(9)]
        text = error_of(tmp_path / "file", peer_file(served, hosts=hosts), runs("exit 255"))
        assert "cmp-4" in text
        assert "cmp-5" not in text
        assert "So it was with 4 more." in text


LIES: dict[str, tuple[str, str]] = {
    "nothing": ("exit 0", "came 0 of {size} bytes: it ended early, and its exit status is 0"),
    "truncated": ("head -c -1 {file}", "came {less} of {size} bytes: it ended early"),
    "ends at a block": ("head -c 1048576 {file}", "came 1048576 of {size} bytes: it ended early"),
    "extended": ("cat {file}; echo", "came {size} of {size} bytes: more bytes follow"),
    "endless": ("cat {file} /dev/zero", "came {size} of {size} bytes: more bytes follow"),
    "endless zeros": ("cat /dev/zero", "more bytes follow"),
    "first bit flipped": ("printf '\\{first:03o}'; tail -c +2 {file}", "their sha256 is"),
    "last byte another one": ("head -c -1 {file}; printf D", "their sha256 is"),
    "hole filled": ("head -c 1048576 {file}; head -c 1048576 /dev/zero | tr '\\0' x; tail -c 303 {file}", "sha256 is"),
    "other file": ("head -c {size} /dev/urandom", "their sha256 is"),
    "dies": ("head -c 1000 {file}; kill -9 $$", "came 1000 of {size} bytes: it ended early, and signal 9 ended it"),
    "refuses": ("echo Permission denied. >&2; exit 255", "and it says: Permission denied. Check peer_command"),
    "has no cat": ("echo sh: cat: not found >&2; exit 127", "and it says: sh: cat: not found"),
    "framed error": ("printf '@@@@\\n@ KEY HAS CHANGED @\\n@@@@\\n' >&2; exit 255", "it says: @ KEY HAS CHANGED @"),
    "control characters": ("printf 'a\\033[2Jb\\n' >&2; exit 255", "it says: a\\x1b[2Jb"),
    "no text": ("printf '\\377\\376x\\n' >&2; exit 255", "it says: \ufffd\ufffdx"),
    "long error": ("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 255", "xxx…"),
    "no line": ("printf '\\n\\n  \\n' >&2; exit 255", "and its exit status is 255"),
}
SLOW: dict[str, tuple[str, str]] = {
    "silence": ("sleep 600", "came 0 of {size} bytes: it sends less than 10240 bytes a second"),
    "trickle": ("while printf x; do sleep 0.05; done", "it sends less than 10240 bytes a second"),
    "silence in the middle": ("head -c 1000 {file}; sleep 600", "came 1000 of {size} bytes: it sends less"),
    "no end": ("cat {file}; sleep 600", "came {size} of {size} bytes: it sends less"),
    "endless error": ("yes no >&2", "came 0 of {size} bytes: it sends less"),
    "ignores signals": ("trap '' HUP INT PIPE TERM; sleep 600", "it sends less"),
    "left by its parent": ("sleep 600 & wait", "it sends less"),
    "left behind": ("sleep 600 & exit 1", "it sends less"),
}


class TestLyingHost:
    @pytest.mark.parametrize(("script", "words"), LIES.values(), ids=LIES)
    def test_file_of_a_lying_host_is_not_taken_and_has_a_reason(self, tmp_path: Path, script: str, words: str) -> None:
        _refused(tmp_path, script, words)

    @pytest.mark.usefixtures("time_limit")
    @pytest.mark.parametrize(("script", "words"), SLOW.values(), ids=SLOW)
    def test_slow_host_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
    ) -> None:
        monkeypatch.setattr(peers_module, "_TIMEOUT_SECONDS", 0.5)
        monkeypatch.setattr(peers_module, "_END_SECONDS", 0.5)
        started = time.monotonic()
        _refused(tmp_path, script, words)
        assert time.monotonic() - started < 10

    @pytest.mark.usefixtures("time_limit")
    def test_host_that_always_sends_just_enough_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(peers_module, "_FILE_SECONDS", 0.5)
        monkeypatch.setattr(peers_module, "_LEAST_BYTES_PER_SECOND_OF_FILE", 100 * MIB)
        _refused(tmp_path, "while head -c 2000 /dev/zero; do sleep 0.05; done", f"it sends less than {100 * MIB} bytes")

    def test_host_that_fills_the_disk_is_followed_by_the_next(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The host sends other bytes where there should be zeros, which take no space."""
        monkeypatch.setattr(streaming, "_SPACE_BYTES", 3 * MIB // 2)
        command = runs(f'if [ "$2" = liar ]; then exec head -c {len(CONTENT)} /dev/urandom; fi; eval "$3"')
        text = error_of(tmp_path / "file", peer_file(served, hosts=["liar"]), command, most_space=0)
        assert "From liar came 2097152 of" in text
        assert "bytes: There is no space. Set min_free_space." in text
        fetched = fetch(tmp_path / "file", peer_file(served, hosts=["liar", "cmp-1"]), command, most_space=0)
        assert fetched.peer.host == "cmp-1"
        assert (tmp_path / "file").read_bytes() == CONTENT

    def test_path_that_this_locale_cannot_write_is_a_reason(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_arguments: object, **_options: object) -> None:
            raise UnicodeEncodeError("ascii", "/ä", 1, 2, "ordinal not in range(128)")

        monkeypatch.setattr(peers_module.subprocess, "Popen", refuse)
        assert "cannot be run as the owner of the cache" in error_of(tmp_path / "file", peer_file(served), HONEST)

    def test_output_that_was_closed_by_a_command_that_goes_on_is_an_end(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(peers_module, "_END_SECONDS", 0.3)
        text = error_of(tmp_path / "file", peer_file(served), runs("exec >&- 2>&-; sleep 600"))
        assert "it ended early, and its command does not end" in text


class TestAnyBytes:
    FILE = bytes(range(256)) * 3 + bytes(70 * KIB) + b"end"

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.integers(0, len(FILE)),
        st.integers(0, 9),
        st.sampled_from([b"", b"\0", b"x", b"end", FILE]),
        st.integers(0, 1),
    )
    def test_any_other_bytes_than_those_of_the_checksum_are_refused(
        self, tmp_path: Path, start: int, count: int, instead: bytes, status: int
    ) -> None:
        """A few bytes are left out, added or others, at any place; the command may fail besides."""
        sent = self.FILE[:start] + instead + self.FILE[start + count :]
        (tmp_path / "there").write_bytes(self.FILE)
        (tmp_path / "sent").write_bytes(sent)
        command = runs(f"cat {tmp_path}/sent; exit {status}")
        if sent == self.FILE:
            fetch(tmp_path / "file", peer_file(tmp_path / "there"), command)
            assert (tmp_path / "file").read_bytes() == self.FILE
        else:
            error_of(tmp_path / "file", peer_file(tmp_path / "there"), command)


def _refused(tmp_path: Path, script: str, words: str) -> None:
    """See a lie refused, on a file system of its own, where nothing of it is left: no process, no space."""
    there = tmp_path / "there"
    there.write_bytes(CONTENT)
    values = {"file": there, "size": len(CONTENT), "less": len(CONTENT) - 1, "first": CONTENT[0] ^ 1}
    # Each process of the script has this in its environment.
    command = runs(f"export OF={tmp_path}; {script.format(**values)}")

    def run(path: Path) -> None:
        before = os.statvfs(path)
        text = error_of(path / "file", peer_file(there), command)
        (path / "file").unlink()
        assert words.format(**values) in text
        assert f"The base file {BASE} came from no other host. From cmp-1 came " in text
        assert len(text) < 700
        assert text.isprintable()
        assert os.statvfs(path).f_bfree == before.f_bfree

    on_file_system("tmpfs", tmp_path, run, size=16 * MIB)
    assert _processes_of(tmp_path) == []


def _processes_of(tmp_path: Path) -> list[str]:
    """The processes with a certain environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if f"OF={tmp_path}\0".encode() in (process / "environ").read_bytes() + b"\0":
                    found.append((process / "cmdline").read_text())
            except OSError:
                pass  # it ended
    return found


class TestCommandThatCannotBeRun:
    def test_command_that_cannot_be_run_is_named(self, tmp_path: Path, served: Path) -> None:
        command = tmp_path / "command"
        command.write_text("#!/no/such/interpreter\n")
        command.chmod(0o755)
        text = error_of(tmp_path / "file", peer_file(served), [str(command)])
        assert (
            f"{command} cannot be run as the owner of the cache: No such file or directory. Check peer_command" in text
        )

    @needs_root
    def test_command_that_the_owner_of_the_cache_may_not_run_is_named(self, tmp_path: Path, served: Path) -> None:
        owner = tmp_path / "cache"
        owner.mkdir()
        os.chown(owner, NOBODY, NOBODY)
        command = tmp_path / "command"
        command.write_text("#!/bin/sh\n")
        command.chmod(0o700)
        text = error_of(tmp_path / "file", peer_file(served), [str(command)], owner=owner)
        assert "cannot be run as the owner of the cache: Permission denied" in text


class TestOurOwnHost:
    @pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
    def test_disk_that_fails_is_no_fault_of_the_other_host(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch, error: int
    ) -> None:
        def fail(*_arguments: object) -> int:
            raise OSError(error, os.strerror(error))

        monkeypatch.setattr(os, "pwrite", fail)
        marks = tmp_path / "marks"
        command = runs(f'echo $2 >> {marks}; eval "$3"')
        text = error_of(tmp_path / "file", peer_file(served, hosts=["cmp-1", "cmp-2"]), command)
        assert "could not be written after" in text
        assert os.strerror(error) in text
        assert marks.read_text().split() == ["cmp-1"]

    def test_space_is_checked_again_during_a_transfer(
        self, tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streaming, "_SPACE_BYTES", MIB)
        text = error_of(tmp_path / "file", peer_file(served), HONEST, most_space=MIB - 1)
        assert "bytes: There is no space. Set min_free_space." in text
        fetch(tmp_path / "file", peer_file(served), HONEST, most_space=MIB)

    def test_holes_take_no_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "_SPACE_BYTES", 64 * KIB)
        (tmp_path / "there").write_bytes(bytes(4 * MIB))
        fetch(tmp_path / "file", peer_file(tmp_path / "there"), HONEST, most_space=0)

    def test_command_ends_with_the_process_that_is_killed(self, tmp_path: Path, served: Path) -> None:
        pid = tmp_path / "pid"
        command = runs(f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600")
        child = os.fork()
        if child == 0:
            try:
                fetch(tmp_path / "file", peer_file(served), command)
            finally:
                os._exit(1)
        wait_until(pid.exists)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_until(lambda: not Path(f"/proc/{int(pid.read_text())}/cmdline").exists() or _is_dead(int(pid.read_text())))


def _is_dead(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
