"""Small disks of every format and with every table, as seeds for mutants: one directory each.

The disk itself is `disk`, other files are those that it names; `disk1` is another disk of the same system.
"""

from __future__ import annotations

import gzip
import lzma
import os
import random
import subprocess
from pathlib import Path

from corpus import luks
from disk import tables, vhdx_logs
from disk.tables import MIB, group, marked, physical_volume, striped, volume

FORMATS = {
    "qcow2-2": ["-O", "qcow2", "-o", "compat=0.10,cluster_size=4k"],
    "qcow2-3": ["-O", "qcow2"],
    "qcow2-zlib": ["-c", "-O", "qcow2"],
    "qcow2-zstd": ["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
    "qcow2-parts": ["-O", "qcow2", "-o", "extended_l2=on"],
    "vmdk-sparse": ["-O", "vmdk"],
    "vmdk-stream": ["-O", "vmdk", "-o", "subformat=streamOptimized"],
    "vmdk-flat": ["-O", "vmdk", "-o", "subformat=monolithicFlat"],
    "vmdk-split": ["-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"],
    "vdi": ["-O", "vdi"],
    "vhd": ["-O", "vpc", "-o", "force_size=on"],
    "vhd-fixed": ["-O", "vpc", "-o", "subformat=fixed,force_size=on"],
    "vhdx": ["-O", "vhdx", "-o", "block_size=1M"],
}
_SMALL_HEADER = ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k"]


def make(directory: Path) -> list[Path]:
    """All of them, in `directory`."""
    chance = random.Random(8)
    base = directory / "base"
    base.write_bytes(bytes(64 * 1024) + chance.randbytes(20_000) + bytes(100_000) + b"text " * 30_000 + bytes(2 * MIB))
    for name, words in FORMATS.items():
        made = _place(directory, name)
        subprocess.run(["qemu-img", "convert", "-f", "raw", *words, base, made], check=True, capture_output=True)
    made = _place(directory, "qcow2-chain")
    (made.parent / "below").write_bytes(base.read_bytes()[:MIB])
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "below", "-F", "raw", made, "2M"]
    subprocess.run(words, check=True, capture_output=True)
    disk = (directory / "vhdx/disk").read_bytes()
    place = disk.rindex(b"text text") // vhdx_logs.PAGE * vhdx_logs.PAGE
    entry = vhdx_logs.Entry(7, {place: b"logged  " * 512}, [(place + vhdx_logs.PAGE, vhdx_logs.PAGE)])
    _place(directory, "vhdx-log").write_bytes(vhdx_logs.logged(disk, [entry]))
    for name, pack in (("gzip", gzip.compress), ("xz", lzma.compress)):
        _place(directory, name).write_bytes(pack((directory / "qcow2-zlib/disk").read_bytes()))
    scripts = {
        "mbr": "label: dos\nsize=1M,type=83\nsize=6M,type=5\nsize=1M\nsize=1M\nsize=1M\n",
        "gpt": "label: gpt\nsize=1M,name=root\nsize=1M\n",
    }
    for name, script in scripts.items():
        disk = _place(directory, name)
        disk.write_bytes(b"")
        os.truncate(disk, 8 * MIB)
        tables.sfdisk(disk, script)
        tables.put(disk, MIB, marked("ext"))
    for version in ("0.90", "1.0", "1.1", "1.2"):
        _place(directory, f"md-{version}").write_bytes(tables.mirror(marked("ext", 256 * 1024), version))
    extents = [chance.randbytes(16) * (tables.EXTENT // 16) for _ in range(2)]
    text = group(
        volume("root", striped(0, 1, ("pv0", 1)), striped(1, 1, ("pv1", 0)))
        + volume("home", striped(0, 2, ("pv0", 0), ("pv1", 1), stripe=64)),
        count=2,
    )
    disk = _place(directory, "lvm")
    disk.write_bytes(physical_volume(tables.UUIDS[0], text, extents))
    (disk.parent / "disk1").write_bytes(physical_volume(tables.UUIDS[1], text, extents, wrapped=True))
    for version, words in (("1", ["--offset", "4096"]), ("2", [*_SMALL_HEADER, "--offset", "1024"])):
        disk = _place(directory, f"luks{version}")
        disk.write_bytes(bytes(3 * MIB))
        (disk.parent.parent / "key").write_bytes(b"key")
        format_ = ["cryptsetup", "--batch-mode", "luksFormat", "--type", f"luks{version}", *luks.FAST, *words]
        subprocess.run([*format_, "--key-file", disk.parent.parent / "key", disk], check=True, capture_output=True)
    (directory / "key").unlink()
    base.unlink()
    return sorted(path for path in directory.iterdir() if path.is_dir())


def _place(directory: Path, name: str) -> Path:
    (directory / name).mkdir()
    return directory / name / "disk"
