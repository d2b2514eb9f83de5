# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other hosts for a test: a script that stands for the command that logs in to them, and a real sshd."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.stackops.nova.tests.support.processes import mount, with_own_mounts, with_own_network


def runs(script: str) -> list[str]:
    """A script as `peer_command`. Its arguments are `--`, the host and the remote command."""
    return ["sh", "-c", script, "peer"]


# This script does what the other host is asked for.
HONEST = runs('eval "$3"')


def lies(size: int) -> dict[str, tuple[str, str]]:
    """What a host may do instead of sending ``$FILE``, which has so many bytes, and what the message about it says."""
    return {
        "truncated": ("head -c -1 $FILE", "it ended early"),
        "extended": ("cat $FILE; echo", "more bytes follow"),
        "endless": ("cat $FILE /dev/zero", "more bytes follow"),
        "other bytes": (f"head -c {size} /dev/urandom", "their sha256 is"),
        "dies": (f"head -c {1 << 20} $FILE; kill -9 $$", "signal 9 ended it"),
        "silent": ("sleep 600", "it sends less than 10240 bytes a second"),
        "trickle": ("while printf x; do sleep 0.05; done", "it sends less than 10240 bytes a second"),
        "refuses": ("echo no way >&2; exit 255", "it says: no way"),
    }


def lying_python_script(python: str, checksum: str) -> str:
    """What runs modules on a host that reports this checksum, whatever file it has."""
    return f"""#!/bin/sh
{python} "$@" | sed 's/"checksum": "[0-9a-f]*"/"checksum": "{checksum}"/g'
"""


def peer_file(
    path: Path, *, hosts: Sequence[str] = ("cmp-1",), algorithm: str = "sha256", **more: Any
) -> dict[str, Any]:
    """What the option `peers` says of a file that these hosts have under a path."""
    content = path.read_bytes()
    return {
        "hosts": [{"host": host, "path": str(path)} for host in hosts],
        "size_bytes": len(content),
        "algorithm": algorithm,
        "checksum": hashlib.new(algorithm, content).hexdigest(),
        **more,
    }


class PeerHost:
    """Another host, seen from this one in a network and mounts of a test's own: a real sshd with addresses in 127/8.

    nova's user has a home with a key, and ``known_hosts`` has the host's key for the addresses of 127.0.0.0/24.

    :ivar user: the number of nova's user, and of its group.
    :ivar home: the home of that user.
    :ivar honest: the address at which it does what it is asked for.
    :ivar liar: the address at which it runs a script instead, which may look at ``$SSH_ORIGINAL_COMMAND``.
    :ivar stranger: an address whose key is not known.
    :ivar dead: one at which nothing listens.
    """

    user = 64_061
    honest = "127.0.0.1"
    liar = "127.0.0.2"
    stranger = "127.0.1.1"
    dead = "127.0.0.3"

    def __init__(self, root: Path) -> None:
        self._root = root
        self.home = root / "home"
        self._lie = root / "lie"

    def lies(self, script: str) -> None:
        """Have the liar run a script from now on."""
        self._lie.write_text(f"#!/bin/sh\n{script}\n")
        self._lie.chmod(0o755)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set all of it up in namespaces that nobody else sees."""
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        mount("-t", "tmpfs", "tmpfs", "/run")
        Path("/run/sshd").mkdir()
        self._make_user()
        key = self._make_key("host")
        config = self._root / "sshd_config"
        config.write_text(
            f"HostKey {key}\nListenAddress {self.honest}\nListenAddress {self.liar}\nListenAddress {self.stranger}\n"
            f"PidFile none\nUsePAM no\nMatch LocalAddress {self.liar}\nForceCommand {self._lie}\n"
        )
        with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", config], stderr=subprocess.PIPE, text=True) as sshd:
            assert sshd.stderr is not None
            for _address in (self.honest, self.liar, self.stranger):
                line = sshd.stderr.readline()
                assert "Server listening" in line, line
            try:
                yield
            finally:
                sshd.terminate()
                self._end_sessions()

    def _end_sessions(self) -> None:
        """End what runs on that host for a connection that is gone. By itself it ends when it writes something."""
        network = os.readlink("/proc/self/ns/net")
        for process in Path("/proc").iterdir():
            with suppress(OSError):  # it ended
                is_theirs = process.name.isdigit() and process.stat().st_uid == self.user
                if is_theirs and os.readlink(process / "ns/net") == network:
                    os.kill(int(process.name), signal.SIGKILL)

    def _make_user(self) -> None:
        (self.home / ".ssh").mkdir(parents=True)
        for name, line in (
            ("passwd", f"nova:x:{self.user}:{self.user}::{self.home}:/bin/sh"),
            ("shadow", "nova:*:1::::::"),
        ):
            ours = self._root / name
            # First, because this machine may have a user of that name.
            ours.write_text(f"{line}\n{Path('/etc', name).read_text()}")
            mount("--bind", ours, Path("/etc", name))
        key = self._make_key("home/.ssh/id_ed25519")
        (self.home / ".ssh/authorized_keys").write_text(Path(f"{key}.pub").read_text())
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, self.user, self.user)

    def _make_key(self, name: str) -> Path:
        path = self._root / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        if name == "host":
            words = Path(f"{path}.pub").read_text().split()[:2]
            (self.home / ".ssh/known_hosts").write_text(f"127.0.0.* {' '.join(words)}\n")
        return path


needs_sshd = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("sshd", path="/usr/sbin") is None or shutil.which("ip") is None,
    reason="takes sshd, ip and the rights of root",
)


def beside_a_peer(root: Path, body: Callable[[PeerHost], Any]) -> Any:
    """Run `body` in a process of its own, beside another host that nova's user can log in to.

    :param root: an empty directory that every user can look into.
    """

    def run() -> Any:
        peer = PeerHost(root)
        with peer.running():
            return body(peer)

    return with_own_mounts(lambda: with_own_network(run))
