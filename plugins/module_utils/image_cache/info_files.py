# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Saved facts about base files: the info file of each, read, and written so that nothing is ever lost.

An info file is one JSON object, ``{"sha1": hex, "sha1-timestamp": unix time}``, as nova wrote it up
to 2019 (``read_stored_info`` and ``write_stored_info`` in Icehouse's ``imagecache.py``). Essex kept
the bare checksum in ``<base file>.sha1``.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import Any, Iterator, Mapping, NamedTuple

from .errors import AS_ROOT, ImageCacheError, reason_and_remedy, remedy_for_rights
from .files import DIRECTORY_FLAGS, FILE_FLAGS, read_small_file
from .inode_flags import is_protected_by_flags
from .locks import acquire, release
from .names import Kind, info_path, lock_name, parse_name
from .obstacles import is_others_in_sticky_directory
from .text import printable

__all__ = [
    "DIGITS",
    "IMAGE_ID",
    "INFO_KINDS",
    "PRECACHED_AT",
    "TIMESTAMP",
    "Info",
    "held_lock",
    "info_directory",
    "info_lock_name",
    "is_valid_info_file",
    "read_info",
    "read_legacy_sha1_file",
    "read_precached_at",
    "read_timestamp",
    "remove_essex_checksum",
    "remove_info",
    "save_info",
    "why_essex_checksum_cannot_be_removed",
    "why_info_cannot_be_saved",
]

DIGITS = {"sha1": 40, "sha256": 64, "sha512": 128}
INFO_KINDS = (Kind.ORIGINAL, Kind.RESIZED, Kind.SMALL)
TIMESTAMP = "-timestamp"
PRECACHED_AT = "precached_at"
"""When an image was last pre-cached here, in unix seconds."""
_PRECACHED_AT = json.dumps(PRECACHED_AT).encode()
IMAGE_ID = "image_id"
"""The image that it was."""
_ESSEX_SUFFIX = ".sha1"
_SIZE_LIMIT = 16 * 1024
_LOCK_WAIT_SECONDS = 1.0
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o644
_WHITESPACE = " \t\n\r"  # JSON's own
_decode = json.JSONDecoder().raw_decode
# What is written here about a file with one checksum, to the byte.
_ONE_CHECKSUM = {
    algorithm: re.compile(
        rb'\{"%(algorithm)s": "[0-9a-f]{%(digits)d}", "%(algorithm)s-timestamp": ([1-9][0-9]*\.[0-9]+)\}'
        % {b"algorithm": algorithm.encode(), b"digits": digits}
    )
    for algorithm, digits in DIGITS.items()
}


class Info(NamedTuple):
    """What an info file holds.

    :param fields: its fields; empty where there is no file, or none that can be understood.
    :param damaged: why it cannot be understood, None where it can or does not exist.
    """

    fields: Mapping[str, Any]
    damaged: str | None = None


def is_valid_info_file(pattern: str, path: str) -> bool:
    """Tell whether a path is that of an info file: of an original, small or resized base file.

    :param pattern: ``image_info_filename_pattern``, as :func:`names.info_path` takes it.
    :param path: an absolute path.
    :return: whether it is one (``is_valid_info_file`` in Icehouse's ``imagecache.py``, but for the
        whole of the path, and not for its beginning alone).
    """
    before, after = info_path(pattern, "\0").split("\0")
    name = path[len(before) : len(path) - len(after)]
    return path == before + name + after and parse_name(name).kind in INFO_KINDS


def info_lock_name(name: str) -> str:
    """Return the name of the external lock under which a base file's facts are read and written."""
    return lock_name("info-" + name)


def held_lock(lock_file: str) -> str:
    """Say that another process holds a lock, and what to do."""
    return f"another process holds the lock {lock_file}. Look for that process in /proc/locks, or run it again later"


@contextmanager
def info_directory(pattern: str, cache_path: str, cache: int) -> Iterator[int | None]:
    """Open the directory of the info files: by default the cache's own.

    What is read and written there is named relative to it. Under the same path there may be a link
    to somewhere else a moment later.

    :param pattern: ``image_info_filename_pattern``, as :func:`names.info_path` takes it.
    :param cache_path: the cache directory.
    :param cache: a descriptor of it.
    :return: a descriptor, which is closed afterwards; None where there is no such directory.
    :raises OSError: it cannot be opened, or is a link.
    """
    path = os.path.dirname(pattern)
    if path == cache_path:
        yield cache
        return
    inside = path[len(cache_path) + 1 :] if path.startswith(cache_path + "/") else path
    try:
        directory = os.open(inside, DIRECTORY_FLAGS, dir_fd=cache)
    except FileNotFoundError:
        yield None
        return
    try:
        yield directory
    finally:
        os.close(directory)


def read_info(file: str, directory: int | None) -> Info:
    """Read an info file.

    :param file: its bare name.
    :param directory: what :func:`info_directory` gives.
    :return: its fields. A file that is damaged, too large or missing has none.
    :raises OSError: it is there and cannot be read.
    """
    if directory is None:
        return Info({})
    try:
        text = _read(file, directory).decode().strip(_WHITESPACE)
        fields, end = _decode(text)
    except FileNotFoundError:
        return Info({})
    except (ValueError, RecursionError) as exc:
        return Info({}, str(exc))
    if end != len(text) or not isinstance(fields, dict):
        return Info({}, "it does not hold one JSON object")
    return Info(fields)


def read_timestamp(file: str, directory: int, algorithm: str) -> float | None:
    """Read when a checksum was verified, from an info file that holds that checksum and nothing else.

    So do most files on most days, and this takes two thirds of the time of :func:`read_info`.

    :param file: its bare name.
    :param directory: descriptor of the directory of the info files.
    :param algorithm: whose checksum.
    :return: unix seconds; None where it holds anything else, or cannot be read.
    """
    try:
        found = _ONE_CHECKSUM[algorithm].fullmatch(_read(file, directory))
    except (OSError, ValueError):
        return None
    return None if found is None else float(found[1])


def read_precached_at(file: str, directory: int | None) -> float | None:
    """Read when an image was last pre-cached. Most info files do not say it, and are not parsed.

    :param file: the bare name of its info file.
    :param directory: what :func:`info_directory` gives.
    :return: unix seconds; None where it does not say it, or cannot be read.
    """
    if directory is None:
        return None
    try:
        data = _read(file, directory)
        fields = json.loads(data) if _PRECACHED_AT in data else {}
        value = fields.get(PRECACHED_AT)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
    except (OSError, ValueError, OverflowError, RecursionError, AttributeError):
        return None


def remove_info(file: str, directory: int | None) -> None:
    """Remove an info file, if it is there; the parameters are those of :func:`read_info`.

    :raises OSError: it cannot be removed.
    """
    if directory is None:
        return
    with suppress(FileNotFoundError):
        os.unlink(file, dir_fd=directory)


def read_legacy_sha1_file(name: str, cache: int) -> str | None:
    """Read the checksum that Essex left beside a base file.

    :param name: the base file's name.
    :param cache: descriptor of the cache directory.
    :return: its text; None where there is no such file, or nothing of a checksum's size.
    :raises OSError: it is there and cannot be read.
    """
    try:
        return _read(name + _ESSEX_SUFFIX, cache).decode().strip()
    except (FileNotFoundError, ValueError):
        return None


def remove_essex_checksum(name: str, cache: int) -> None:
    """Remove what Essex left, once the info file has it; the parameters are those of :func:`read_legacy_sha1_file`.

    :raises OSError: it cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(name + _ESSEX_SUFFIX, dir_fd=cache)


def save_info(
    pattern: str, name: str, facts: Mapping[str, Any], *, directory: int | None, locks: int, keep_lock_file: bool
) -> None:
    """Put facts into a base file's info file, under nova's lock, and keep what else it holds.

    Whatever happens, the file that was there or the new one is there, whole.

    :param pattern: ``image_info_filename_pattern``, as :func:`names.info_path` takes it.
    :param name: the base file's name.
    :param facts: the fields to set.
    :param directory: what :func:`info_directory` gives.
    :param locks: descriptor of the lock files' directory.
    :param keep_lock_file: leave the lock file, because other hosts may wait on it.
    :raises ImageCacheError: something is in the way that is no info file, or the lock cannot be had.
    :raises OSError: it cannot be written.
    """
    path = info_path(pattern, name)
    if not is_valid_info_file(pattern, path):
        raise ImageCacheError(f"{printable(path)} is no info file of a base file. Correct image_info_filename_pattern")
    if directory is None:
        raise ImageCacheError(_no_directory(path))
    try:
        lock = acquire(locks, info_lock_name(name), _LOCK_WAIT_SECONDS)
    except OSError as exc:
        raise ImageCacheError(f"its lock {info_lock_name(name)} cannot be used: {reason_and_remedy(exc)}") from exc
    if lock is None:
        raise ImageCacheError(held_lock(info_lock_name(name)))
    try:
        fields = {**read_info(os.path.basename(path), directory).fields, **facts}
        try:
            text = json.dumps(fields)
        except RecursionError as exc:
            raise ImageCacheError(
                f"{printable(path)} has fields that are nested too deep to be kept. Remove {printable(path)}"
            ) from exc
        _replace(directory, path, text)
    finally:
        release(lock, remove_file=not keep_lock_file)


def why_info_cannot_be_saved(pattern: str, name: str, directory: int | None) -> str:
    """Say why :func:`save_info` would fail, found without trying, so that a dry run knows it too.

    The parameters are those of :func:`save_info`. Locks are the caller's to look at.

    :return: the reason, empty where there is none.
    :raises OSError: the kernel does not answer.
    """
    path = info_path(pattern, name)
    if directory is None:
        return _no_directory(path)
    return _why_fixed(path, directory)


def why_essex_checksum_cannot_be_removed(name: str, cache_path: str, cache: int) -> str:
    """Say why :func:`remove_essex_checksum` would fail, found without trying, so that a dry run knows it too.

    :param name: the base file's name.
    :param cache_path: the cache directory.
    :param cache: descriptor of it.
    :return: the reason, empty where there is none.
    :raises OSError: the kernel does not answer.
    """
    return _why_fixed(os.path.join(cache_path, name + _ESSEX_SUFFIX), cache)


def _why_fixed(path: str, directory: int) -> str:
    """Say why a file that may be there cannot be replaced or removed."""
    folder, name = printable(os.path.dirname(path)), os.path.basename(path)
    if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        return f"{folder} is on a read-only mount. Mount it for writing (mount -o remount,rw)"
    if is_protected_by_flags(directory):
        return _flagged(folder)
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=directory):
        return f"{folder} may not be written by this user. {remedy_for_rights()}"
    try:
        # Attributes can be read of a regular file's descriptor only.
        old = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISREG(old.st_mode):
            return _not_regular(path)
        if is_others_in_sticky_directory(old, os.fstat(directory)):
            return f"{printable(path)} belongs to another user, and its directory is sticky. {AS_ROOT}"
        descriptor = os.open(name, FILE_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return ""
    try:
        is_flagged = is_protected_by_flags(descriptor)
    finally:
        os.close(descriptor)
    return _flagged(printable(path)) if is_flagged else ""


def _no_directory(path: str) -> str:
    return f"there is no directory {printable(os.path.dirname(path))}. Make it, or correct image_info_filename_pattern"


def _not_regular(path: str) -> str:
    return f"{printable(path)} is not a regular file and is left alone. Look at it (ls -ld), and move it away (mv)"


def _flagged(path: str) -> str:
    return f"{path} has the attribute immutable or append-only. Remove it with chattr -i -a {path}"


def _replace(directory: int, path: str, text: str) -> None:
    """Write a file under another name, on disk for good, before it takes the name of the old one."""
    name = os.path.basename(path)
    # Of a pass that was killed while it wrote: the lock says that nobody writes now.
    draft = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=directory)
    model = _intended_ownership(directory, name, path)
    descriptor = os.open(draft, _NEW_FLAGS, _MODE, dir_fd=directory)
    try:
        try:
            _apply_ownership(descriptor, model)
            data = text.encode("ascii")
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft, dir_fd=directory)
        raise
    os.fsync(directory)


class _Model(NamedTuple):
    uid: int
    gid: int
    mode: int


def _intended_ownership(directory: int, name: str, path: str) -> _Model:
    """Say what a new info file looks like: as the old one, or else as nova's own."""
    try:
        old = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        owner = os.fstat(directory)
        return _Model(owner.st_uid, owner.st_gid, _MODE)
    if not stat.S_ISREG(old.st_mode):
        raise ImageCacheError(_not_regular(path))
    return _Model(old.st_uid, old.st_gid, old.st_mode & 0o777)


def _apply_ownership(descriptor: int, model: _Model) -> None:
    os.fchmod(descriptor, model.mode)
    # Only root can give a file away; another user's info file serves too while nova can read it.
    with suppress(PermissionError):
        os.fchown(descriptor, model.uid, model.gid)


def _read(name: str, directory: int) -> bytes:
    """Read a small file; see :func:`files.read_small_file`, but that a link is a ValueError as well."""
    try:
        return read_small_file(name, _SIZE_LIMIT, FILE_FLAGS, directory)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise ValueError("it is a link") from exc
        raise
