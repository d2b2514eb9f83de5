# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pre-caching one image after the other: what is decided of each, a pure function, and what is done then."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Mapping, NamedTuple

from ..errors import ImageCacheError, RefusalError, explain, reason_and_remedy
from ..info_files import IMAGE_ID, PRECACHED_AT
from ..names import fingerprint
from ..settings import Settings
from ..space import Share, target_bytes
from ..text import printable
from .cache_use import CacheUse
from .records import KEPT_FORMATS, ImageRecord, why_not_usable
from .saving import checksum_facts, save_facts

if TYPE_CHECKING:
    from ..hashing import RateLimiter
    from .converter import Converter
    from .fetching import Fetcher
    from .glance import Glance
    from .peers import PeerFile, Peers

__all__ = [
    "NO_QEMU_IMG",
    "NO_SOURCE",
    "Decision",
    "Fetched",
    "NotFetched",
    "Policy",
    "Precacher",
    "Source",
    "Space",
    "cached_sizes",
    "decide",
    "expected_bytes",
    "look_at_space",
]

_LEAST_FREE = Share(10)
NO_SOURCE = (
    "It is not in the cache, and there is no source for it. Set glance: {endpoint: URL}, files: {image id: path on the "
    "host}, or peers to what other hosts have."
)
NO_QEMU_IMG = (
    "It is a qcow2 image, and this host has no qemu-img to convert it with. Set qemu_img to a command that runs it, or "
    "upload the image as raw (openstack image create)."
)
_REMOVED = (
    "Its file was in the cache and was removed meanwhile, as nova does with a file that is unused for a day. Run "
    "image_cache_precache again, and twice a day, or set remove_unused_base_images to false in nova.conf."
)


class Source(NamedTuple):
    """Where images come from.

    :param files: the path of a file that an operator brought, by the name of the base file.
    :param glance: Glance, None where it was not given.
    :param peers: what other hosts have, None where that was not given.
    :param rate_limiter: how fast they are read.
    """

    files: Mapping[str, str]
    glance: Glance | None
    peers: Peers | None
    rate_limiter: RateLimiter

    def file_of_peers(self, name: str) -> PeerFile | None:
        """Return what other hosts have of an image that comes from them, by the name of its base file."""
        return self.peers.files[name] if self.peers is not None and self.kind(name) == "peer" else None

    def kind(self, name: str) -> str:
        """Return where an image comes from, by its base file's name: ``file``, ``peer``, ``glance``, or nothing."""
        if name in self.files:
            return "file"
        if self.peers is not None and name in self.peers.files:
            return "peer"
        return "glance" if self.glance is not None else ""


class Policy(NamedTuple):
    """How this host caches images.

    :param use: what nova's configuration says.
    :param converter: how ``qemu-img`` is run; None where the host has none.
    :param allows_unverified: whether images may be cached that nova itself would verify.
    """

    use: CacheUse
    converter: Converter | None
    allows_unverified: bool

    def converts(self, record: ImageRecord) -> bool:
        """Tell whether an image becomes another file than the one that Glance serves."""
        return record.disk_format not in KEPT_FORMATS and self.use.force_raw_images


class Space(NamedTuple):
    """The space that there is, in bytes, and what must be left of it.

    :param free_bytes: free on the file system; None where it does not report that.
    :param cached_bytes: what the files of the cache take.
    :param least_free_bytes: what must be free afterwards; None where that is not known.
    :param most_cached_bytes: what they may take afterwards; None without a limit.
    """

    free_bytes: int | None
    cached_bytes: int
    least_free_bytes: float | None
    most_cached_bytes: float | None

    def why_not(self, new_bytes: int, passing_bytes: int = 0) -> str:
        """Say why something cannot be written.

        :param new_bytes: what it takes.
        :param passing_bytes: what is written besides, and removed again.
        :return: two sentences; empty where it can.
        """
        needed, least = new_bytes + passing_bytes, self.least_free_bytes or 0
        if self.free_bytes is not None and self.free_bytes - needed < least:
            return (
                f"It takes {needed} bytes, {max(0, self.free_bytes)} are free, and {least:.0f} must be left "
                f"(min_free_space). Prune the cache, or set min_free_space to less."
            )
        if self.most_cached_bytes is not None and self.cached_bytes + new_bytes > self.most_cached_bytes:
            return (
                f"It takes {new_bytes} bytes, and the files of the cache take {self.cached_bytes} of the "
                f"{self.most_cached_bytes:.0f} that they may (max_used_space). Prune the cache, or set max_used_space "
                f"to more."
            )
        return ""

    def without(self, new_bytes: int) -> Space:
        """Return the space that is left after so much was written."""
        free = None if self.free_bytes is None else self.free_bytes - new_bytes
        return self._replace(free_bytes=free, cached_bytes=self.cached_bytes + new_bytes)


class NotFetched(NamedTuple):
    """An image that was not pre-cached, and why."""

    record: ImageRecord
    reason: str


class Decision(NamedTuple):
    """What is done with each image: it is there, it is fetched, or it is refused."""

    present: tuple[ImageRecord, ...]
    wanted: tuple[ImageRecord, ...]
    refused: tuple[NotFetched, ...]


class Fetched(NamedTuple):
    """An image that was put in place, or in a dry run would be: as the module documents ``fetched``."""

    record: ImageRecord
    source: str
    source_path: str
    contacted: bool
    proof: str
    read_bytes: int
    size_bytes: int
    allocated_bytes: int
    seconds: float
    algorithm: str
    checksum: str | None


def decide(
    records: Mapping[str, ImageRecord],
    cached: Mapping[str, int | None],
    source: Source,
    policy: Policy,
    space: Space,
    obstacle: str = "",
) -> Decision:
    """Decide about each image.

    :param records: Glance's records, by the names of the base files.
    :param cached: the size of each file of the cache in bytes, by its name; None where it is not a regular file.
    :param source: where images come from.
    :param policy: how this host caches images.
    :param space: the space that there is.
    :param obstacle: why no file can be put in place, two sentences; empty where files can be.
    """
    present: list[ImageRecord] = []
    wanted: list[ImageRecord] = []
    refused: list[NotFetched] = []
    for name, record in records.items():
        if name in cached:
            reason = _why_not_present(record, cached[name])
            if not reason:
                present.append(record)
        else:
            file = source.file_of_peers(name)
            new_bytes, passing_bytes = expected_bytes(record, policy) if file is None else (file.allocated_bytes, 0)
            reason = (
                obstacle
                or _why_not_cacheable(record, policy)
                or (_why_not_converted(record, policy) if file is None else _why_not_from_peers(record, policy, file))
                or ("" if source.kind(name) else NO_SOURCE)
                or space.why_not(new_bytes, passing_bytes)
            )
            if not reason:
                wanted.append(record)
                space = space.without(new_bytes)
        if reason:
            refused.append(NotFetched(record, reason))
    return Decision(tuple(present), tuple(wanted), tuple(refused))


def expected_bytes(record: ImageRecord, policy: Policy) -> tuple[int, int]:
    """Return what an image from Glance takes, and what is written besides, as far as its record says it.

    It does not say how much of it is compressed: what a conversion takes is measured before it.
    """
    size = record.size_bytes or 0
    return (size, size) if policy.converts(record) else (size, 0)


def _why_not_present(record: ImageRecord, size_bytes: int | None) -> str:
    if size_bytes is None:
        return "What has its name is not a regular file. Look at it (ls -l), and move it away (mv)."
    is_as_served = record.disk_format in KEPT_FORMATS
    if is_as_served and record.size_bytes is not None and record.size_bytes != size_bytes:
        return (
            f"The file that has its name has {size_bytes} bytes, and by Glance's record the image has "
            f"{record.size_bytes}. Compare the two before any guest is built on it (checksum_base_images: true)."
        )
    return ""


def _why_not_cacheable(record: ImageRecord, policy: Policy) -> str:
    """Say why an image is not cached, as far as its record and nova's configuration say it."""
    if policy.use.verification and not policy.allows_unverified:
        return (
            f"nova.conf sets {policy.use.verification[0]}, and nova verifies only what it downloads itself. Let nova "
            f"fetch it for the first server, or set allow_unverified_signatures: true."
        )
    reason = why_not_usable(record)
    if reason:
        return f"It cannot be fetched: {reason}. Look at the image (openstack image show)."
    if record.status is None or record.container_format is None or record.size_bytes is None:
        return "Glance's record of it has no status, container_format or size. Set images: to Glance's own records."
    if record.disk_format in KEPT_FORMATS:
        return ""
    if record.disk_format != "qcow2":
        image_format = printable(record.disk_format or "unknown")
        return (
            f"It has the format {image_format}, and only raw and qcow2 images are pre-cached. Let nova fetch it for "
            f"the first server, or upload it as raw (openstack image create)."
        )
    return ""


def _why_not_converted(record: ImageRecord, policy: Policy) -> str:
    return NO_QEMU_IMG if policy.converts(record) and policy.converter is None else ""


def _why_not_from_peers(record: ImageRecord, policy: Policy, file: PeerFile) -> str:
    """Say why what other hosts have is not the image as Glance serves it, where nova caches it as it is."""
    if policy.converts(record):
        return ""
    if file.size_bytes != record.size_bytes:
        theirs, ours = f"{file.size_bytes} bytes", f"{record.size_bytes}"
    elif file.algorithm == record.algorithm and file.checksum != record.checksum:
        theirs, ours = f"the {file.algorithm} {file.checksum}", f"{record.checksum}"
    else:
        return ""
    return (
        f"By peers its file has {theirs}, and by Glance's record the image has {ours}. Set images: to Glance's present "
        f"records, and take peers from hosts that have fetched this image."
    )


def cached_sizes(cache: int) -> tuple[dict[str, int | None], int]:
    """List the files of the cache.

    :param cache: descriptor of the cache directory.
    :return: see :func:`decide`, and what all of them take, in bytes.
    :raises OSError: it cannot be listed.
    """
    sizes: dict[str, int | None] = {}
    allocated = 0
    with os.scandir(cache) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # it was removed or renamed meanwhile
                status = entry.stat(follow_symlinks=False)
                sizes[entry.name] = status.st_size if stat.S_ISREG(status.st_mode) else None
                allocated += status.st_blocks * 512
    return sizes, allocated


def look_at_space(cache: int, cached_bytes: int, settings: Settings) -> Space:
    """Look at how much may be written.

    :param cache: descriptor of the cache directory.
    :param cached_bytes: what its files take.
    :param settings: the options, with the space targets.
    :raises OSError: the file system does not answer.
    """
    status = os.fstatvfs(cache)
    free_bytes = status.f_bavail * status.f_frsize if status.f_blocks else None
    total_bytes = status.f_blocks * status.f_frsize or None
    least = _LEAST_FREE if settings.min_free_space is None else settings.min_free_space
    return Space(
        free_bytes=free_bytes,
        cached_bytes=cached_bytes,
        least_free_bytes=target_bytes(least, total_bytes),
        most_cached_bytes=target_bytes(settings.max_used_space, total_bytes),
    )


class Precacher:
    """Pre-caches images on one host, and takes note of what comes of each.

    :param settings: the options.
    :param cache: descriptor of the cache directory; in a dry run that would make it, of the one above.
    :param source: where images come from.
    :param policy: how this host caches images.
    :param now: the time, in unix seconds.
    :param is_shared: whether other hosts have the same files.
    :param is_dry_run: look at sources and obstacles, and write nothing.
    """

    def __init__(
        self,
        settings: Settings,
        cache: int,
        source: Source,
        policy: Policy,
        now: float,
        is_shared: bool,
        is_dry_run: bool,
    ) -> None:
        self.fetched: list[Fetched] = []
        self.present: list[ImageRecord] = []
        self.refused: list[NotFetched] = []
        self.failed: list[NotFetched] = []
        self._settings = settings
        self._cache = cache
        self._source = source
        self._policy = policy
        self._now = now
        self._is_shared = is_shared
        self._is_dry_run = is_dry_run

    def run(self, decision: Decision) -> None:
        """Do what was decided."""
        self.refused += [self._not_fetched(each.record, each.reason) for each in decision.refused]
        for record in decision.present:
            self._note_present(record)
        if decision.wanted:
            # Here, so that a run in which all is present does not pay for it.
            from .fetching import Fetcher

            fetcher = Fetcher(self._settings, self._cache, self._source, self._policy)
            for record in decision.wanted:
                self._fetch(record, fetcher)

    def _fetch(self, record: ImageRecord, fetcher: Fetcher) -> None:
        try:
            with ExitStack() as closing:
                if self._is_dry_run:
                    self.fetched.append(fetcher.expect(record, closing))
                    return
                placed = fetcher.fetch(record, closing)
                if placed is None:
                    self._note_present(record)
                else:
                    self.fetched.append(placed.fetched)
                    self._finish_placed(record, placed.digests)
        except RefusalError as exc:
            self.refused.append(self._not_fetched(record, str(exc)))
        except ImageCacheError as exc:
            self.failed.append(self._not_fetched(record, str(exc)))
        except OSError as exc:
            self.failed.append(self._not_fetched(record, f"{reason_and_remedy(exc)}."))

    def _not_fetched(self, record: ImageRecord, reason: str) -> NotFetched:
        return NotFetched(record, f"The image {_label(record)} was not pre-cached. {reason}")

    def _note_present(self, record: ImageRecord) -> None:
        """Mark an image that is there as used now: nova's pass and ours count its age from then."""
        if not self._is_dry_run:
            try:
                os.utime(fingerprint(record.image_id), dir_fd=self._cache, follow_symlinks=False)
            except FileNotFoundError:
                self.failed.append(self._not_fetched(record, _REMOVED))
                return
            except OSError as exc:
                self.failed.append(_not_marked(record, exc))
            else:
                try:
                    self._save(record, {})
                except (OSError, ImageCacheError) as exc:
                    self.failed.append(_not_marked(record, exc))
        self.present.append(record)

    def _finish_placed(self, record: ImageRecord, digests: Mapping[str, str]) -> None:
        """Put a name on disk for good, and save the checksums."""
        try:
            os.fsync(self._cache)
            self._save(record, checksum_facts(digests, self._now))
        except (OSError, ImageCacheError) as exc:
            self.failed.append(
                NotFetched(
                    record,
                    f"The image {_label(record)} was pre-cached, but its name or its checksum may not be saved: "
                    f"{explain(exc)}. Check it (checksum_base_images: true).",
                )
            )

    def _save(self, record: ImageRecord, facts: Mapping[str, object]) -> None:
        """Save that an image is pre-cached now, with other facts, so that a prune keeps it."""
        facts = {**facts, PRECACHED_AT: self._now, IMAGE_ID: record.image_id}
        save_facts(self._settings, self._cache, fingerprint(record.image_id), facts, self._is_shared)


def _not_marked(record: ImageRecord, exc: OSError | ImageCacheError) -> NotFetched:
    return NotFetched(
        record,
        f"The image {_label(record)} is in the cache, but its age counts from an earlier use, because it could not be "
        f"marked as used now: {explain(exc)}.",
    )


def _label(record: ImageRecord) -> str:
    """Return what people call an image."""
    name = f" ({printable(record.image_name)})" if record.image_name else ""
    return printable(record.image_id) + name
