"""A file system in each place on a disk where an installer puts it: partitions, LVM, RAID1.

LVM is made by lvm itself, on loop devices and without a device-mapper; of a RAID the kernel would make the members.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from disk import tables

MIB = 1 << 20
_NUMBERS = count()
_STRIPE = 64 << 10
_EXTENT = 4 * MIB


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def put(part: Path, disk: Path, offset: int) -> None:
    """Copy a file into a disk, but for the zeros in it."""
    words = ["dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={offset}", "oflag=seek_bytes", "conv=sparse,notrunc"]
    subprocess.run(words, check=True, capture_output=True)


def table(disk: Path, label: str, lines: Sequence[str]) -> None:
    tables.sfdisk(disk, "\n".join([f"label: {label}", *lines]) + "\n")


def megabytes(part: Path) -> int:
    return -(-part.stat().st_size // MIB)


def _partition(label: str, before: Sequence[str], kind: str, at: int) -> Callable[[Path, Path], Path]:
    """In the last partition, at so many MiB."""

    def make(part: Path, disk: Path) -> Path:
        size = megabytes(part)
        sparse(disk, (at + size + 2) * MIB)
        table(disk, label, [*before, f"start={at}MiB, size={size}MiB, type={kind}"])
        put(part, disk, at * MIB)
        return disk

    return make


def _logical(part: Path, disk: Path) -> Path:
    """The second of the partitions in an extended one."""
    size = megabytes(part)
    sparse(disk, (size + 16) * MIB)
    lines = ["start=1MiB, size=2MiB, type=82", f"start=4MiB, size={size + 10}MiB, type=5"]
    table(disk, "dos", [*lines, "start=5MiB, size=2MiB, type=82", f"start=8MiB, size={size}MiB, type=83"])
    put(part, disk, 8 * MIB)
    return disk


def _hybrid(part: Path, disk: Path) -> Path:
    """A GPT with an MBR that has one of its partitions, too, as what boots a Mac or a Raspberry Pi has."""
    _partition("gpt", ["start=1MiB, size=2MiB, type=uefi"], "linux", 4)(part, disk)
    entry = bytes([0x80, 0, 2, 0, 0x0C, 0, 0, 0]) + (2048).to_bytes(4, "little") + (4096).to_bytes(4, "little")
    tables.put(disk, 446 + 16, entry)
    return disk


@contextmanager
def loop(disk: Path, start: int, size: int) -> Iterator[str]:
    """A device for a part of a disk, of which the kernel reads no table."""
    words = ["losetup", "-f", "--show", "-o", str(start), "--sizelimit", str(size), disk]
    device = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


class Lvm:
    """The program on some devices alone, whatever the machine has."""

    def __init__(self, devices: Sequence[str]) -> None:
        only = ", ".join(f'"a|^{device}$|"' for device in devices)
        self.config = (
            f'devices {{ filter=[{only}, "r|.*|"] use_devicesfile=0 }} activation {{ udev_sync=0 monitoring=0 }}'
            ' backup { backup=0 archive=0 } global { use_lvmpolld=0 locking_dir="/run/lock/lvm" }'
        )

    def __call__(self, *words: str) -> str:
        return subprocess.run(
            ["lvm", words[0], "--config", self.config, "--driverloaded", "n", *words[1:]],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "LVM_SUPPRESS_FD_WARNINGS": "1"},
        ).stdout


def new_group() -> str:
    """A name that no other test gives its group."""
    return f"ltsp{os.getpid()}x{next(_NUMBERS)}"


_CREATE = ("lvcreate", "-q", "-an", "-Zn", "-Wn", "-n")


def volume_group(
    disk: Path, places: Sequence[tuple[int, int]], group: str, commands: Callable[[Lvm, list[str]], None]
) -> dict[str, list[list[tuple[int, int]]]]:
    """Make physical volumes of parts of a disk, given in bytes, and what the commands make of them.

    Of each logical volume its segments, and of these, per stripe, the place on the disk and the bytes.
    """
    (first, _size), *others = places
    if others:
        with loop(disk, first, places[0][1]) as one, loop(disk, *others[0]) as two:
            return _grouped([one, two], [first, others[0][0]], group, commands)
    with loop(disk, *places[0]) as one:
        return _grouped([one], [first], group, commands)


def _grouped(
    devices: list[str], starts: list[int], group: str, commands: Callable[[Lvm, list[str]], None]
) -> dict[str, list[list[tuple[int, int]]]]:
    lvm = Lvm(devices)
    lvm("pvcreate", "-q", *devices)
    lvm("vgcreate", "-q", "-s", f"{_EXTENT}b", group, *devices)
    commands(lvm, devices)
    first = {
        pv["pv_name"]: int(pv["pe_start"])
        for pv in _report(
            lvm("pvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "pv_name,pe_start"), "pv"
        )
    }
    words = ("--segments", "-o", "lv_name,seg_start_pe,seg_pe_ranges", "--sort", "lv_name,seg_start_pe")
    found: dict[str, list[list[tuple[int, int]]]] = {}
    for segment in _report(lvm("lvs", "--reportformat", "json", *words, group), "seg"):
        stripes = []
        for one in segment["seg_pe_ranges"].split():
            device, _, extents = one.rpartition(":")
            begin, end = map(int, extents.split("-"))
            place = starts[devices.index(device)] + first[device] + begin * _EXTENT
            stripes.append((place, (end - begin + 1) * _EXTENT))
        found.setdefault(segment["lv_name"], []).append(stripes)
    return found


def _report(text: str, what: str) -> list[dict[str, str]]:
    report: list[dict[str, str]] = json.loads(text)["report"][0][what]
    return report


def put_volume(part: Path, disk: Path, segments: list[list[tuple[int, int]]]) -> None:
    """Copy a file into a logical volume, of which the segments are known."""
    with part.open("rb") as source, disk.open("r+b") as target:
        for stripes in segments:
            for at in range(0, stripes[0][1], _STRIPE):
                for place, _size in stripes:
                    if (data := source.read(_STRIPE)).strip(b"\0"):
                        target.seek(place + at)
                        target.write(data)
        assert not source.read(1)


def _lvm(kind: str) -> Callable[[Path, Path], Path]:
    def make(part: Path, disk: Path) -> Path:
        extents = -(-part.stat().st_size // _EXTENT)
        size = (extents + 8) * _EXTENT
        two = kind != "linear"
        sparse(disk, 2 * MIB + (size + MIB) * (1 + two) + MIB)
        places = [(MIB, size), (MIB + size + MIB, size)][: 1 + two]
        table(disk, "gpt", [f"start={at // MIB}MiB, size={length // MIB}MiB, type=lvm" for at, length in places])
        group = new_group()

        def commands(lvm: Lvm, devices: list[str]) -> None:
            half = extents // 2
            if kind == "striped":
                lvm(*_CREATE, "root", "-i2", "-I64k", "-l", str(extents + extents % 2), group)
                return
            lvm(*_CREATE, "root", "-l", str(extents - half), group, devices[0])
            lvm(*_CREATE, "swap_1", "-l", "2", group, devices[0])
            lvm("lvextend", "-q", "-l", f"+{half}", f"{group}/root", devices[-1])

        put_volume(part, disk, volume_group(disk, places, group, commands)["root"])
        return disk

    return make


def _mirror(version: str) -> Callable[[Path, Path], Path]:
    """One member of two; the other is on another disk."""

    def make(part: Path, disk: Path) -> Path:
        start, place, superblock, size = tables.mirrored(part.stat().st_size, version)
        sparse(disk, 4 * MIB + size)
        table(disk, "gpt", ["start=1MiB, size=1MiB, type=uefi", f"start=2MiB, size={size // 512}, type=raid"])
        put(part, disk, 2 * MIB + start)
        tables.put(disk, 2 * MIB + place, superblock)
        return disk

    return make


LAYOUTS: dict[str, Callable[[Path, Path], Path]] = {
    "no table": lambda part, _disk: part,
    "MBR, a primary partition": _partition("dos", ["start=1MiB, size=2MiB, type=82"], "83", 4),
    "MBR, a logical partition": _logical,
    "GPT": _partition("gpt", ["start=1MiB, size=1MiB, type=uefi", "start=2MiB, size=1MiB, type=swap"], "linux", 4),
    "GPT with an MBR that says something else": _hybrid,
    "GPT, over the border of 2 GiB": _partition("gpt", ["start=1MiB, size=1MiB, type=uefi"], "linux", 2030),
    "LVM": _lvm("linear"),
    "LVM in stripes": _lvm("striped"),
    "LVM over two partitions": _lvm("two"),
    **{f"RAID1 of version {version}": _mirror(version) for version in ("0.90", "1.0", "1.1", "1.2")},
}
