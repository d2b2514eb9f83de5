# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which source a base file is restored from, and what proves its bytes. Where nothing does, it is refused."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Mapping, NamedTuple, Sequence

from ..errors import RefusalError, or_as_root, remedy_for_rights
from ..hashing import RateLimiter, read_digests
from ..inspection import Inspection
from ..names import Kind, lock_name, parse_name
from ..obstacles import can_create_owned_by_nova
from ..open_files import Inode
from ..text import printable, some_names
from .brought import open_brought_file, require_recorded_size
from .candidates import Candidate, State, labels
from .disks import is_self_contained, made_at, read_content
from .novas_lock import why_lock_is_unusable
from .place import is_same_content
from .proof import Content, OpenFile, Proof, guests_of, why_unfit
from .records import KEPT_FORMATS, ImageRecord, why_not_usable
from .saving import read_digests_of
from .sources import open_again

if TYPE_CHECKING:
    from .glance import Glance
    from .peers import PeerFile, Peers

__all__ = ["Chooser", "Given", "Source", "becomes_raw"]

_FIND_RIGHT = (
    "Compare both with Glance's record (openstack image show), and look where the one that is known here comes from: "
    "images, known_checksums or the info file."
)


class Given(NamedTuple):
    """What an operator gave, by the name of the base file.

    :param files: the path of a file that has its bytes.
    :param records: Glance's record of its image.
    :param known: the checksum that it must have, algorithm and value.
    :param unproven: the names for which the operator's word counts.
    :param glance: where Glance is; None where it is not to be asked.
    :param qemu_img: the command that stands for ``qemu-img``; None for that.
    :param peers: what other hosts have; None where none is to be asked.
    """

    files: Mapping[str, str]
    records: Mapping[str, ImageRecord]
    known: Mapping[str, tuple[str, str]]
    unproven: frozenset[str]
    glance: Glance | None = None
    qemu_img: str | None = None
    peers: Peers | None = None


class Source(NamedTuple):
    """A source that was chosen.

    :param kind: ``process``, ``file``, ``glance`` or ``peer``.
    :param path: where a person finds it.
    :param descriptor: the file, open for reading.
    :param proof: what it proves.
    :param guests: the directories of the instances that have it open.
    :param expected: the checksums that its bytes must have, by algorithm.
    """

    kind: str
    path: str
    descriptor: int
    proof: Proof
    guests: tuple[str, ...]
    expected: Mapping[str, str]


class Chooser:
    """Chooses sources for the files of one cache.

    :param inspection: the pass.
    :param given: what an operator gave.
    :param cache: descriptor of the cache directory.
    """

    def __init__(self, inspection: Inspection, given: Given, cache: int) -> None:
        self._settings, self._snapshot, self._plan = inspection[:3]
        self._given = given
        self._cache = cache

    def require_possible(self, candidate: Candidate) -> None:
        """Refuse what is known beforehand to fail, or is not certain."""
        if not candidate.is_base_file:
            raise RefusalError(
                f"It is not a base file of the cache. Restore it from a backup (cp --sparse=always), or mount what "
                f"{printable(os.path.dirname(candidate.name))} is to lead to (mount)."
            )
        obstacles, locks_path = self._snapshot.obstacles, printable(self._settings.locks_path)
        if obstacles.everything:
            raise RefusalError(obstacles.everything)
        if not can_create_owned_by_nova(self._settings.cache_path):
            raise RefusalError(
                f"This user may make no file in {printable(self._settings.cache_path)} for nova. {remedy_for_rights()}."
            )
        if obstacles.new_locks and lock_name(candidate.name) not in obstacles.lock_files:
            raise RefusalError(
                f"nova's lock file for it does not exist in {locks_path}, and cannot be made. Look at that directory "
                f"(ls -ld, lsattr -d) and at its file system (df)."
            )
        unusable = why_lock_is_unusable(self._settings, candidate.name)
        if unusable:
            raise RefusalError(unusable)
        if candidate.inode is None:
            self._require_free_name(candidate.name)
        if candidate.state is not State.MISSING and self._snapshot.problems:
            raise RefusalError(
                f"It has a file of that name now, and it is not certain which disks need that. "
                f"{self._snapshot.problems[0]}"
            )

    def _require_free_name(self, name: str) -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(name, dir_fd=self._cache, follow_symlinks=False).st_mode):
                raise RefusalError(
                    "What has its name is not a regular file. Look at it (ls -l), and move it away (mv)."
                )

    def is_for_glance(self, candidate: Candidate) -> bool:
        """Tell whether a file comes from Glance: where it is an image's, and nearer sources have nothing of it."""
        is_image = candidate.is_base_file and parse_name(candidate.name).kind is Kind.ORIGINAL
        return self._given.glance is not None and is_image and not self._is_near(candidate)

    def is_for_peers(self, candidate: Candidate) -> bool:
        """Tell whether a file comes from other hosts: where they have it, and nearer sources have nothing of it."""
        peers = self._given.peers
        return peers is not None and candidate.name in peers.files and not self._is_near(candidate)

    def _is_near(self, candidate: Candidate) -> bool:
        return bool(candidate.proven) or candidate.name in self._given.files

    def provable_record(self, candidate: Candidate) -> ImageRecord:
        """Return the record of an image that nova caches as Glance serves it, or converted to raw; refuse any other."""
        record = self._given.records.get(candidate.name)
        is_converted = record is not None and becomes_raw(record, candidate)
        reason = why_not_usable(record) if record is not None and is_converted else _why_no_proof(record, candidate)
        if record is None or reason or record.size_bytes is None:
            reason = reason or "by Glance's record the image has no size"
            raise RefusalError(
                f"No process of a guest on this host has it open, and nothing would prove what Glance sends: {reason}. "
                f"Set images: [Glance's record of it], or copy the base file to this host and set files: {{image id: "
                f"path}}."
            )
        return record

    def require_size_fits(self, candidate: Candidate, record: ImageRecord) -> None:
        """Refuse an image that cannot fit what is built on it, as far as its record says it."""
        size = int(record.size_bytes or 0)
        if becomes_raw(record, candidate):
            virtual = record.virtual_bytes or 0
            content = Content("raw", virtual, virtual)
        elif record.disk_format == "qcow2":
            content = Content("qcow2", size, 0)  # the size of the image in it is known when it is here
        else:
            content = Content("raw", size, size)
        reason = why_unfit(content, candidate.overlays, is_image=True)
        if reason:
            raise RefusalError(
                f"The image {printable(record.image_id)} does not fit what is built on it: {reason}. Look at both "
                f"(openstack image show, qemu-img info -U)."
            )

    def require_size_of_peers_fits(self, candidate: Candidate, file: PeerFile) -> None:
        """Refuse a file of other hosts that cannot fit what is built on it, by its size."""
        size = file.size_bytes
        # The size of the image in a qcow2 file is known when it is here.
        content = Content("qcow2", size, 0) if _wants_qcow2(candidate) else Content("raw", size, size)
        reason = why_unfit(content, candidate.overlays, is_image=True)
        if reason:
            raise RefusalError(
                f"The file that other hosts have does not fit what is built on it: {reason}. Look at both (qemu-img "
                f"info -U)."
            )

    def checksums_with(self, candidate: Candidate, file: PeerFile) -> Mapping[str, str]:
        """Return the checksums that a file of other hosts must have: what they agree on, and what is known here."""
        known = self.known_checksums(candidate)
        if known.get(file.algorithm, file.checksum) != file.checksum:
            raise RefusalError(
                f"The {file.algorithm} that other hosts agree on is {file.checksum}, and here it is known as "
                f"{known[file.algorithm]}. {_FIND_RIGHT}"
            )
        return {**known, file.algorithm: file.checksum}

    def generations(self, candidate: Candidate, closing: ExitStack) -> list[list[OpenFile]]:
        """Sort the files that guests certainly have open by their content.

        :param closing: closes them.
        """
        if candidate.proven and candidate.rejected_guest and not self.known_checksums(candidate):
            file, reason = candidate.rejected_guest
            guests = some_names(labels(self._plan, guests_of(file, candidate.overlays)))
            raise RefusalError(
                f"Process {file.process} of {guests} has another file of that name open than other guests, and it "
                f"proves nothing: {reason}. So none of them can get the name. Make the disks of {guests} independent "
                f"of it with virsh blockpull, and run it again."
            )
        by_inode: dict[Inode, list[OpenFile]] = {}
        for file in candidate.proven:
            by_inode.setdefault(file.inode, []).append(file)
        generations: list[tuple[int, list[OpenFile]]] = []
        for files in by_inode.values():
            descriptor = open_again(files[0].descriptor)
            closing.callback(os.close, descriptor)
            for first, same in generations:
                if is_same_content(first, descriptor):
                    same.extend(files)
                    break
            else:
                generations.append((descriptor, files))
        return [files for _descriptor, files in generations]

    def choose(self, candidate: Candidate, files: Sequence[OpenFile], closing: ExitStack) -> Source:
        """Choose the source on this host that proves most.

        :param files: the files that guests certainly have open, of one content; empty for none.
        :param closing: closes the source.
        """
        if files:
            return self._choose_process(candidate, files, closing)
        if candidate.name in self._given.files:
            return self._open_given_file(candidate, closing)
        if candidate.rejected:
            file, reason = candidate.rejected[0]
            raise RefusalError(
                f"Process {file.process} has a deleted file open that may be it, but that proves nothing: {reason}. "
                f"Look at the process (ls -l /proc/{file.process}/exe {file.path})."
            )
        if parse_name(candidate.name).kind is Kind.ORIGINAL:
            raise RefusalError(
                f"No process of a guest on this host has it open. Copy the image to this host, and set files: "
                f"{{image id: path}} and images: [Glance's record of it]{or_as_root()}."
            )
        raise RefusalError(
            f"No process of a guest on this host has it open, and it cannot be made of the image. Restore it from a "
            f"backup (cp --sparse=always){or_as_root()}."
        )

    def _choose_process(self, candidate: Candidate, files: Sequence[OpenFile], closing: ExitStack) -> Source:
        has_later_disk = self._has_later_disk(candidate, files)
        descriptor = open_again(files[0].descriptor)
        closing.callback(os.close, descriptor)
        expected = self.known_checksums(candidate)
        is_uncertain = has_later_disk or (not expected and self._is_named_by_few(candidate, files))
        proof = Proof.PROCESS_AND_CHECKSUM if expected else Proof.UNPROVEN if is_uncertain else Proof.PROCESS
        return Source("process", files[0].path, descriptor, proof, candidate.guests, expected)

    def _has_later_disk(self, candidate: Candidate, files: Sequence[OpenFile]) -> bool:
        """Tell whether a disk was made after a template lost its name: it is built on a later one. Refuse it then."""
        if candidate.inode is not None or parse_name(candidate.name).kind not in (Kind.SWAP, Kind.EPHEMERAL):
            return False
        lost_at = max(os.fstat(file.descriptor).st_ctime_ns for file in files)
        earlier = {each.instance for each in candidate.overlays if (made_at(each.disk) or 0) <= lost_at}
        later = {each.instance for each in candidate.overlays} - earlier - set(candidate.guests)
        if later and candidate.name not in self._given.unproven:
            guests = some_names(labels(self._plan, candidate.guests))
            raise RefusalError(
                f"The disks of {some_names(labels(self._plan, later))} were made after the file of {guests} had lost "
                f"its name, so they are built on a later one with other bytes. Make the disks of {guests} independent "
                f"of it with virsh blockpull. Or, if no later one was made, set unproven: [{candidate.name}]."
            )
        return bool(later)

    def _is_named_by_few(self, candidate: Candidate, files: Sequence[OpenFile]) -> bool:
        """Tell whether nothing but disks of some instances shows a file's name, and others need it. Refuse it then.

        A QEMU that its guest has taken over can name any base file in the header of its own disk.
        """
        others = set(candidate.instances) - set(labels(self._plan, candidate.guests))
        if not others or not all(file.is_renamed for file in files):
            return False
        if candidate.name not in self._given.unproven:
            guests = some_names(labels(self._plan, candidate.guests))
            raise RefusalError(
                f"NFS renamed the file that the processes of {guests} have open, and nothing shows that the disks of "
                f"{some_names(sorted(others))} are built on the same one. Set known_checksums: {{image id: its "
                f"checksum}}. Or, if all are built on it, set unproven: [{candidate.name}]."
            )
        return True

    def _open_given_file(self, candidate: Candidate, closing: ExitStack) -> Source:
        path = self._given.files[candidate.name]
        record = self._given.records.get(candidate.name)
        reason = _why_no_proof(record, candidate)
        if reason and candidate.name not in self._given.unproven:
            raise RefusalError(
                f"Nothing proves that {printable(path)} has its bytes: {reason}. Set images: [Glance's record of it]. "
                f"Or, if you are certain, set unproven: [{candidate.name}]."
            )
        descriptor = open_brought_file(path, closing)
        if reason or record is None:
            return Source("file", path, descriptor, Proof.UNPROVEN, (), self.known_checksums(candidate))
        require_recorded_size(path, descriptor, record)
        expected = {str(record.algorithm): str(record.checksum)}
        return Source("file", path, descriptor, Proof.CHECKSUM, (), expected)

    def known_checksums(self, candidate: Candidate) -> Mapping[str, str]:
        """Return the checksums that a base file must have: the image's own, or else those that were saved."""
        name = candidate.name
        record = self._given.records.get(name)
        if record is not None and not _why_no_proof(record, candidate):
            return {str(record.algorithm): str(record.checksum)}
        if name in self._given.known:
            algorithm, value = self._given.known[name]
            return {algorithm: value}
        return read_digests_of(self._settings, self._cache, name)

    def require_fit(self, candidate: Candidate, source: Source, descriptor: int) -> None:
        content = read_content(descriptor)
        reason = why_unfit(content, candidate.overlays, is_image=source.kind != "process")
        if not reason and source.kind != "process" and content.format == "qcow2" and _wants_qcow2(candidate):
            reason = "" if is_self_contained(descriptor) else "it needs other files, or is encrypted"
        if not reason and source.kind == "file" and source.proof is Proof.UNPROVEN and not source.expected:
            reason = self._why_cut(content.size_bytes, candidate)
        if reason:
            raise RefusalError(
                f"{printable(source.path)} does not fit what is built on it: {reason}. Look at both (qemu-img info -U)."
            )

    def _why_cut(self, size_bytes: int, candidate: Candidate) -> str:
        """Say why a file is not a whole copy of what a guest has open, although nothing proves that file.

        NFS hides the names of removed files, so that the guest's other base files may be among those that it has open.
        """
        opened = [(file, guests_of(file, candidate.overlays)) for file, _reason in candidate.rejected]
        smallest = min(((file.size_bytes, file.path, guests) for file, guests in opened if guests), default=None)
        if smallest is None or size_bytes >= smallest[0]:
            return ""
        names = some_names(labels(self._plan, smallest[2]))
        return f"it has {size_bytes} bytes, and {smallest[1]}, which is open in the QEMU of {names}, has {smallest[0]}"

    def is_one_generation(self, candidate: Candidate, source: Source) -> bool:
        """Tell whether no disk can be built on the file that has the name now, and refuse where none may be."""
        users = {*self._snapshot.backing.get(candidate.name, ()), *(each.instance for each in candidate.overlays)}
        others = users - set(source.guests)
        if others and candidate.name not in self._given.unproven:
            guests = some_names(labels(self._plan, source.guests))
            raise RefusalError(
                f"It is not certain which file the disks of {some_names(labels(self._plan, others))} are built on, "
                f"the one that has the name now or the former one of {guests}. Make the disks of {guests} independent "
                f"of the former one with virsh blockpull. Or, if all are built on the former one, set unproven: "
                f"[{candidate.name}]."
            )
        return not others

    def require_checksums(self, name: str, source: Source, descriptor: int, *also: str) -> dict[str, str]:
        """Compare a file with the checksums that it must have, and return what it has.

        A checksum that was saved of a worse file would call it corrupt, so it is taken as well.

        :param also: other algorithms, by which it is taken in any case.
        """
        if not source.expected and not also:
            return {}
        os.lseek(descriptor, 0, os.SEEK_SET)
        algorithms = dict.fromkeys([*also, *source.expected, *read_digests_of(self._settings, self._cache, name)])
        digests = read_digests(descriptor, algorithms, RateLimiter()) or {}
        for algorithm, value in source.expected.items():
            if digests[algorithm] != value and source.kind == "glance":  # what Glance sent was right
                raise RefusalError(
                    f"Converted to raw, the image has the {algorithm} {digests[algorithm]}, and that of the base file "
                    f"was {value}. Look at the image (openstack image show), and where the other one comes from "
                    f"(known_checksums, the info file)."
                )
            if digests[algorithm] != value and source.kind == "peer":  # what it sent was what other hosts agree on
                raise RefusalError(
                    f"The {algorithm} of {printable(source.path)} is {digests[algorithm]}, and here it is known as "
                    f"{value}. {_FIND_RIGHT}"
                )
            if digests[algorithm] != value:
                raise RefusalError(
                    f"The {algorithm} of {printable(source.path)} is {digests[algorithm]} and not {value}. Compare it "
                    f"with Glance's record (openstack image show), and set files: {{image id: path of the right one}}."
                )
        return digests


def becomes_raw(record: ImageRecord, candidate: Candidate) -> bool:
    """Tell whether nova made the base file of a qcow2 image by converting it: disks that are there show it."""
    return record.disk_format == "qcow2" and bool(candidate.overlays) and not _wants_qcow2(candidate)


def _wants_qcow2(candidate: Candidate) -> bool:
    return any(each.backing_format == "qcow2" for each in candidate.overlays)


def _is_kept_qcow2(image_format: str, candidate: Candidate) -> bool:
    """Tell whether nova has kept an image as it is, because it converts none (``force_raw_images = false``)."""
    return image_format == "qcow2" and _wants_qcow2(candidate)


def _why_no_proof(record: ImageRecord | None, candidate: Candidate) -> str:
    """Say why Glance's checksum of an image is not that of its base file."""
    if record is None:
        return "there is no record of the image"
    image_format = record.disk_format
    if image_format is None:
        return "by Glance's record the image has no disk_format, so nova may have converted it"
    if image_format not in KEPT_FORMATS and not _is_kept_qcow2(image_format, candidate):
        return f"nova converts images of the format {printable(image_format)}, and the base file has another checksum"
    return why_not_usable(record)
