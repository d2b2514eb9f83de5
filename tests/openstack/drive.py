# Copyright (c) 2026, stackops.nova contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drives a real nova while audits and prunes run beside it, and looks for any loss; the README beside this says how."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import host
from .cloud_api import Broken, Cloud
from .compare import Evidence, differences
from .nova_log import next_nova_pass
from .passes import Passes
from .workload import FLAVORS, Server, Workload

PEOPLE = 3
ROUND_SECONDS = 50
POPULATION = 12
IMAGES = 14
MINIMUM_AGE = 25  # nova's own pass, every 15 s, sets the time of what it takes to be in use
MiB = 1024 * 1024


@dataclass
class Findings:
    """What was looked at, and what was wrong."""

    comparisons: int = 0
    compared_files: int = 0
    chains: int = 0
    explained: Counter[str] = field(default_factory=Counter)
    api_prunes: int = 0
    rebooted: int = 0
    checked_disks: int = 0
    booted_after_prune: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, what: str) -> None:
        print(f"WRONG: {what}", flush=True)
        self.wrong.append(what)


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def make_images(cloud: Cloud, work: Path) -> dict[str, str]:
    """Upload small images of random bytes, raw and qcow2, and return their ids by name."""
    images = {}
    for number in range(IMAGES):
        raw = work / f"image{number}.raw"
        raw.write_bytes(os.urandom((4 + number % 5) * MiB))
        if number % 2 == 0:
            images[f"raw{number}"] = cloud.upload(f"raw{number}", str(raw), "raw")
        else:
            qcow2 = raw.with_suffix(".qcow2")
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)
            images[f"qcow2-{number}"] = cloud.upload(f"qcow2-{number}", str(qcow2), "qcow2")
    return images


def evidence(cloud: Cloud, servers: list[Server], chains: dict[Path, list[str]]) -> Evidence:
    """Gather what can be known without the product, while nothing happens."""
    disks: dict[str, set[tuple[str, str]]] = {}
    for disk, chain in chains.items():
        for path in chain[1:]:
            disks.setdefault(Path(path).name, set()).add((disk.parent.name, disk.name))
    former = [FLAVORS[flavor] for server in servers for flavor in server.former_flavors]
    return Evidence(
        disks=disks,
        domain_files=host.domain_files(),
        servers=set(cloud.servers()),
        resized={server.id for server in servers if server.former_flavors},
        former_files={f"swap_{sizes['swap']}" for sizes in former if "swap" in sizes}
        | {f"ephemeral_{sizes['ephemeral']}_0706d66" for sizes in former if "ephemeral" in sizes},
    )


def compare_views(cloud: Cloud, workload: Workload, passes: Passes, findings: Findings) -> None:
    """Compare our audit with nova's pass while nothing happens."""
    nova = next_nova_pass()
    answer = passes.run(prune=False)["audit"]
    facts = answer.get("ansible_facts", {}).get("image_cache")
    if facts is None or facts["unknown_use"] or facts["missing"]:
        findings.add(f"an audit at rest: {facts['unknown_use'] + facts['missing'] if facts else answer}")
    if facts is None:
        return
    ours = {file["name"]: file["state"] for file in facts["files"] if file["kind"] not in ("other", "kernel")}
    findings.comparisons += 1
    findings.compared_files += len(ours)
    chains, broken = host.chains()
    findings.chains += len(chains)
    for disk, problem in broken.items():
        findings.add(f"the chain of {disk} is broken: {problem}")
    for difference in differences(nova, ours, evidence(cloud, workload.servers, chains)):
        if difference.why is None:
            findings.add(f"a difference without a reason: {difference}")
        else:
            findings.explained[f"nova: {difference.nova}, ours: {difference.ours}: {difference.why}"] += 1


def check_servers(cloud: Cloud, workload: Workload, findings: Findings) -> None:
    there = cloud.servers()
    for server in workload.servers:
        if there.get(server.id) != server.state:
            findings.add(f"server {server.id} is {there.get(server.id)} instead of {server.state}")


def prune_with_servers(cloud: Cloud, passes: Passes, findings: Findings) -> None:
    """Prune by the instances of the API, and see that the dry run had listed what was removed."""
    answer = passes.run(prune=True, servers=cloud.records())
    said, done = (answer[name].get("image_cache", {}) for name in ("dry_run", "prune"))
    findings.api_prunes += 1
    if not said or not done or done["unknown_use"] or said["removed"] != done["removed"]:
        findings.add(f"a prune with the servers of the API at rest: {answer['prune'].get('msg')}, {said}, {done}")


def checkpoint(cloud: Cloud, workload: Workload, passes: Passes, findings: Findings) -> None:
    with passes.paused():
        check_servers(cloud, workload, findings)
        compare_views(cloud, workload, passes, findings)
        if findings.comparisons % 3 == 1:
            prune_with_servers(cloud, passes, findings)
    states = Counter(server.state for server in workload.servers)
    say(
        f"{sum(workload.done.values())} operations, {passes.tally.prunes} prunes, {passes.tally.files} files removed, "
        f"{findings.comparisons} comparisons, {len(workload.broken) + len(findings.wrong)} wrong; "
        + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    )


def reboot_all(cloud: Cloud, workload: Workload, findings: Findings) -> None:
    """Reboot every server hard, so that nova and QEMU open each chain afresh."""
    for server in workload.servers:
        try:
            cloud.act(server.id, "reboot", {"type": "HARD"})
            cloud.wait(server.id, "ACTIVE")
            findings.rebooted += 1
        except Broken as exc:
            findings.add(f"hard reboot: {exc}")


def check_disks(cloud: Cloud, workload: Workload, findings: Findings) -> None:
    """Check every disk and its chain, with the guests off."""
    for server in workload.servers:
        try:
            cloud.act(server.id, "os-stop")
            cloud.wait(server.id, "SHUTOFF")
        except Broken as exc:
            findings.add(f"stop: {exc}")
    for disk in host.disks():
        problem = host.check(disk)
        findings.checked_disks += 1
        if problem is not None:
            findings.add(f"{disk}: {problem}")


def boot_after_prune(cloud: Cloud, workload: Workload, passes: Passes, findings: Findings, image: str) -> None:
    """Make a server of an image that nobody uses and whose base file is gone."""
    name = host.fingerprint(workload.images[image])
    end = time.monotonic() + 180
    while (host.CACHE / name).exists() or name not in passes.tally.removed:
        if time.monotonic() > end:
            findings.add(f"the base file {name} of {image}, which nobody uses, was not removed")
            return
        time.sleep(2)
    if workload.make(cloud, "after-prune", image, "swap64") is not None:
        findings.booted_after_prune += 1


def summary(workload: Workload, passes: Passes, findings: Findings, seconds: float) -> str:
    tally = passes.tally
    rows: list[tuple[str, Any]] = [
        ("workload", f"{seconds / 60:.1f} minutes"),
        ("operations on servers", sum(workload.done.values())),
        *((f"  {step}", count) for step, count in sorted(workload.done.items())),
        ("audits", tally.audits),
        ("dry runs, and as many prunes", tally.prunes),
        ("  with the servers of the API", findings.api_prunes),
        ("  refused or failed", len(tally.refused)),
        ("files removed", f"{tally.files}, of {len(tally.removed)} names, {tally.reclaimed_bytes / MiB:.0f} MiB"),
        *((f"  kept at the last moment: {reason}", count) for reason, count in sorted(tally.kept.items())),
        ("comparisons with nova's pass", f"{findings.comparisons}, {findings.compared_files} files"),
        *((f"  differ: {why}", count) for why, count in sorted(findings.explained.items())),
        ("chains followed meanwhile", findings.chains),
        ("servers rebooted hard, ACTIVE again", findings.rebooted),
        ("disks checked, with their chains", findings.checked_disks),
        ("servers made of a pruned image", findings.booted_after_prune),
        ("wrong", len(findings.wrong) + len(workload.broken)),
    ]
    lines = [f"| {name} | {value} |" for name, value in rows]
    details = [*(f"refused: {why}" for why in tally.refused), *(f"missing: {what}" for what in tally.missing)]
    details += [f"WRONG: {what}" for what in [*findings.wrong, *workload.broken]]
    return "\n".join(["| what | measured |", "| --- | --- |", *lines, *details])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ansible-playbook", required=True)
    options = parser.parse_args()

    say(f"Making images and flavors; seed {options.seed}")
    cloud, findings = Cloud(), Findings()
    images = make_images(cloud, options.work)
    flavors = {name: cloud.make_flavor(name, **sizes) for name, sizes in FLAVORS.items()}
    workload = Workload(images, flavors, POPULATION, options.seed)
    passes = Passes(options.ansible_playbook, options.work, MINIMUM_AGE)

    # This image is used at the beginning and then no more, until the end.
    once = "raw0"
    server = workload.make(cloud, "before-prune", once, "plain")
    if server is not None:
        cloud.act(server.id, "forceDelete")
        workload.servers.remove(server)
    once_id = images.pop(once)

    workload.make_quiet(cloud, images.pop("raw2"))

    passes.start()
    begin = time.monotonic()
    try:
        while time.monotonic() < begin + options.minutes * 60:
            workload.run(PEOPLE, ROUND_SECONDS)
            checkpoint(cloud, workload, passes, findings)
        seconds = time.monotonic() - begin
        say("The workload is done; bringing every server home")
        workload.bring_home(cloud)
        reboot_all(cloud, workload, findings)
        images[once] = once_id
        boot_after_prune(cloud, workload, passes, findings, once)
        checkpoint(cloud, workload, passes, findings)
    finally:
        passes.stop()
    findings.wrong += passes.tally.broken
    check_disks(cloud, workload, findings)
    report = summary(workload, passes, findings, seconds)
    (options.work / "summary.md").write_text(report + "\n")
    print(report)
    return 1 if findings.wrong or workload.broken else 0


if __name__ == "__main__":
    sys.exit(main())
