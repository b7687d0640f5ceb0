"""A disk in each format that hypervisors use, made by qemu-img and by programs that compress files."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

_PIECE = 64 << 10
_STEP = 3 << 20


def _qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True)


def converted(form: str, *options: str) -> Callable[[Path, Path], Path]:
    def make(raw: Path, at: Path) -> Path:
        target = at / f"disk.{form}"
        _qemu_img("convert", "-f", "raw", "-O", form, *options, raw, target)
        return target

    return make


def compressed(*command: str, before: Callable[[Path, Path], Path] | None = None) -> Callable[[Path, Path], Path]:
    """In the file that a program writes to its output, with a name that says nothing."""

    def make(raw: Path, at: Path) -> Path:
        target = at / "compressed"
        with target.open("wb") as output:
            subprocess.run([*command, before(raw, at) if before else raw], stdout=output, check=True)
        return target

    return make


def _other_state(raw: Path, at: Path) -> Path:
    """The disk as it may have been before: not the same anywhere that matters."""
    other = at / "before"
    subprocess.run(["cp", "--sparse=always", raw, other], check=True)
    chance = random.Random(7)
    with other.open("r+b") as file:
        for place in range(0, raw.stat().st_size, _STEP):
            file.seek(place)
            file.write(chance.randbytes(_PIECE))
    return other


def _over(state: Path, form: str, raw: Path, overlay: Path) -> Path:
    """A difference to `state` that makes it the disk."""
    _qemu_img("create", "-f", "qcow2", "-b", raw, "-F", "raw", overlay)
    _qemu_img("rebase", "-f", "qcow2", "-b", state.name, "-F", form, overlay)
    return overlay


def _with_backing(raw: Path, at: Path) -> Path:
    return _over(_other_state(raw, at), "raw", raw, at / "overlay.qcow2")


def _with_snapshots(raw: Path, at: Path) -> Path:
    """A state that a snapshot keeps, then the disk, which is active."""
    state = at / "disk.qcow2"
    _qemu_img("convert", "-f", "raw", "-O", "qcow2", _other_state(raw, at), state)
    for name in ("first", "second"):
        _qemu_img("snapshot", "-c", name, state)
    _qemu_img("commit", "-f", "qcow2", _over(state, "qcow2", raw, at / "overlay.qcow2"))
    return state


FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "raw": lambda raw, _at: raw,
    "qcow2": converted("qcow2"),
    "qcow2 of version 2": converted("qcow2", "-o", "compat=0.10"),
    "qcow2 by zlib": converted("qcow2", "-c"),
    "qcow2 by zstd": converted("qcow2", "-c", "-o", "compression_type=zstd"),
    "qcow2 over another disk": _with_backing,
    "qcow2 with snapshots of older states": _with_snapshots,
    "VMDK, flat": converted("vmdk", "-o", "subformat=monolithicFlat"),
    "VMDK, sparse": converted("vmdk", "-o", "subformat=monolithicSparse"),
    "VMDK as a stream": converted("vmdk", "-o", "subformat=streamOptimized"),
    "VMDK in sparse files": converted("vmdk", "-o", "subformat=twoGbMaxExtentSparse"),
    "VMDK in flat files": converted("vmdk", "-o", "subformat=twoGbMaxExtentFlat"),
    "VDI that grows": converted("vdi"),
    "VDI of fixed size": converted("vdi", "-o", "static=on"),
    "VHD that grows": converted("vpc"),
    "VHD of fixed size": converted("vpc", "-o", "subformat=fixed"),
    "VHDX that grows": converted("vhdx"),
    "VHDX of fixed size": converted("vhdx", "-o", "subformat=fixed"),
    "raw in gzip": compressed("gzip", "-1", "-c"),
    "raw in xz": compressed("xz", "-0", "-T1", "-c"),
    "raw in zstd": compressed("zstd", "-q", "-1", "-c"),
    "raw in bzip2": compressed("bzip2", "-1", "-c"),
    "qcow2 in zstd": compressed("zstd", "-q", "-1", "-c", before=converted("qcow2")),
    "VMDK as a stream in gzip": compressed(
        "gzip", "-1", "-c", before=converted("vmdk", "-o", "subformat=streamOptimized")
    ),
}
