# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the collection against its peers and prints one table: `./test bench`; `./test bench -- fleet` is a part.

Every figure is a ratio of two things measured in this run, in turn, on the same trees. Times are
medians; the trees are in the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fleet

from ansible_collections.stackops.nova.tests.support import openstack_apis, precaches
from ansible_collections.stackops.nova.tests.support.guests import running_guest
from ansible_collections.stackops.nova.tools.cache_tree import CacheTree, fingerprint, overlay_bytes

HERE = Path(__file__).parent
DAY = 24 * 3600
FORKS = 10
FLEET_PLAYS = {
    "ping": ("ping",),
    "facts task": ("facts",),
    "audit": ("stackops.nova.audit",),
    "prune --check": ("stackops.nova.prune", "--check"),
    "prune": ("stackops.nova.prune",),
}
MEMORY_PLAYS = ("ping", "audit", "prune --check")
SCALE_PLAYS = ("audit", "prune --check")


class Row(NamedTuple):
    """One line of the table: a ratio, its target, and the two figures that it is made of."""

    figure: str
    target: str
    measured: str
    ours: str
    peer: str
    met: bool


@contextmanager
def tree_of(root: Path, base_files: int, instances: int) -> Iterator[CacheTree]:
    """A host with so many base files, half of them in use, and so many instances, each with one overlay."""
    with tempfile.TemporaryDirectory(dir=root) as directory:
        tree = CacheTree(directory)
        names = [fingerprint(f"image {number}") for number in range(base_files)]
        for name in names:
            tree.base(name, age=2 * DAY)
            tree.lock_file(name)
        for number in range(instances):
            tree.instance(f"{number:08x}-0000-4000-8000-000000000000", {"disk": names[number % (base_files // 2)]})
        os.sync()  # so that writing it back does not run beside what is measured
        yield tree


def add_kept_overlays(tree: CacheTree, base_files: int, count: int) -> None:
    """Turn so many of the base files that no instance uses into young overlays, each over another of these."""
    unused = [fingerprint(f"image {number}") for number in range(base_files - 2 * count, base_files)]
    for name, base in zip(unused[:count], unused[count:], strict=True):
        tree.base(name, content=overlay_bytes(1 << 20, str(tree.cache_path / base), "raw"))


def core(tree: CacheTree, what: str, runs: int) -> dict[str, float]:
    """The figures of one fresh process that audits (or only reads) the tree so many times."""
    command = [sys.executable, str(HERE / "core.py"), what, str(tree.instances_path), str(runs)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def play(playbook: str, tree: CacheTree) -> float:
    """Seconds that ansible-playbook takes with one of the plays beside this file."""
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(HERE / "plays" / f"{playbook}.yml")]
    command += ["-e", f"instances_path={tree.instances_path}", "-e", f"interpreter={sys.executable}"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - started


def medians(runs: int, *commands: Callable[[], float]) -> list[float]:
    """The median of each, measured in turn, so that a drift of the machine meets all alike."""
    rounds = [[command() for command in commands] for _round in range(runs)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def measure_task(root: Path) -> Iterator[Row]:
    """The whole facts task against a ping: as a command, and inside a running play."""
    with tree_of(root, 2000, 2000) as tree:
        empty, ping, facts = medians(
            9, lambda: play("nothing", tree), lambda: play("ping", tree), lambda: play("facts", tree)
        )
        yield ratio("facts task / ping task, one task a play, 2,000 + 2,000", facts / ping, 1.25, ms(facts), ms(ping))
        inside = (facts - empty) / (ping - empty)
        yield note("the same without the time of a play that does nothing", inside, ms(facts - empty), ms(ping - empty))


def measure_core(root: Path) -> Iterator[Row]:
    """The core against plain Python that reads the same, and against itself at ten times the size."""
    with tree_of(root, 10_000, 10_000) as small, tree_of(root, 100_000, 100_000) as large:
        seconds = core(small, "both", 7)
        yield ratio(
            "core audit / floor, 10,000 + 10,000",
            seconds["audit"] / seconds["floor"],
            3,
            ms(seconds["audit"]),
            ms(seconds["floor"]),
        )
        small_item, large_item = medians(
            3,
            lambda: core(small, "audit", 3)["audit"] / 20_000,
            lambda: core(large, "audit", 3)["audit"] / 200_000,
        )
        yield ratio(
            "core audit, an item at 100,000 + 100,000 / at 10,000 + 10,000",
            large_item / small_item,
            1.3,
            us(large_item),
            us(small_item),
        )
        megabytes = core(large, "audit", 1)["peak_bytes"] / 1e6
        yield Row("peak memory, 100,000 + 100,000", "<= 150 MB", f"{megabytes:.0f} MB", "", "", megabytes <= 150)
        with tree_of(root, 10_000, 10_000) as overlaid:
            add_kept_overlays(overlaid, 10_000, 1000)
            kept, none = medians(
                9, lambda: core(overlaid, "audit", 3)["audit"], lambda: core(small, "audit", 3)["audit"]
            )
        yield ratio(
            "core audit, 1,000 of 10,000 base files kept overlays / none", kept / none, 1.05, ms(kept), ms(none)
        )
        overlays = [str(path / "disk") for path in sorted(small.instances_path.glob("*-*"))[:50]]
        started = time.perf_counter()
        for overlay in overlays:
            subprocess.run(["qemu-img", "info", "-U", "--output=json", overlay], check=True, capture_output=True)
        nova = (time.perf_counter() - started) / len(overlays)
        yield note(
            "an instance: qemu-img info / core audit, an instance and its base file",
            nova / (seconds["audit"] / 10_000),
            us(seconds["audit"] / 10_000),
            us(nova),
        )


def measure_prune(root: Path) -> Iterator[Row]:
    """Removing files, against find and file in a loop."""
    ours, theirs = 10_000, 100
    with tree_of(root, ours, 1) as tree, tree_of(root, theirs, 1) as peer_tree:
        our_file = play("prune", tree) / (ours - 1)
        their_file = play("find_and_file", peer_tree) / (theirs - 1)
    remaining = sum(1 for _path in tree_files(peer_tree)), sum(1 for _path in tree_files(tree))
    if remaining != (0, 0):
        raise SystemExit(f"The trees should be gone: {remaining}")
    yield Row(
        "pruning, a file: find and file in a loop / prune",
        ">= 300",
        f"{their_file / our_file:.0f}",
        us(our_file),
        us(their_file),
        their_file / our_file >= 300,
    )


def measure_integrity(root: Path) -> Iterator[Row]:
    """Hashing against openssl and against itself, and what verification costs where there is nothing to do."""
    with files_of(root, 2, 1 << 29) as paths:
        # The best of each: another user of a core takes it from two files, and not from one.
        rounds = [(reading(paths[0]), verifying(paths)[0]) for _round in range(10)]
        one, two = (min(column) for column in zip(*rounds, strict=True))
        ours, theirs = medians(7, lambda: reading(paths[0]), lambda: openssl(paths[0]))
        yield at_least(
            "sha1 of a file in the page cache, bytes a second: ours / openssl dgst", theirs / ours, 0.95, ours, theirs
        )
        yield at_least("two files on two cores / one file, bytes a second", 2 * one / two, 1.8, two / 2, one)
    for base_files, target in ((200, None), (2000, 1.1)):
        with tree_of(root, base_files, 2000) as tree:
            for path in list(tree.cache_path.iterdir()):
                saved = {"sha1": "0" * 40, "sha1-timestamp": time.time()}
                path.with_name(f"{path.name}.info").write_text(json.dumps(saved))
            seconds = core(tree, "trusted", 25)
            on, off = seconds["trusted"], seconds["audit"]
            figure = f"audit, all is trusted / no checksums, {base_files:,} + 2,000"
            yield (
                note(figure, on / off, ms(on), ms(off))
                if target is None
                else ratio(figure, on / off, target, ms(on), ms(off))
            )
    with files_of(root, 2, 0) as paths:
        for path, size in zip(paths, (4 << 20, 4 << 30), strict=True):
            os.truncate(path, size)
        small, large = (verifying([path])[1] / 1e6 for path in paths)
        yield Row(
            "peak memory, a file of 4 GiB more than one of 4 MiB",
            "<= 10 MB",
            f"{large - small:.1f} MB",
            f"{large:.0f} MB",
            f"{small:.0f} MB",
            large - small <= 10,
        )


def measure_restore(root: Path) -> Iterator[Row]:
    """A base file that a guest has open gets its name back: where blocks can be shared, and where they are copied."""
    if os.geteuid() == 0:
        yield from _rows_of_shared_blocks(root)
    with lost_file(root, 1 << 30) as lost:
        ours, peer = medians(5, lambda: restoring(lost)["seconds"], lambda: copying(lost))
        yield ratio("restore, no reflinks, 1 GiB / cp --sparse=always and sync", ours / peer, 1.1, ms(ours), ms(peer))
    with lost_file(root, 4 << 20) as small, lost_file(root, 4 << 30) as large:
        few, many = (restoring(lost)["peak_bytes"] / 1e6 for lost in (small, large))
        yield Row(
            "restore, peak memory, 4 GiB more than 4 MiB",
            "<= 10 MB",
            f"{many - few:.1f} MB",
            f"{many:.0f} MB",
            f"{few:.0f} MB",
            many - few <= 10,
        )


def _rows_of_shared_blocks(root: Path) -> Iterator[Row]:
    """What size costs where nothing is copied. Mounting such a file system takes root."""
    with xfs_of(root, 12 << 30) as mounted, lost_file(mounted, 4 << 20) as small, lost_file(mounted, 4 << 30) as large:
        ours, peer = medians(5, lambda: restoring(large)["seconds"], lambda: restoring(small)["seconds"])
        if restoring(large)["read_bytes"]:
            raise SystemExit("This file system shares no blocks.")
    more = ours - peer
    yield Row("restore, reflinks, 4 GiB more than 4 MiB", "<= 0.1 s", f"{more:.3f} s", ms(ours), ms(peer), more <= 0.1)


@contextmanager
def xfs_of(root: Path, size: int) -> Iterator[Path]:
    """A new file system whose files can share blocks."""
    image, mounted = root / "xfs.image", root / "xfs"
    image.touch()
    os.truncate(image, size)
    mounted.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
        image.unlink()


@contextmanager
def lost_file(root: Path, size: int) -> Iterator[CacheTree]:
    """A host whose one guest runs on a base file of that size, half of it holes, that has no name any more."""
    with tempfile.TemporaryDirectory(dir=root) as directory:
        tree = CacheTree(directory)
        base = tree.base(fingerprint("image"), size=size)
        write_half(base, size)
        disk = tree.instances_path / "00000000-0000-4000-8000-000000000000" / "disk"
        disk.parent.mkdir()
        backing = ["-b", str(base), "-F", "raw"]
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(disk)], check=True)
        os.sync()
        with running_guest(disk, base):
            base.unlink()
            yield tree


def write_half(path: Path, size: int) -> None:
    """Give a file that size, with random bytes in its one half and holes in the other."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size, 64 << 20):
            file.seek(offset)
            for _megabyte in range(min(size // 2, 32 << 20) >> 20):
                file.write(os.urandom(1 << 20))


def restoring(tree: CacheTree) -> dict[str, float]:
    """The figures of a fresh process that restores the file, which is lost again afterwards."""
    command = [sys.executable, str(HERE / "restoring.py"), str(tree.instances_path)]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    tree.source = figures["source"]
    (tree.cache_path / fingerprint("image")).unlink()
    return figures


def copying(tree: CacheTree) -> float:
    """Seconds that it takes to copy the same open file with cp, and to have it on disk."""
    copy = tree.cache_path / "copy"
    started = time.perf_counter()
    subprocess.run(["cp", "--sparse=always", "--reflink=never", tree.source, str(copy)], check=True)
    subprocess.run(["sync", str(copy)], check=True)
    seconds = time.perf_counter() - started
    copy.unlink()
    return seconds


def measure_fetch(root: Path) -> Iterator[Row]:
    """An image from a server on this machine, hashed and written sparse, against tools that do one of these each."""
    with served_image(root, 1 << 30) as image:
        ours, peer, hashing, writing = medians(
            5,
            lambda: fetching(image)["seconds"],
            lambda: downloading(image) + hashing_with_sha512sum(image.copy),
            lambda: hashing_with_sha512sum(image.source),
            lambda: writing_densely(image),
        )
    floor = max(hashing, writing)
    yield ratio(
        "fetch, 1 GiB, half zeros, verified, sparse / curl and sha512sum", ours / peer, 0.75, ms(ours), ms(peer)
    )
    yield ratio("the same / the slower of sha512sum and a dense write", ours / floor, 1.3, ms(ours), ms(floor))
    with served_image(root, 4 << 20) as small, served_image(root, 4 << 30) as large:
        few, many = (fetching(image)["peak_bytes"] / 1e6 for image in (small, large))
    yield Row(
        "fetch, peak memory, 4 GiB more than 4 MiB",
        "<= 10 MB",
        f"{many - few:.1f} MB",
        f"{many:.0f} MB",
        f"{few:.0f} MB",
        many - few <= 10,
    )


class ServedImage(NamedTuple):
    """An image that a server on this machine has, its checksum by sha512, and where a copy of it goes."""

    endpoint: str
    source: Path
    checksum: str
    copy: Path


@contextmanager
def served_image(root: Path, size: int) -> Iterator[ServedImage]:
    """A server of an image of that size, half of it zeros."""
    with tempfile.TemporaryDirectory(dir=root) as directory:
        source = Path(directory, "image")
        write_half(source, size)
        os.sync()
        with source.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha512").hexdigest()
        command = [sys.executable, str(HERE / "server.py"), str(source)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                endpoint = f"http://127.0.0.1:{server.stdout.readline().strip()}"
                yield ServedImage(endpoint, source, checksum, Path(directory, "copy"))
            finally:
                server.terminate()


def fetching(image: ServedImage) -> dict[str, float]:
    """The figures of a fresh process that fetches the image."""
    image.copy.unlink(missing_ok=True)
    size = image.source.stat().st_size
    command = [sys.executable, str(HERE / "fetching.py"), image.endpoint, str(image.copy), str(size), image.checksum]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if figures["allocated_bytes"] > size * 0.6 + (1 << 20):
        raise SystemExit("The image was not written sparse.")
    return figures


def downloading(image: ServedImage) -> float:
    return timed(image, ["curl", "--silent", "--output", str(image.copy), f"{image.endpoint}/image"])


def writing_densely(image: ServedImage) -> float:
    return timed(
        image, ["dd", "if=/dev/zero", f"of={image.copy}", "bs=1M", f"count={image.source.stat().st_size >> 20}"]
    )


def timed(image: ServedImage, command: list[str]) -> float:
    """Seconds that a command takes which writes a new copy of the image."""
    image.copy.unlink(missing_ok=True)
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def hashing_with_sha512sum(path: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["sha512sum", str(path)], check=True, capture_output=True)
    return time.perf_counter() - started


@contextmanager
def hosts_of(root: Path, count: int) -> Iterator[Path]:
    """The inventory of so many hosts, each of 50 base files and 50 instances, about what one has in a cloud."""
    with ExitStack() as stack:
        paths = [str(stack.enter_context(tree_of(root, 50, 50)).instances_path) for _host in range(count)]
        inventory = root / "inventory.json"
        fleet.write_inventory(inventory, paths)
        yield inventory


def measure_fleet(root: Path, hosts: int = 100, rounds: int = 3) -> Iterator[Row]:
    """What the playbooks cost the processors against a ping of the same hosts, and what a host's answer takes."""
    results = []
    for _round in range(rounds):
        with hosts_of(root, hosts) as inventory:  # new ones, as the last of the plays prunes them
            results.append([fleet.run(inventory, FORKS, *play) for play in FLEET_PLAYS.values()])
    runs = dict(zip(FLEET_PLAYS, (fleet.medians(column) for column in zip(*results, strict=True)), strict=True))
    ping = runs["ping"]
    for play, target in (("facts task", None), ("audit", 1.3), ("prune --check", 1.5), ("prune", 2.5)):
        figure = f"{play} / ping, processor time, {hosts} hosts of 50 + 50, {FORKS} forks"
        ours, peer = runs[play].processor_seconds, ping.processor_seconds
        yield (
            ratio(figure, ours / peer, target, ms(ours), ms(peer))
            if target
            else note(figure, ours / peer, ms(ours), ms(peer))
        )
        ours, peer = runs[play].seconds, ping.seconds
        yield note(f"{play} / ping, elapsed", ours / peer, ms(ours), ms(peer))
    yield from _memory_rows(root, hosts)
    with hosts_of(root, 3) as inventory:
        for details, most in (("summary", 2), ("files", None)):
            arguments = ("instances_path={{ instances_path }}", "libvirt=false", f"details={details}")
            kibibytes = fleet.result_bytes(inventory, "stackops.nova.image_cache_facts", *arguments) / 1024
            yield at_most(f"the result of a host, details: {details}", kibibytes, most, "KiB", 1)


def measure_precache(root: Path, hosts: int = 100, rounds: int = 3) -> Iterator[Row]:
    """What it costs the processors to find out that every host has all images, against a ping of the same hosts."""
    count = 10
    with hosts_of(root, hosts) as inventory, glance_of(root, count) as images:
        variables = json.dumps({"image_cache_openstack_cloud": "lab", "image_cache_precache_images": images})
        precache = ("stackops.nova.precache", "--extra-vars", variables)
        results = [[fleet.run(inventory, FORKS, *play) for play in (("ping",), precache)] for _round in range(rounds)]
    peer, ours = (fleet.medians(column) for column in zip(*results, strict=True))
    figure = f"precache, {count} images, all present / ping, processor time, {hosts} hosts"
    ours_seconds, seconds = ours.processor_seconds, peer.processor_seconds
    yield ratio(figure, ours_seconds / seconds, 1.5, ms(ours_seconds), ms(seconds))
    yield note("the same, elapsed", ours.seconds / peer.seconds, ms(ours.seconds), ms(peer.seconds))


@contextmanager
def glance_of(root: Path, count: int) -> Iterator[list[str]]:
    """The ids of so many images of a cloud, which the hosts of :func:`hosts_of` have in their caches."""
    with openstack_apis.cloud() as running:
        running.roles = ["reader"]
        running.images["lab"] = [precaches.image(f"image {number}", size=1 << 20) for number in range(count)]
        openstack_apis.write_clouds(root, {"lab": running.url})
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(root / "clouds.yaml")
        yield [image["id"] for image in running.images["lab"]]


def measure_waves(root: Path, hosts: int = 8, image_bytes: int = 64 << 20) -> Iterator[Row]:
    """What Glance serves to the containers of one site, and how long they take where the lines are what bounds them."""
    # Here, because this takes what the step glance takes.
    from ansible_collections.stackops.nova.tests.support.edge_site import edge_site

    site_root, fleet_root = root / "site", root / "fleet"
    for folder in (site_root, fleet_root):
        folder.mkdir()
    raw, qcow2 = root / "image.raw", root / "image.qcow2"
    raw.write_bytes(os.urandom(image_bytes))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
    with edge_site(site_root, hosts) as site:
        compute = site.fleet(fleet_root)

        def precaching(image: dict[str, Any], *arguments: str, **variables: str) -> float:
            """Seconds that it takes to pre-cache an image on hosts without any."""
            site.begin()
            started = time.perf_counter()
            run = site.precache(compute, image, *arguments, **variables)
            if run.status != 0:
                raise SystemExit(run.output[-4000:])
            return time.perf_counter() - started

        served, converted = site.service.upload(raw), site.service.upload(qcow2, "qcow2")
        ours = precaching(served, image_cache_precache_max_rate="1M")
        yield copies(f"waves, {hosts} hosts, raw: copies that Glance serves", site.served_copies(served), 1)
        precaching(converted)
        yield copies(f"waves, {hosts} hosts, converted: copies that Glance serves", site.served_copies(converted), 2)
        peer = precaching(served, "--limit", site.hosts[0].name, image_cache_precache_max_rate="1M")
    megabytes = image_bytes >> 20
    yield ratio(f"waves, raw, {megabytes} MiB at 1 MiB/s, {hosts} hosts / 1 host", ours / peer, 4.3, ms(ours), ms(peer))


def _memory_rows(root: Path, hosts: int) -> Iterator[Row]:
    """What a host adds to the memory of the controller: that of twice as many hosts, less that of these."""
    with hosts_of(root, hosts) as few:
        smaller = {play: fleet.run(few, FORKS, *FLEET_PLAYS[play]).peak_bytes for play in MEMORY_PLAYS}
    with hosts_of(root, 2 * hosts) as many:
        larger = {play: fleet.run(many, FORKS, *FLEET_PLAYS[play]).peak_bytes for play in MEMORY_PLAYS}
    growth = {play: (larger[play] - smaller[play]) / hosts / 1e3 for play in MEMORY_PLAYS}
    for play in MEMORY_PLAYS:
        figure = f"the controller's memory, {play}, {2 * hosts} hosts more than {hosts}, a host"
        yield at_most(figure, growth[play], None if play == "ping" else 60, "KB", 0)


def measure_scale(root: Path, hosts: int = 1000, rounds: int = 1) -> Iterator[Row]:
    """What one of many hosts costs, against one of a hundred."""
    few = 100
    figures: dict[str, list[list[float]]] = {play: [] for play in SCALE_PLAYS}
    for _round in range(rounds):
        for count in (few, hosts):
            with hosts_of(root, count) as inventory:
                for play in SCALE_PLAYS:
                    result = fleet.run(inventory, FORKS, *FLEET_PLAYS[play])
                    figures[play].append([result.processor_seconds / count, result.peak_bytes / count])
    for play, measured in figures.items():
        small, large = (
            [statistics.median(column) for column in zip(*part, strict=True)]
            for part in (measured[0::2], measured[1::2])
        )
        figure = f"{play}, a host of {hosts} / a host of {few}"
        yield ratio(f"{figure}, processor time", large[0] / small[0], 1.15, ms(large[0]), ms(small[0]))
        yield ratio(f"{figure}, memory", large[1] / small[1], 1.15, kb(large[1]), kb(small[1]))


def measure_metrics(root: Path, hosts: int = 10_000, rounds: int = 1) -> Iterator[Row]:
    """What the metrics of many hosts cost, and of a tenth of them: each night's file, and each scrape of it."""
    for count in (hosts // 10, hosts):
        folder = root / f"metrics-{count}"
        folder.mkdir()
        first = writing(folder, count)
        again = medians_of([writing(folder, count) for _round in range(rounds)])
        scrape = medians_of([scraping(folder) for _round in range(rounds)])
        for figure, value, unit, digits in (
            ("series", first["series"], "", 0),
            ("series that Prometheus keeps", scrape["kept_series"], "", 0),
            ("the file", first["bytes"] / 1e6, "MB", 1),
            ("first written, processor time", first["processor_seconds"], "s", 1),
            ("written beside a former file, processor time", again["processor_seconds"], "s", 1),
            ("written beside a former file, elapsed", again["seconds"], "s", 1),
            ("written beside a former file, peak memory", again["peak_bytes"] / 1e6, "MB", 0),
            ("a scrape, processor time of both", scrape["processor_seconds"], "s", 1),
            ("a scrape, elapsed", scrape["seconds"], "s", 1),
            ("a scrape, peak memory of the node exporter", scrape["exporter_peak_bytes"] / 1e6, "MB", 0),
            ("a scrape, peak memory of Prometheus", scrape["prometheus_peak_bytes"] / 1e6, "MB", 0),
        ):
            yield at_most(f"metrics of {count:,} hosts, {figure}", value, None, unit, digits)


def writing(folder: Path, hosts: int) -> dict[str, float]:
    """The figures of a fresh process that writes the metrics of so many hosts, beside those that are there."""
    return figures_of("metrics.py", str(folder / "image_cache.prom"), str(hosts))


def scraping(folder: Path) -> dict[str, float]:
    """The figures of one scrape of a textfile folder."""
    return figures_of("scraping.py", str(folder))


def figures_of(script: str, *arguments: str) -> dict[str, float]:
    """What a script beside this one prints."""
    command = [sys.executable, str(HERE / script), *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def medians_of(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in figures) for name in figures[0]}


@contextmanager
def files_of(root: Path, count: int, size: int) -> Iterator[list[Path]]:
    """So many files of random bytes, all in the page cache."""
    with tempfile.TemporaryDirectory(dir=root) as directory:
        paths = [Path(directory, str(number)) for number in range(count)]
        for path in paths:
            with path.open("wb") as file:
                for _megabyte in range(size >> 20):
                    file.write(os.urandom(1 << 20))
        os.sync()
        yield paths


def verifying(paths: list[Path]) -> tuple[float, float]:
    """Seconds that a fresh process takes to hash the files, several at a time, and the memory that it takes."""
    command = [sys.executable, str(HERE / "hashing.py"), *map(str, paths)]
    figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return figures["seconds"], figures["peak_bytes"]


def reading(path: Path) -> float:
    return verifying([path])[0]


def openssl(path: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["openssl", "dgst", "-sha1", str(path)], check=True, capture_output=True)
    return time.perf_counter() - started


def tree_files(tree: CacheTree) -> Iterator[Path]:
    yield from tree.root.glob("**/*")


def ratio(figure: str, value: float, most: float, ours: str, peer: str) -> Row:
    return Row(figure, f"<= {most}", f"{value:.2f}", ours, peer, value <= most)


def at_least(figure: str, value: float, least: float, ours: float, peer: float) -> Row:
    return Row(figure, f">= {least}", f"{value:.2f}", ms(ours), ms(peer), value >= least)


def at_most(figure: str, value: float, most: float | None, unit: str, digits: int) -> Row:
    target = "" if most is None else f"<= {most} {unit}"
    return Row(figure, target, f"{value:,.{digits}f} {unit}".strip(), "", "", most is None or value <= most)


def copies(figure: str, value: float, most: int) -> Row:
    return Row(figure, f"<= {most}.0", f"{value:.2f}", "", "", value <= most)


def note(figure: str, value: float, ours: str, peer: str) -> Row:
    return Row(figure, "", f"{value:.2f}", ours, peer, True)


def line(figure: str, target: str, measured: str, ours: str, peer: str) -> str:
    """A line of a table in Markdown, as the documentation has it."""
    return f"| {figure:<72} | {target:>9} | {measured:>9} | {ours:>8} | {peer:>8} |"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"


def kb(size: float) -> str:
    return f"{size / 1e3:.0f} KB"


def us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} us"


PARTS: dict[str, Callable[..., Iterator[Row]]] = {
    "task": measure_task,
    "core": measure_core,
    "prune": measure_prune,
    "integrity": measure_integrity,
    "restore": measure_restore,
    "fetch": measure_fetch,
    "fleet": measure_fleet,
    "precache": measure_precache,
}
BY_HAND = {"scale": measure_scale, "metrics": measure_metrics, "waves": measure_waves}
OF_A_FLEET = ("fleet", "precache", "scale", "metrics")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, *BY_HAND, []], help="all but scale, metrics and waves if none is named"
    )
    parser.add_argument("--hosts", type=int, help="hosts of a fleet: 100, for scale 1,000, for metrics 10,000")
    parser.add_argument("--rounds", type=int, help="rounds, of which the median counts: 3, for scale and metrics 1")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    of_a_fleet = {name: value for name in ("hosts", "rounds") if (value := getattr(asked, name)) is not None}
    rows = []
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores\n")
    print(line("figure", "target", "measured", "ours", "peer"))
    print(line(*["---"] * 5))
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_ROOT")) as directory:
        for part in asked.parts or PARTS:
            options = of_a_fleet if part in OF_A_FLEET else {}
            for row in {**PARTS, **BY_HAND}[part](Path(directory), **options):
                rows.append(row)
                measured = row.measured if row.met else f"**{row.measured}**"
                print(line(row.figure, row.target, measured, row.ours, row.peer), flush=True)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
