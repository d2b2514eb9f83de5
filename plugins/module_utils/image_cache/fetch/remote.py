# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a base file is restored from where this host has nothing of it: Glance, or the file that other hosts have."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Callable, Mapping, NamedTuple, cast

from ..errors import RefusalError
from ..hashing import RateLimiter
from ..settings import Settings
from .candidates import Candidate
from .choosing import Chooser, Given, Source, becomes_raw
from .disks import read_content
from .place import Draft, new_draft
from .proof import Proof
from .records import ImageRecord
from .saving import read_digests_of

if TYPE_CHECKING:
    from .converter import Converter
    from .glance import Glance
    from .peers import PeerFile, Peers

__all__ = ["Arrived", "Offer", "RemoteSources"]


class Arrived(NamedTuple):
    """A file that was fetched, proven, and fits what is built on it.

    :param path: where it came from.
    :param read_bytes: how much was read for it.
    :param digests: its checksums by algorithm.
    """

    draft: Draft
    path: str
    read_bytes: int
    digests: Mapping[str, str]


class Offer(NamedTuple):
    """A source that is elsewhere, by all that is known without a connection.

    :param kind: ``glance`` or ``peer``.
    :param path: where a person finds it.
    :param proof: what proves its bytes.
    :param expected: the checksums that the file must have, by algorithm; empty where none is known before.
    :param needed_bytes: how much space it takes at most, with what is written besides.
    :param read_bytes: how much is read; likewise ``size_bytes`` and ``allocated_bytes`` of the file.
    :param algorithm: of the checksum that is returned; likewise ``checksum``, None where it is found out later.
    :param fetch: fetches it; what it takes closes what is opened, and removes what got no name.
    """

    kind: str
    path: str
    proof: Proof
    expected: Mapping[str, str]
    needed_bytes: int
    read_bytes: int
    size_bytes: int
    allocated_bytes: int
    algorithm: str
    checksum: str | None
    fetch: Callable[[ExitStack], Arrived]


class RemoteSources:
    """Finds the sources elsewhere of the files of one cache.

    :param settings: the options.
    :param given: what an operator gave.
    :param cache: descriptor of the cache directory.
    :param chooser: knows what a file must have.
    :param rate_limiter: how fast to read.
    :param require_space: refuses so many bytes where there is no room for them.
    """

    def __init__(
        self,
        settings: Settings,
        given: Given,
        cache: int,
        chooser: Chooser,
        rate_limiter: RateLimiter,
        require_space: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._given = given
        self._cache = cache
        self._chooser = chooser
        self._rate_limiter = rate_limiter
        self._require_space = require_space

    def sources(self, candidate: Candidate) -> list[Callable[[Candidate], Offer]]:
        """Return what looks at each source of a file, the best first. Each may raise RefusalError."""
        sources: list[Callable[[Candidate], Offer]] = []
        if self._chooser.is_for_glance(candidate):
            sources.append(self._look_at_glance)
        if self._chooser.is_for_peers(candidate):
            sources.append(self._look_at_peers)
        return sources

    def _look_at_glance(self, candidate: Candidate) -> Offer:
        # Here, so that a restore without Glance does not load what speaks HTTP.
        from .glance import image_url

        record, glance = self._chooser.provable_record(candidate), cast("Glance", self._given.glance)
        size, url = int(record.size_bytes or 0), image_url(glance, record.image_id)
        self._chooser.require_size_fits(candidate, record)
        converter = self._find_converter(candidate) if becomes_raw(record, candidate) else None
        # Of an image that is converted, what was known of the base file before. Glance's checksum proves what it sends.
        expected = self._chooser.known_checksums(candidate)
        return Offer(
            kind="glance",
            path=url,
            proof=Proof.CHECKSUM,
            expected=expected,
            needed_bytes=size if converter is None else 2 * size,
            read_bytes=size,
            size_bytes=size if converter is None else record.virtual_bytes or size,
            allocated_bytes=size,
            algorithm=str(record.algorithm),
            checksum=record.checksum if converter is None else None,
            fetch=lambda closing: self._fetch_image(candidate, record, converter, url, expected, closing),
        )

    def _fetch_image(
        self,
        candidate: Candidate,
        record: ImageRecord,
        converter: Converter | None,
        url: str,
        expected: Mapping[str, str],
        closing: ExitStack,
    ) -> Arrived:
        from .glance import fetch_image

        draft = closing.enter_context(new_draft(self._cache, candidate.name))
        glance = cast("Glance", self._given.glance)
        read = fetch_image(glance, record, draft.descriptor, self._rate_limiter, None).read_bytes
        if converter is not None:
            draft = self._convert(candidate, record, draft, converter, closing)
        source = Source("glance", url, draft.descriptor, Proof.CHECKSUM, (), expected)
        known = {} if converter is not None else expected
        return Arrived(draft, url, read, self._proven(candidate, source, str(record.algorithm), known))

    def _look_at_peers(self, candidate: Candidate) -> Offer:
        file = cast("Peers", self._given.peers).files[candidate.name]
        self._chooser.require_size_of_peers_fits(candidate, file)
        expected = self._chooser.checksums_with(candidate, file)
        return Offer(
            kind="peer",
            path=file.peers[0].shown,
            proof=Proof.AGREED,
            expected=expected,
            needed_bytes=file.allocated_bytes,
            read_bytes=file.size_bytes,
            size_bytes=file.size_bytes,
            allocated_bytes=file.allocated_bytes,
            algorithm=file.algorithm,
            checksum=file.checksum,
            fetch=lambda closing: self._fetch_file(candidate, file, expected, closing),
        )

    def _fetch_file(
        self, candidate: Candidate, file: PeerFile, expected: Mapping[str, str], closing: ExitStack
    ) -> Arrived:
        # Here, so that a restore without other hosts does not load what runs commands.
        from .peers import fetch_from_peers

        draft = closing.enter_context(new_draft(self._cache, candidate.name))
        transfer = fetch_from_peers(
            cast("Peers", self._given.peers),
            candidate.name,
            os.fstat(self._cache),
            draft.descriptor,
            self._rate_limiter,
            self._require_space,
        )
        path = transfer.peer.shown
        source = Source("peer", path, draft.descriptor, Proof.AGREED, (), expected)
        known = {file.algorithm: file.checksum}
        return Arrived(draft, path, transfer.read_bytes, self._proven(candidate, source, file.algorithm, known))

    def _proven(
        self, candidate: Candidate, source: Source, algorithm: str, known: Mapping[str, str]
    ) -> Mapping[str, str]:
        """Look whether what was fetched fits, and has each checksum that it must have; return all that are to be saved.

        :param algorithm: of the checksum that is returned.
        :param known: the checksums that were found while it came.
        """
        self._chooser.require_fit(candidate, source, source.descriptor)
        wanted = {algorithm, *source.expected, *read_digests_of(self._settings, self._cache, candidate.name)}
        if not wanted - known.keys():
            return known
        return self._chooser.require_checksums(candidate.name, source, source.descriptor, algorithm)

    def _find_converter(self, candidate: Candidate) -> Converter:
        # Here, because most restores convert nothing.
        from .converter import find_converter

        converter = find_converter(self._given.qemu_img, os.fstat(self._cache))
        if converter is None:
            raise RefusalError(
                f"nova converts its image to raw, and this host has no qemu-img for that. Set qemu_img to a command "
                f"that runs it. Or copy the base file to this host, and set files: {{image id: path}} and unproven: "
                f"[{candidate.name}]."
            )
        return converter

    def _convert(
        self, candidate: Candidate, record: ImageRecord, draft: Draft, converter: Converter, closing: ExitStack
    ) -> Draft:
        """Convert what Glance has sent to raw, in another draft."""
        from .convert import make_raw, require_acceptable

        require_acceptable(draft.descriptor, record)
        virtual_bytes = read_content(draft.descriptor).virtual_bytes
        self._chooser.require_size_fits(candidate, record._replace(virtual_bytes=virtual_bytes))
        target = closing.enter_context(new_draft(self._cache, candidate.name))
        make_raw(converter, draft.descriptor, target.descriptor, self._require_space)
        return target
