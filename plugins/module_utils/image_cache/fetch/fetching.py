# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One image from its source to its name in the cache, or in a dry run as far as that can be known without writing.

Only what lacks an image imports this module, and all that it takes.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Mapping, NamedTuple, cast

from ..errors import ImageCacheError, RefusalError, merged
from ..hashing import RateLimiter, read_digests
from ..names import fingerprint
from ..settings import Settings
from ..text import printable
from .brought import open_brought_file, require_recorded_size
from .convert import make_raw, require_acceptable, require_raw
from .novas_lock import hold_novas_lock, why_lock_is_unusable
from .place import Draft, copy_bytes, finish, new_draft, publish
from .precaching import NO_QEMU_IMG, NO_SOURCE, Fetched, Policy, Source, cached_sizes, expected_bytes, look_at_space
from .proof import Proof
from .records import ImageRecord
from .saving import read_digests_of

if TYPE_CHECKING:
    from .glance import Glance
    from .peers import PeerFile, Peers

__all__ = ["Fetcher", "Placed"]


class Placed(NamedTuple):
    """An image that was put in place.

    :param fetched: what is said of it.
    :param digests: its checksums by algorithm.
    """

    fetched: Fetched
    digests: Mapping[str, str]


class _Arrived(NamedTuple):
    """A base file that was fetched and proven, before it has its name.

    :param source: where it came from, as :meth:`precaching.Source.kind` names it.
    :param path: where a person finds that.
    :param algorithm: of the checksum that is returned.
    :param known: the checksums that are known of it, by algorithm.
    """

    draft: Draft
    source: str
    path: str
    proof: Proof
    read_bytes: int
    algorithm: str
    known: Mapping[str, str]


class Fetcher:
    """Puts images of one source in one cache; the parameters are those of :class:`precaching.Precacher`."""

    def __init__(self, settings: Settings, cache: int, source: Source, policy: Policy) -> None:
        self._settings = settings
        self._cache = cache
        self._source = source
        self._policy = policy

    def expect(self, record: ImageRecord, closing: ExitStack) -> Fetched:
        """Look at an image's source and at obstacles, and write nothing.

        :param closing: closes what is opened.
        :return: what :meth:`fetch` would do.
        :raises RefusalError: it would not be put in place, on purpose.
        :raises OSError: the kernel does not answer.
        """
        name = fingerprint(record.image_id)
        self._require_lock(name)
        peers = self._source.file_of_peers(name)
        if peers is not None:
            return Fetched(
                record=record,
                source="peer",
                source_path=peers.peers[0].shown,
                contacted=False,
                proof=Proof.AGREED.value,
                read_bytes=peers.size_bytes,
                size_bytes=peers.size_bytes,
                allocated_bytes=peers.allocated_bytes,
                seconds=0.0,
                algorithm=peers.algorithm,
                checksum=peers.checksum,
            )
        path = self._source.files.get(name)
        if path is not None:
            self._require_checksum(record, self._open_file(record, path, closing), path)
        size, is_converted = record.size_bytes or 0, self._policy.converts(record)
        return Fetched(
            record=record,
            source=self._source.kind(name),
            source_path=self._glance_url(record) if path is None else path,
            contacted=path is not None,
            proof=Proof.CHECKSUM.value,
            read_bytes=size,
            size_bytes=(record.virtual_bytes or size) if is_converted else size,
            allocated_bytes=size,
            seconds=0.0,
            algorithm=str(record.algorithm),
            checksum=None if is_converted else record.checksum,
        )

    def fetch(self, record: ImageRecord, closing: ExitStack) -> Placed | None:
        """Put an image in place.

        :param closing: closes what is opened, and removes what got no name.
        :return: None where another file of its size has got its name meanwhile.
        :raises RefusalError: it is not put in place, on purpose.
        :raises ImageCacheError: it cannot be read, proven, converted or locked.
        :raises OSError: it cannot be written.
        """
        started = time.monotonic()
        name = fingerprint(record.image_id)
        self._require_lock(name)
        arrived = self._get(record, closing)
        draft = arrived.draft
        digests = self._digests(name, draft, arrived.known, arrived.algorithm)
        finish(draft, None)
        status = os.fstat(draft.descriptor)
        if not self._put_in_place(record, draft):
            return None
        fetched = Fetched(
            record=record,
            source=arrived.source,
            source_path=arrived.path,
            contacted=True,
            proof=arrived.proof.value,
            read_bytes=arrived.read_bytes,
            size_bytes=status.st_size,
            allocated_bytes=status.st_blocks * 512,
            seconds=time.monotonic() - started,
            algorithm=arrived.algorithm,
            checksum=digests[arrived.algorithm],
        )
        return Placed(fetched, digests)

    def _require_lock(self, name: str) -> None:
        unusable = why_lock_is_unusable(self._settings, name)
        if unusable:
            raise RefusalError(unusable)

    def _get(self, record: ImageRecord, closing: ExitStack) -> _Arrived:
        """Get an image's base file from its source; from Glance where other hosts have it and none has sent it."""
        peers = self._source.file_of_peers(fingerprint(record.image_id))
        if peers is None:
            return self._get_image(record, closing)
        try:
            with ExitStack() as attempt:
                arrived = self._get_from_peers(record, peers, attempt)
                closing.enter_context(attempt.pop_all())
                return arrived
        except ImageCacheError as exc:
            if self._source.glance is None:
                raise
            return self._get_image_after(exc, record, closing)

    def _get_image_after(self, failure: ImageCacheError, record: ImageRecord, closing: ExitStack) -> _Arrived:
        """Get an image from Glance that other hosts have not sent: more is written for it than was reckoned with."""
        try:
            self._require_space(sum(expected_bytes(record, self._policy)))
            return self._get_image(record, closing)
        except ImageCacheError as exc:
            raise merged([failure, exc]) from exc

    def _get_from_peers(self, record: ImageRecord, file: PeerFile, closing: ExitStack) -> _Arrived:
        """Get a base file that other hosts have, and look at it as at one that was made here."""
        # Here, so that a run without other hosts does not load what runs commands.
        from .peers import fetch_from_peers

        name = fingerprint(record.image_id)
        draft = closing.enter_context(new_draft(self._cache, name))
        transfer = fetch_from_peers(
            cast("Peers", self._source.peers),
            name,
            os.fstat(self._cache),
            draft.descriptor,
            self._source.rate_limiter,
            self._require_space,
        )
        known = {file.algorithm: file.checksum}
        if self._policy.converts(record):
            require_raw(draft.descriptor)
        else:
            require_acceptable(draft.descriptor, record)
            if file.algorithm != record.algorithm:
                _require_glances_checksum(record, draft.descriptor, transfer.peer.shown)
                known[str(record.algorithm)] = str(record.checksum)
        path = transfer.peer.shown
        return _Arrived(draft, "peer", path, Proof.AGREED, transfer.read_bytes, file.algorithm, known)

    def _get_image(self, record: ImageRecord, closing: ExitStack) -> _Arrived:
        """Get the bytes that Glance serves, proven by its checksum, and convert them as nova does."""
        name = fingerprint(record.image_id)
        path = self._source.files.get(name)
        file = None if path is None else self._open_file(record, path, closing)
        draft = closing.enter_context(new_draft(self._cache, name))
        if path is not None and file is not None:
            read_bytes = copy_bytes(file, draft, self._source.rate_limiter, punch_zeros=True)
            self._require_checksum(record, draft.descriptor, path)
        else:
            read_bytes = self._read_from_glance(record, draft)
        require_acceptable(draft.descriptor, record)
        algorithm = str(record.algorithm)
        known = {algorithm: str(record.checksum)}
        if self._policy.converts(record):
            draft, known = self._convert(record, draft, closing), {}
        source = "glance" if path is None else "file"
        return _Arrived(draft, source, path or self._glance_url(record), Proof.CHECKSUM, read_bytes, algorithm, known)

    def _read_from_glance(self, record: ImageRecord, draft: Draft) -> int:
        if self._source.glance is None:
            raise RefusalError(NO_SOURCE)
        # Here, so that a run without Glance does not pay for it.
        from .glance import fetch_image

        return fetch_image(self._source.glance, record, draft.descriptor, self._source.rate_limiter, None).read_bytes

    def _glance_url(self, record: ImageRecord) -> str:
        from .glance import image_url

        return image_url(cast("Glance", self._source.glance), record.image_id)

    def _open_file(self, record: ImageRecord, path: str, closing: ExitStack) -> int:
        descriptor = open_brought_file(path, closing)
        require_recorded_size(path, descriptor, record)
        require_acceptable(descriptor, record)
        return descriptor

    def _require_checksum(self, record: ImageRecord, descriptor: int, path: str) -> None:
        """Compare what was read of a file of ``files`` with Glance's checksum."""
        digest = _digest_of(record, descriptor)
        if digest != record.checksum:
            raise RefusalError(
                f"The {record.algorithm} of {printable(path)} is {digest} and not {record.checksum}. Compare it with "
                f"Glance's record (openstack image show), and set files: {{image id: path of the right one}}."
            )

    def _convert(self, record: ImageRecord, draft: Draft, closing: ExitStack) -> Draft:
        """Convert a draft to raw in another one, which is all that is left of it."""
        converter = self._policy.converter
        if converter is None:
            raise RefusalError(NO_QEMU_IMG)
        target = closing.enter_context(new_draft(self._cache, fingerprint(record.image_id)))
        make_raw(converter, draft.descriptor, target.descriptor, self._require_space)
        return target

    def _require_space(self, new_bytes: int) -> None:
        reason = look_at_space(self._cache, cached_sizes(self._cache)[1], self._settings).why_not(new_bytes)
        if reason:
            raise RefusalError(reason)

    def _digests(self, name: str, draft: Draft, known: Mapping[str, str], algorithm: str) -> dict[str, str]:
        """Return the checksums of a draft: by one algorithm, and by those that are saved under its name.

        A checksum that was saved of a worse file would call it corrupt.

        :param known: those that are known of it.
        """
        digests = dict(known)
        missing = dict.fromkeys(
            each for each in (algorithm, *read_digests_of(self._settings, self._cache, name)) if each not in digests
        )
        if missing:
            os.lseek(draft.descriptor, 0, os.SEEK_SET)
            digests.update(read_digests(draft.descriptor, missing, RateLimiter()) or {})
        return digests

    def _put_in_place(self, record: ImageRecord, draft: Draft) -> bool:
        """Give a draft its name, under nova's lock; False where another file of its size has got it meanwhile."""
        name = fingerprint(record.image_id)
        with hold_novas_lock(self._settings, name):
            try:
                publish(draft, name)
                return True
            except FileExistsError:
                other = os.stat(name, dir_fd=self._cache, follow_symlinks=False)
        size = os.fstat(draft.descriptor).st_size
        if stat.S_ISREG(other.st_mode) and other.st_size == size:
            return False
        raise ImageCacheError(
            f"Another file got its name meanwhile, which has {other.st_size} bytes, and the image has {size}. Compare "
            f"the two before any guest is built on it (checksum_base_images: true)."
        )


def _digest_of(record: ImageRecord, descriptor: int) -> str:
    """Return a file's checksum, by the algorithm of an image's record."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    algorithm = str(record.algorithm)
    return (read_digests(descriptor, [algorithm], RateLimiter()) or {})[algorithm]


def _require_glances_checksum(record: ImageRecord, descriptor: int, path: str) -> None:
    """Compare the file of another host with Glance's checksum, where nova caches the image as Glance serves it."""
    digest = _digest_of(record, descriptor)
    if digest != record.checksum:
        raise RefusalError(
            f"The {record.algorithm} of {path} is {digest}, and by Glance's record it is {record.checksum}. Set "
            f"images: to Glance's present records, and take peers from hosts that have fetched this image."
        )
