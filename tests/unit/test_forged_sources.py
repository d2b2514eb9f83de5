# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any local user can make a descriptor that looks like a deleted base file: each forgery proves nothing.

Each is a real process. Without the guard that finds it out, the forgery is believed, or found out by a later guard.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch import proof, sources
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.module import FetchResult
from ansible_collections.stackops.nova.plugins.module_utils.image_cache.fetch.sources import _Process
from ansible_collections.stackops.nova.tests.support.constants import BASE, OTHER_BASE, OTHER_UUID, UUID
from ansible_collections.stackops.nova.tests.support.editing import edited
from ansible_collections.stackops.nova.tests.support.guests import renamed_by_nfs
from ansible_collections.stackops.nova.tests.support.host import Host, create_image
from ansible_collections.stackops.nova.tests.support.processes import NOBODY, in_a_child, needs_root, shell

pytestmark = [needs_root, pytest.mark.usefixtures("time_limit")]

SIZE = 1 << 20


def lost_file(host: Host) -> tuple[Path, Path]:
    """A disk whose base file a forgery is to put in place: the disk, and where the base file is to be."""
    base = host.base(BASE, size=SIZE)
    (host.instances_path / UUID).mkdir()
    disk = create_image(host.instances_path / UUID / "disk", over=base, over_format="raw")
    base.unlink()
    return disk, base


def evil_directory(host: Host, owner: int = 0) -> Path:
    """A directory on the cache's own file system, with a file of the base file's name, all of one user."""
    directory = host.root / "evil"
    directory.mkdir()
    (directory / BASE).write_bytes(b"evil".ljust(SIZE, b"\0"))
    for path in (directory / BASE, directory):
        os.chown(path, owner, owner)
    return directory


def user_namespace(host: Host) -> AbstractContextManager[None]:
    """A user without rights mounts a directory of their own over the cache, and one over the instance."""
    _disk, base = lost_file(host)
    evil = evil_directory(host, NOBODY)
    (evil / "disk").write_bytes(b"")
    os.chown(evil / "disk", NOBODY, NOBODY)
    script = """
        mount --bind "$1" "$2"
        exec 3<"$2/$3" 4<>"$2/disk"
        rm "$2/$3"
    """
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "unshare", "-Urm")
    return shell(script, evil, host.cache_path, base.name, prefix=prefix)


def right_user_without_a_disk(host: Host) -> AbstractContextManager[None]:
    _disk, base = lost_file(host)
    base.write_bytes(bytes(SIZE))
    return shell('exec 3<"$1"; rm "$1"', base)


def disk_open_for_reading_only(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    base.write_bytes(bytes(SIZE))
    return shell('exec 3<"$1" 4<"$2"; rm "$1"', base, disk)


def disk_that_names_another_file(host: Host) -> AbstractContextManager[None]:
    _disk, base = lost_file(host)
    base.write_bytes(bytes(SIZE))
    (host.instances_path / OTHER_UUID).mkdir()
    other = create_image(
        host.instances_path / OTHER_UUID / "disk", over=host.base(OTHER_BASE, size=SIZE), over_format="raw"
    )
    return shell('exec 3<"$1" 4<>"$2"; rm "$1"', base, other)


def fifo(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    os.mkfifo(base)
    return shell('exec 3<>"$1" 4<>"$2"; rm "$1"', base, disk)


def device(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    os.mknod(base, 0o20666, os.makedev(1, 5))  # /dev/zero
    return shell('exec 3<"$1" 4<>"$2"; rm "$1"', base, disk)


def other_file_system(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    script = """
        mount -t tmpfs tmpfs "$1"
        head -c 1048576 /dev/zero >"$1/$2"
        exec 3<"$1/$2" 4<>"$3"
        rm "$1/$2"
    """
    return shell(script, host.cache_path, base.name, disk, prefix=("unshare", "-m"))


def file_with_another_name(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    base.write_bytes(bytes(SIZE))
    os.link(base, host.root / "elsewhere")
    return shell('exec 3<"$1" 4<>"$2"; rm "$1"', base, disk)


def name_that_says_deleted(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    path = base.with_name(f"{BASE} (deleted)")
    path.write_bytes(bytes(SIZE))
    return shell('exec 3<"$1" 4<>"$2"', path, disk)


def file_of_another_user(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    base.write_bytes(bytes(SIZE))
    os.chown(base, NOBODY, NOBODY)
    return shell('exec 3<"$1" 4<>"$2"; rm "$1"', base, disk)


def process_of_two_users(host: Host) -> AbstractContextManager[None]:
    """As a program with the set-user-id bit is: its real user is not its effective one."""
    disk, base = lost_file(host)
    base.write_bytes(bytes(SIZE))
    return shell('exec 3<"$1" 4<>"$2"; rm "$1"', base, disk, prefix=("setpriv", f"--ruid={NOBODY}"))


def renamed_file(host: Host) -> tuple[Path, Path]:
    """A disk, and what NFS made of a file that has lost its name. Which one it was is what a forgery lies about."""
    disk, base = lost_file(host)
    base.write_bytes(b"evil".ljust(SIZE, b"\0"))
    return disk, renamed_by_nfs(base)


def renamed_file_of_another_directory(host: Host) -> AbstractContextManager[None]:
    """A guest that has taken over its QEMU may have a file of its own of a name that NFS gave in the cache."""
    disk, renamed = renamed_file(host)
    evil = evil_directory(host)
    (evil / BASE).rename(evil / renamed.name)
    script = 'mount --bind "$1" "$2"; exec 3<"$2/$3" 4<>"$4"'
    return shell(script, evil, host.cache_path, renamed.name, disk, prefix=("unshare", "-m"))


def renamed_file_without_a_disk(host: Host) -> AbstractContextManager[None]:
    _disk, renamed = renamed_file(host)
    return shell('exec 3<"$1"', renamed)


def renamed_file_and_a_disk_for_reading_only(host: Host) -> AbstractContextManager[None]:
    disk, renamed = renamed_file(host)
    return shell('exec 3<"$1" 4<"$2"', renamed, disk)


def renamed_file_and_the_disk_of_another_user(host: Host) -> AbstractContextManager[None]:
    disk, renamed = renamed_file(host)
    disk.chmod(0o666)
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return shell('exec 3<"$1" 4<>"$2"', renamed, disk, prefix=prefix)


def renamed_file_that_is_a_fifo(host: Host) -> AbstractContextManager[None]:
    disk, base = lost_file(host)
    os.mkfifo(base)
    return shell('exec 3<>"$1" 4<>"$2"', renamed_by_nfs(base), disk)


def renamed_file_with_another_name(host: Host) -> AbstractContextManager[None]:
    disk, renamed = renamed_file(host)
    os.link(renamed, host.root / "elsewhere")
    return shell('exec 3<"$1" 4<>"$2"', renamed, disk)


def renamed_file_of_another_user(host: Host) -> AbstractContextManager[None]:
    disk, renamed = renamed_file(host)
    os.chown(renamed, NOBODY, NOBODY)
    return shell('exec 3<"$1" 4<>"$2"', renamed, disk)


def renamed_file_that_is_written(host: Host) -> AbstractContextManager[None]:
    disk, renamed = renamed_file(host)
    return shell('exec 3<>"$1" 4<>"$2"', renamed, disk)


def two_renamed_files(host: Host) -> AbstractContextManager[None]:
    disk, renamed = renamed_file(host)
    second = renamed_by_nfs(host.base(OTHER_BASE, size=SIZE), 2)
    return shell('exec 3<"$1" 4<"$2" 5<>"$3"', renamed, second, disk)


def two_missing_files(host: Host) -> AbstractContextManager[None]:
    """The first one was deleted by another host, and its name is all that the second guest's disk shows."""
    disk, renamed = renamed_file(host)
    (host.instances_path / OTHER_UUID).mkdir()
    other = host.base(OTHER_BASE, size=SIZE)
    second = create_image(host.instances_path / OTHER_UUID / "disk", over=other, over_format="raw")
    other.unlink()
    return shell('exec 3<"$1" 4<>"$2" 5<>"$3"', renamed, disk, second)


def edit_proof(old: str, new: str) -> Callable[[], None]:
    return edited(proof.why_not_a_guests, old, new)


# Each forgery, why it is refused, and what makes the guard say nothing.
FORGERIES = [
    (user_namespace, "runs as a user", edit_proof("if len(file.users) != 1 or", "if False and")),
    (process_of_two_users, "runs as a user", edit_proof("if len(file.users) != 1 or", "if False and")),
    (right_user_without_a_disk, "no disk open for writing", edit_proof("if not guests_of(file, overlays)", "if False")),
    (
        disk_open_for_reading_only,
        "no disk open for writing",
        edited(_Process.may_write, "return int", "return 1 or int"),
    ),
    (
        disk_that_names_another_file,
        "no disk open for writing",
        edit_proof("if not guests_of(file, overlays)", "if False"),
    ),
    (fifo, "not a regular file", edit_proof("if not stat.S_ISREG(file.mode)", "if False")),
    (device, "not a regular file", edit_proof("if not stat.S_ISREG(file.mode)", "if False")),
    (other_file_system, "another file system", edit_proof("if file.inode[0] != cache.device", "if False")),
    (
        file_with_another_name,
        "still has a name",
        edit_proof("if file.links > (1 if file.is_renamed else 0)", "if False"),
    ),
    (
        name_that_says_deleted,
        "still has a name",
        edit_proof("if file.links > (1 if file.is_renamed else 0)", "if False"),
    ),
    (
        file_of_another_user,
        "belongs neither",
        edit_proof("if file.owner not in (cache.owner, *file.users)", "if False"),
    ),
]
# As FORGERIES. What only NFS's own name belies says nothing of the base file, so its process is not named.
_NOBODY_HAS_IT = "No process of a guest"
RENAMED_FORGERIES = [
    (
        renamed_file_of_another_directory,
        _NOBODY_HAS_IT,
        edited(sources.former_files_of, "if is_renamed and inode != renamed[name]", "if False"),
    ),
    (renamed_file_without_a_disk, _NOBODY_HAS_IT, edited(proof.former_names, "and guests_of(file, some)", "")),
    (
        renamed_file_and_a_disk_for_reading_only,
        _NOBODY_HAS_IT,
        edited(proof.former_names, "and guests_of(file, some)", ""),
    ),
    (
        renamed_file_and_the_disk_of_another_user,
        _NOBODY_HAS_IT,
        edited(proof.guests_of, "and file.users == {each.owner}", ""),
    ),
    (renamed_file_that_is_a_fifo, "not a regular file", edit_proof("if not stat.S_ISREG(file.mode)", "if False")),
    (
        renamed_file_with_another_name,
        "still has a name",
        edit_proof("if file.links > (1 if file.is_renamed else 0)", "if False"),
    ),
    (
        renamed_file_of_another_user,
        "belongs neither",
        edit_proof("if file.owner not in (cache.owner, *file.users)", "if False"),
    ),
    (
        renamed_file_that_is_written,
        "open for writing, and a guest only reads",
        edit_proof("if file.is_renamed and file.inode in file.written", "if False"),
    ),
    (
        two_renamed_files,
        "it has 2 files open that NFS renamed",
        edited(proof.why_ambiguous, "if len(renamed) > 1", "if False"),
    ),
    (two_missing_files, "may be any of 2 that", edited(proof.why_ambiguous, "if len(names) > 1", "if False")),
]
CASES = pytest.mark.parametrize(
    ("forge", "reason", "without_guard"),
    [*FORGERIES, *RENAMED_FORGERIES],
    ids=[forgery.__name__ for forgery, _reason, _guard in [*FORGERIES, *RENAMED_FORGERIES]],
)


def restore(host: Host, without_guard: Callable[[], None] | None = None) -> FetchResult:
    if without_guard is None:
        return host.restore()

    def run() -> FetchResult:
        without_guard()
        return host.restore()

    return in_a_child(run)


@CASES
def test_forged_file_is_refused_and_the_process_named(
    public_host: Host,
    forge: Callable[[Host], AbstractContextManager[None]],
    reason: str,
    without_guard: Callable[[], None],  # noqa: ARG001
) -> None:
    with forge(public_host):
        dry = public_host.restore(check_mode=True)
        result = public_host.restore()
        audited = public_host.audit().facts["missing"]
    [refused] = [file for file in result.done["refused"] if file["name"] == BASE]
    assert reason in refused["reason"]
    assert reason == _NOBODY_HAS_IT or "Process " in refused["reason"]
    assert dry.done["refused"] == result.done["refused"]
    assert not result.changed
    assert not (public_host.cache_path / BASE).exists()
    assert {lost["recoverable_from"] for lost in audited} == {None}


@CASES
def test_forgery_without_its_guard_is_not_refused_for_that_reason(
    public_host: Host,
    forge: Callable[[Host], AbstractContextManager[None]],
    reason: str,
    without_guard: Callable[[], None],
) -> None:
    with forge(public_host):
        result = restore(public_host, without_guard)
    assert reason not in json.dumps(result.done)


def test_word_of_the_operator_makes_no_forgery_believed(public_host: Host) -> None:
    with right_user_without_a_disk(public_host):
        result = public_host.restore(unproven=[BASE])
    assert len(result.done["refused"]) == 1


def test_guest_beside_a_forgery_is_believed(public_host: Host) -> None:
    disk, base = lost_file(public_host)
    base.write_bytes(b"true".ljust(SIZE, b"\0"))
    with shell('exec 3<"$1" 4<>"$2"; rm "$1"', base, disk):
        base.write_bytes(b"evil".ljust(SIZE, b"\0"))
        with shell('exec 3<"$1"; rm "$1"', base):
            assert len(public_host.restore().done["restored"]) == 1
    assert base.read_bytes().startswith(b"true")


def test_refusal_names_the_guest_that_has_an_unproven_file_open_as_one_not_to_stop(public_host: Host) -> None:
    with file_of_another_user(public_host):
        [refused] = public_host.restore().done["refused"]
    assert refused["reason"].endswith(f"Do not stop {UUID} before that.")


def test_refusal_names_no_guest_that_has_another_disk_open(public_host: Host) -> None:
    with disk_that_names_another_file(public_host):
        [refused] = public_host.restore().done["refused"]
    assert "Do not stop" not in refused["reason"]


def test_file_of_another_directory_is_none_of_the_cache(public_host: Host) -> None:
    """A guest that has taken over its QEMU names any base file in its own disk's header, and makes a file so called."""
    disk, base = lost_file(public_host)
    elsewhere = public_host.root / "_base"
    elsewhere.mkdir()
    script = 'head -c 1048576 /dev/zero >"$1/$2"; exec 3<"$1/$2" 4<>"$3"; rm "$1/$2"; rmdir "$1"'
    with shell(script, elsewhere, base.name, disk):
        result = public_host.restore()
    assert "No process of a guest" in result.done["refused"][0]["reason"]
    assert not base.exists()
