# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A base file from another host: what a command such as ssh brings, run as the owner of the cache.

Another host, or what a guest has made of it, can send anything. So a transfer ends in one of two ways: the file has
the size and the checksum that the controller gave, or :class:`FetchError` says what happened with each host.

Only what restores or pre-caches from other hosts imports this module.
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import select
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import closing, suppress
from typing import IO, Any, Callable, Mapping, NamedTuple, Sequence, cast

from ..errors import FetchError, ImageCacheError, RefusalError, reason_and_remedy, reason_of
from ..hashing import RateLimiter
from ..names import Kind, parse_name
from ..text import printable, shortened
from .owner import become_owner, environment_of
from .streaming import LEAST_BYTES_PER_SECOND, LowestRate, write_stream

__all__ = [
    "Peer",
    "PeerFile",
    "PeerTransfer",
    "Peers",
    "fetch_from_peers",
    "is_checksum",
    "is_path",
    "is_ssh_host",
    "read_peers",
]

_KINDS = (Kind.ORIGINAL, Kind.RESIZED, Kind.SMALL)
_DIGITS = {"sha256": 64, "sha512": 128}
_MOST_BYTES = (1 << 63) - 1
# ssh expands both parts in commands of its configuration, so nothing that means something to a shell is taken.
_HOST = re.compile("(?:[0-9A-Za-z_][0-9A-Za-z_.-]*@)?[0-9A-Za-z_:][0-9A-Za-z_.:%-]*")
_FIELDS = ("hosts", "size_bytes", "algorithm", "checksum")
_OPTIONAL_FIELDS = ("allocated_bytes",)
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ in linux/fcntl.h
_TIMEOUT_SECONDS = 60.0
# How long may be waited for a whole file, so that a host which sends just enough holds up nobody for days.
_FILE_SECONDS = 300.0
_LEAST_BYTES_PER_SECOND_OF_FILE = 1 << 20
# How long a command may take to end that has closed its output, or was killed.
_END_SECONDS = 5.0
_MOST_WORDS_BYTES = 4096
_WORDS_SHOWN = 200
_HOSTS_SHOWN = 5
_WORD = re.compile(r"\w")
_CHECK_ACCESS = (
    "Check peer_command, the keys and the known_hosts of the owner of the cache, and the path on that host: run the "
    "command by hand as that user"
)
_CHECK_FILE = "Check the file on that host (checksum_base_images: true), and restore it there"


class Peer(NamedTuple):
    """Where another host has a file.

    :param host: the host's name or address, as ssh takes it.
    :param path: the file's absolute path there.
    """

    host: str
    path: str

    @property
    def shown(self) -> str:
        """Both, for a result."""
        return f"{self.host}:{self.path}"


class PeerFile(NamedTuple):
    """A base file that other hosts have.

    :param peers: those, the first to be asked before the others.
    :param size_bytes: its size.
    :param allocated_bytes: what it takes there, for want of another number its size.
    :param algorithm: of the checksum that is agreed on, ``sha256`` or ``sha512``; likewise ``checksum``.
    """

    peers: tuple[Peer, ...]
    size_bytes: int
    allocated_bytes: int
    algorithm: str
    checksum: str


class Peers(NamedTuple):
    """What other hosts have, by the name of the base file, and the command that logs in to them."""

    files: Mapping[str, PeerFile]
    command: Sequence[str]


class PeerTransfer(NamedTuple):
    """Which host has sent a file, and how many bytes were read of all hosts."""

    peer: Peer
    read_bytes: int


class _PeerError(Exception):
    """Why the file of one host was not taken, and what to do."""


def read_peers(option: Mapping[Any, Any], command: Sequence[str]) -> Peers:
    """Read the options ``peers`` and ``peer_command``.

    :raises ImageCacheError: one cannot be meant.
    """
    return Peers({_name(name): _file(str(name), value) for name, value in option.items()}, _command(command))


def is_ssh_host(host: object) -> bool:
    """Tell whether a value is the name or the address of a host, with a user or without, and no option of ssh."""
    return isinstance(host, str) and _HOST.fullmatch(host) is not None


def is_path(path: object) -> bool:
    """Tell whether a value is an absolute path that can be shown."""
    return isinstance(path, str) and path.startswith("/") and path.isprintable()


def is_checksum(algorithm: object, checksum: object) -> bool:
    """Tell whether a value is a checksum in hex digits, by an algorithm that is strong enough."""
    digits = _DIGITS.get(algorithm) if isinstance(algorithm, str) else None
    if digits is None or not isinstance(checksum, str):
        return False
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", checksum) is not None


def _name(name: object) -> str:
    if not isinstance(name, str) or parse_name(name).kind not in _KINDS:
        raise ImageCacheError(
            f"peers has {printable(str(name))!r}, which is not the name of a base file that comes from an image. Set "
            f"peers: to names as the cache directory has them."
        )
    return name


def _file(name: str, value: object) -> PeerFile:
    fields = _mapping(name, value, _FIELDS, _OPTIONAL_FIELDS)
    size, algorithm, checksum = fields["size_bytes"], fields["algorithm"], fields["checksum"]
    allocated = fields.get("allocated_bytes", size)
    if not _is_count(size) or size < 1:
        raise _wrong(name, "its size_bytes is not a number of bytes above 0")
    if not _is_count(allocated):
        raise _wrong(name, "its allocated_bytes is not a number of bytes")
    if not isinstance(algorithm, str) or algorithm not in _DIGITS:
        raise _wrong(name, "its algorithm is neither sha256 nor sha512")
    if not is_checksum(algorithm, checksum):
        raise _wrong(name, f"its checksum is not one of {algorithm} in hex digits")
    hosts = fields["hosts"]
    if not isinstance(hosts, list) or not hosts:
        raise _wrong(name, "its hosts is not a list with at least one host")
    return PeerFile(tuple(_peer(name, each) for each in hosts), size, min(allocated, size), algorithm, checksum)


def _peer(name: str, value: object) -> Peer:
    fields = _mapping(name, value, ("host", "path"))
    host, path = fields["host"], fields["path"]
    if not is_ssh_host(host):
        shown = shortened(printable(str(host)), 100)
        raise _wrong(name, f"its host {shown!r} is not the name or the address of a host")
    if not is_path(path):
        raise _wrong(name, f"its path {shortened(printable(str(path)), 100)!r} is not an absolute one")
    return Peer(host, path)


def _mapping(name: str, value: object, fields: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """Return a dictionary that has all of some fields, perhaps some others, and nothing else."""
    if not isinstance(value, dict) or not set(fields) <= value.keys() <= {*fields, *optional}:
        raise _wrong(name, f"one of its dictionaries does not have {', '.join(fields)} and nothing else")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_BYTES


def _wrong(name: str, reason: str) -> ImageCacheError:
    return ImageCacheError(
        f"peers is wrong for {name}: {reason}. Set peers: {{base file: {{hosts: [{{host: its name, path: of the file "
        f"there}}], size_bytes: its size, algorithm: sha256, checksum: its checksum}}}}."
    )


def _command(words: Sequence[str]) -> tuple[str, ...]:
    """Find the command: by its own path, because the environment that it gets is not that of this process."""
    path = shutil.which(words[0]) if words and not any("\0" in word for word in words) else None
    if path is None:
        first = shortened(printable(words[0]), 100) if words else ""
        raise ImageCacheError(
            f"peer_command begins with {first!r}, which is not a command of this host. Install it (openssh-client, "
            f"openssh-clients), or set peer_command to one that logs in to other hosts."
        )
    return (os.path.abspath(path), *words[1:])


def fetch_from_peers(
    peers: Peers,
    name: str,
    owner: os.stat_result,
    descriptor: int,
    rate_limiter: RateLimiter,
    require_space: Callable[[int], None],
) -> PeerTransfer:
    """Write a base file that other hosts have into a file. The first host that sends the right bytes is the last asked.

    :param peers: where they are.
    :param name: the base file's name.
    :param owner: the cache directory, as whose owner the command is run.
    :param descriptor: the file, open for writing. Afterwards it has these bytes alone, and holes where they are zeros.
    :param rate_limiter: how fast.
    :param require_space: refuses so many bytes where there is no room for them.
    :raises FetchError: no host has sent it whole, or it could not be written. What the file has then is of no use.
    """
    file = peers.files[name]
    failures: list[str] = []
    read_bytes = 0
    for peer in file.peers:
        received = 0
        try:
            with closing(_PeerStream(peers.command, peer, file.size_bytes, owner, rate_limiter)) as stream:
                try:
                    checksum = write_stream(stream, file.size_bytes, file.algorithm, descriptor, require_space)
                finally:
                    received = stream.received
                    read_bytes += received
            if checksum != file.checksum:
                raise _PeerError(f"their {file.algorithm} is {checksum} and not {file.checksum}. {_CHECK_FILE}")
            return PeerTransfer(peer, read_bytes)
        except (_PeerError, RefusalError) as exc:  # no room: it may have sent other bytes where the file has zeros
            reason = str(exc).rstrip(".")
            failures.append(f"From {peer.host} came {received} of {file.size_bytes} bytes: {reason}.")
        except OSError as exc:
            raise FetchError(
                f"The base file {name} could not be written after {received} of {file.size_bytes} bytes. "
                f"{reason_and_remedy(exc)}."
            ) from exc
    more = len(failures) - _HOSTS_SHOWN
    also = [f"So it was with {more} more."] if more > 0 else []
    raise FetchError(f"The base file {name} came from no other host. {' '.join([*failures[:_HOSTS_SHOWN], *also])}")


class _PeerStream:
    """What the command of one host brings, in its order.

    :param command: logs in to the host.
    :param peer: the host, and the file.
    :param size_bytes: the file's size.
    :param owner: the cache directory, as whose owner it is run.
    :param rate_limiter: how fast it may come.
    :raises _PeerError: it cannot be run.
    """

    def __init__(
        self, command: Sequence[str], peer: Peer, size_bytes: int, owner: os.stat_result, rate_limiter: RateLimiter
    ) -> None:
        self.received = 0
        self._left_seconds = _FILE_SECONDS + size_bytes / _LEAST_BYTES_PER_SECOND_OF_FILE
        self._rate_limiter = rate_limiter
        self._lowest_rate = LowestRate(_TIMEOUT_SECONDS)
        self._words = b""
        user = owner.st_uid if os.geteuid() == 0 else os.geteuid()
        try:
            self._process = subprocess.Popen(
                [*command, "--", peer.host, f"cat -- {shlex.quote(peer.path)}"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                env=environment_of(user),
                start_new_session=True,  # a process group of its own, which close() ends
                preexec_fn=_confinement(owner),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as exc:  # a path may have letters of no locale here
            raise _PeerError(
                f"{printable(command[0])} cannot be run as the owner of the cache: {reason_of(exc)}. Check peer_command"
            ) from exc
        self._output, self._errors = (cast("IO[bytes]", each).fileno() for each in self._streams)
        self._poll = select.poll()
        for descriptor in (self._output, self._errors):
            self._poll.register(descriptor, select.POLLIN)
        with suppress(OSError):  # a limit of the user, or an old kernel
            fcntl.fcntl(self._output, _SET_PIPE_SIZE, _PIPE_BYTES)

    @property
    def _streams(self) -> tuple[IO[bytes] | None, IO[bytes] | None]:
        return self._process.stdout, self._process.stderr

    def read_into(self, block: memoryview) -> None:
        """Fill a block with the bytes that follow.

        :raises _PeerError: they do not come.
        """
        while block:
            count = self._read(block)
            if not count:
                raise _PeerError(f"it ended early, {self._why_ended()}. {_CHECK_ACCESS}")
            self.received += count
            block = block[count:]

    def require_end(self) -> None:
        """Look whether more bytes follow.

        :raises _PeerError: they do, or what brings them does not end.
        """
        if self._read(memoryview(bytearray(1))):
            raise _PeerError(f"more bytes follow. {_CHECK_FILE}")

    def close(self) -> None:
        """End the command with all that it has started. It is killed before it is waited for: its number is its own."""
        with suppress(ProcessLookupError, PermissionError):  # one that has changed its user, as sudo does
            os.killpg(self._process.pid, signal.SIGKILL)
        for stream in self._streams:
            cast("IO[bytes]", stream).close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)

    def _read(self, block: memoryview) -> int:
        """Read what is there of the file, or wait for something; 0 at the end."""
        while True:
            began = time.monotonic()
            ready = {descriptor for descriptor, _event in self._poll.poll(1000 * self._lowest_rate.left_seconds)}
            if self._errors in ready:
                self._read_words()
            has_output = self._output in ready
            count = os.readv(self._output, [block]) if has_output else 0
            waited = time.monotonic() - began
            self._left_seconds -= waited
            is_too_slow = self._lowest_rate.is_too_slow(waited, count)
            if is_too_slow or self._left_seconds < 0:
                least = LEAST_BYTES_PER_SECOND if is_too_slow else _LEAST_BYTES_PER_SECOND_OF_FILE
                raise _PeerError(
                    f"it sends less than {least} bytes a second. Look at the load of that host, and "
                    f"at the network: run peer_command by hand"
                )
            if has_output:
                self._rate_limiter.throttle(count)
                return count

    def _read_words(self) -> None:
        """Read what the command says, and keep the beginning."""
        words = os.read(self._errors, _PIPE_BYTES)
        self._words = (self._words + words)[:_MOST_WORDS_BYTES]
        if not words:
            self._poll.unregister(self._errors)

    def _why_ended(self) -> str:
        """Say why there is no more: in the command's own words, if it has any."""
        status = self._wait()
        lines = self._words.decode("utf-8", "replace").splitlines()
        # ssh frames some of its errors.
        line = next((line.strip() for line in lines if _WORD.search(line)), "")
        if line:
            return f"and it says: {shortened(printable(line), _WORDS_SHOWN).rstrip('.')}"
        if status is None:
            return "and its command does not end"
        return f"and its exit status is {status}" if status >= 0 else f"and signal {-status} ended it"

    def _wait(self) -> int | None:
        """Wait until the command ends, and return its exit status; None if that takes too long.

        It is not reaped, so that its number remains its own.
        """
        self._poll.unregister(self._output)
        until = time.monotonic() + _END_SECONDS
        ended = None
        while ended is None and time.monotonic() < until:
            ended = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if self._poll.poll(0 if ended else 10):
                self._read_words()
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _confinement(owner: os.stat_result) -> Callable[[], None]:
    """Return what the new process does before it becomes the command."""
    become = become_owner(owner.st_uid, owner.st_gid)

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        become()

    return confine
