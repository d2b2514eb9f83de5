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
from typing import Mapping, NamedTuple

from ..errors import ImageCacheError, RefusalError
from ..hashing import RateLimiter, read_digests
from ..names import fingerprint
from ..settings import Settings
from ..text import printable
from .brought import open_brought_file, require_recorded_size
from .convert import make_raw, require_acceptable
from .novas_lock import hold_novas_lock, why_lock_is_unusable
from .place import Draft, copy_bytes, finish, new_draft, publish
from .precaching import NO_QEMU_IMG, NO_SOURCE, Fetched, Policy, Source, cached_sizes, look_at_space
from .proof import Proof
from .records import ImageRecord
from .saving import read_digests_of

__all__ = ["Fetcher", "Placed"]


class Placed(NamedTuple):
    """An image that was put in place.

    :param fetched: what is said of it.
    :param digests: its checksums by algorithm.
    """

    fetched: Fetched
    digests: Mapping[str, str]


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
        file = self._open_source(record, closing)
        if file is not None:
            self._require_checksum(record, file)
        size, is_converted = record.size_bytes or 0, self._policy.converts(record)
        return Fetched(
            record=record,
            source=self._source.kind(fingerprint(record.image_id)),
            proof=Proof.CHECKSUM.value,
            read_bytes=size,
            size_bytes=(record.virtual_bytes or size) if is_converted else size,
            allocated_bytes=size,
            seconds=0.0,
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
        file = self._open_source(record, closing)
        draft = closing.enter_context(new_draft(self._cache, name))
        read_bytes = self._read(record, file, draft)
        require_acceptable(draft.descriptor, record)
        if self._policy.converts(record):
            draft = self._convert(record, draft, closing)
        digests = self._digests(record, draft)
        finish(draft, None)
        status = os.fstat(draft.descriptor)
        if not self._put_in_place(record, draft):
            return None
        fetched = Fetched(
            record=record,
            source=self._source.kind(name),
            proof=Proof.CHECKSUM.value,
            read_bytes=read_bytes,
            size_bytes=status.st_size,
            allocated_bytes=status.st_blocks * 512,
            seconds=time.monotonic() - started,
            checksum=digests[str(record.algorithm)],
        )
        return Placed(fetched, digests)

    def _open_source(self, record: ImageRecord, closing: ExitStack) -> int | None:
        """Open the file that an operator brought, None where the image comes from Glance; look for obstacles first."""
        name = fingerprint(record.image_id)
        unusable = why_lock_is_unusable(self._settings, name)
        if unusable:
            raise RefusalError(unusable)
        return self._open_file(record, closing) if name in self._source.files else None

    def _open_file(self, record: ImageRecord, closing: ExitStack) -> int:
        path = self._source.files[fingerprint(record.image_id)]
        descriptor = open_brought_file(path, closing)
        require_recorded_size(path, descriptor, record)
        require_acceptable(descriptor, record)
        return descriptor

    def _require_checksum(self, record: ImageRecord, descriptor: int) -> None:
        """Compare what was read of a file with Glance's checksum."""
        os.lseek(descriptor, 0, os.SEEK_SET)
        algorithm = str(record.algorithm)
        digest = (read_digests(descriptor, [algorithm], RateLimiter()) or {})[algorithm]
        if digest != record.checksum:
            path = printable(self._source.files[fingerprint(record.image_id)])
            raise RefusalError(
                f"The {algorithm} of {path} is {digest} and not {record.checksum}. Compare it with Glance's record "
                f"(openstack image show), and set files: {{image id: path of the right one}}."
            )

    def _read(self, record: ImageRecord, file: int | None, draft: Draft) -> int:
        """Give a draft the bytes that Glance serves, proven by its checksum; return how many were read."""
        if file is not None:
            read = copy_bytes(file, draft, self._source.rate_limiter, punch_zeros=True)
            self._require_checksum(record, draft.descriptor)
            return read
        if self._source.glance is None:
            raise RefusalError(NO_SOURCE)
        # Here, so that a run without Glance does not pay for it.
        from .glance import fetch_image

        return fetch_image(self._source.glance, record, draft.descriptor, self._source.rate_limiter, None).read_bytes

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

    def _digests(self, record: ImageRecord, draft: Draft) -> dict[str, str]:
        """Return the checksums of a draft: by the image's algorithm, and by those that are saved under its name.

        A checksum that was saved of a worse file would call it corrupt.
        """
        algorithm = str(record.algorithm)
        known = {} if self._policy.converts(record) else {algorithm: str(record.checksum)}
        algorithms = dict.fromkeys(
            [algorithm, *read_digests_of(self._settings, self._cache, fingerprint(record.image_id))]
        )
        missing = [each for each in algorithms if each not in known]
        if missing:
            os.lseek(draft.descriptor, 0, os.SEEK_SET)
            known.update(read_digests(draft.descriptor, missing, RateLimiter()) or {})
        return known

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
