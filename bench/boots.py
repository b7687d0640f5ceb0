"""`make bench-boot`: seconds and bytes from power-on to a login prompt, as a markdown table or JSON.

One Debian root is published as a user would do it, and a virtual machine without KVM boots it with each transport and
our initrd, and with NFS and its distribution's initrd followed by ours. `ltsp boottest` reports the times. A boot takes
a minute on two slow processors; one round takes five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.report import table
from corpus.diskless import one_at_a_time
from corpus.site import Site
from tools.debian_root import CHECKOUT, shared

SCRATCH = CHECKOUT / "build" / "bench-boot"
NAME = "lab"
STAGES = ("kernel", "initrd", "attach", "root", "systemd", "login")
"""The stages of `ltsp boottest` in the table: at the end of each, another program takes over."""
SHARE = 0.75
"""Limit for the time to login with our initrd, relative to the distribution's, both with NFS."""
RECEIVED = 31_000_000
"""Limit for the bytes that the kernel receives through NFS until the system is up."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a client boots."""

    transport: str
    memory: int
    """MiB."""
    initrd: str = "ltsp"
    """The value of CLIENT_INITRD in ltsp.conf."""

    @property
    def name(self) -> str:
        return self.transport if self.initrd == "ltsp" else f"{self.transport}, the distribution's initrd"


WAYS = (
    Way("nfs", 1024),
    Way("nbd", 1024),
    Way("http", 1280),
    Way("file", 1400),
    Way("nfs", 1024, "distro"),
)


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot, or the medians of several."""

    way: str
    seconds: dict[str, float]
    """Seconds from power-on to each stage."""
    processor: float
    """CPU seconds of this machine, including servers, which are less affected by other load than wall-clock time."""
    loaded: int
    """Bytes loaded by the firmware: kernel and initrds."""
    received: int
    """Bytes received by the kernel until the system was up."""
    available: int
    """Bytes of available memory at that time."""

    @classmethod
    def median(cls, boots: Sequence[Boot]) -> Boot:
        stages = {stage: statistics.median(boot.seconds[stage] for boot in boots) for stage in boots[0].seconds}
        received = statistics.median_low([boot.received for boot in boots])
        return cls(
            boots[0].way,
            stages,
            statistics.median(boot.processor for boot in boots),
            boots[0].loaded,
            received,
            min(boot.available for boot in boots),
        )


def report_progress(text: str) -> None:
    """Report progress on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def publish_root(root: Path) -> Site:
    """A separate server with the root as an image."""
    site = Site.make(SCRATCH)
    report_progress(f"publishing {root.relative_to(CHECKOUT)}")
    site.ltsp("image", f"--name={NAME}", "--ionice=", str(root))
    site.ltsp("initrd")
    return site


def boots(site: Site, ways: Sequence[Way], rounds: int, fetch: str) -> Iterator[Boot]:
    """Boot each way `rounds` times; return the medians of each."""
    found: dict[Way, list[Boot]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(_boot(site, way, fetch))
            report_progress(f"{way.name}: login after {found[way][-1].seconds['login']:.1f} s")
    yield from map(Boot.median, found.values())


def _boot(site: Site, way: Way, fetch: str) -> Boot:
    """Raises SystemExit if the boot fails: there is nothing to measure."""
    site.conf.write_text(f"[clients]\nCLIENT_INITRD={way.initrd}\n")
    site.conf.chmod(0o644)
    site.ltsp("ipxe")
    words = [
        "--json",
        "--accel=tcg",
        f"--fetch={fetch}",
        f"--transport={way.transport}",
        f"--memory={way.memory}",
        NAME,
    ]
    with one_at_a_time():
        before = _processor()
        done = site.ltsp("boottest", *words, status=None)
    verdict = json.loads(done.stdout)
    if not verdict["passed"]:
        sys.exit(f"{way.name}: {verdict['cause']}\n" + "\n".join(verdict["tail"]))
    return Boot(
        way.name,
        {stage: round(verdict["seconds"][stage], 1) for stage in STAGES if stage in verdict["seconds"]},
        round(_processor() - before, 1),
        sum(os.stat(path).st_size for path in _loaded(site, way)),
        sum(verdict["guest"]["received"].values()),
        verdict["guest"]["available_kib"] << 10,
    )


def _processor() -> float:
    """CPU seconds of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _loaded(site: Site, way: Way) -> Iterator[Path]:
    """The files that the menu script loads."""
    version = site.tftp / "ltsp" / NAME / "current"
    yield version / "vmlinuz"
    yield version / ("client.img" if way.initrd == "ltsp" else "initrd.img")  # which includes ours
    yield site.tftp / "ltsp/ltsp.img"
    if way.transport == "nbd":
        yield version / "nbd.img"
    if way.transport == "file":
        yield site.base / "images" / f"{NAME}.img"


def rows(found: Sequence[Boot]) -> str:
    return table(
        ["transport", *(f"{stage} s" for stage in STAGES), "CPU s", "loaded MB", "received MB", "memory available MB"],
        [
            [
                boot.way,
                *(f"{boot.seconds[stage]:.1f}" if stage in boot.seconds else "" for stage in STAGES),
                f"{boot.processor:.1f}",
                *(f"{size / 1e6:.1f}" for size in (boot.loaded, boot.received, boot.available)),
            ]
            for boot in found
        ],
    )


def goals(found: Sequence[Boot]) -> Iterator[str]:
    """The goals and whether they are reached, one a line."""
    by_name = {boot.way: boot for boot in found}
    ours = by_name.get(WAYS[0].name)
    theirs = by_name.get(WAYS[-1].name)
    if ours:
        reached = _reached(ours.received <= RECEIVED)
        yield f"{reached}: {ours.received / 1e6:.1f} MB received through NFS, ≤ {RECEIVED / 1e6:.0f} MB"
    if ours and theirs:
        share = ours.seconds["login"] / theirs.seconds["login"]
        yield f"{_reached(share <= SHARE)}: {share:.2f} of the time of the distribution's initrd, ≤ {SHARE}"


def _reached(reached: bool) -> str:
    return "reached" if reached else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-boot", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="boots of each way to take medians of")
    parser.add_argument("--ways", nargs="*", default=[], metavar="TRANSPORT", help="only these transports")
    parser.add_argument(
        "--fetch",
        choices=("tftp", "http"),
        default="tftp",
        help="how iPXE gets kernel and initrds: TFTP by default",
    )
    options = parser.parse_args()
    ways = [way for way in WAYS if not options.ways or way.transport in options.ways]

    shutil.rmtree(SCRATCH, ignore_errors=True)
    try:
        site = publish_root(shared())
        image = os.stat(site.base / "images" / f"{NAME}.img").st_size
        found = list(boots(site, ways, options.rounds, options.fetch))
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
    if options.json:
        print(
            json.dumps(
                {"image": image, "processors": os.cpu_count(), "fetch": options.fetch, "boots": [*map(asdict, found)]},
                indent=1,
            )
        )
        return
    where = f"QEMU without KVM on {os.cpu_count()} processors ({platform.machine()})"
    print(
        f"Seconds from power-on, in {where}; iPXE loads with {options.fetch.upper()}. "
        f"The image has {image / 1e6:.0f} MB; medians of {options.rounds}.\n"
    )
    print(rows(found))
    print()
    print("\n".join(goals(found)))


if __name__ == "__main__":
    main()
