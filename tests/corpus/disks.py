"""Disks with small systems on them, made with sfdisk, mke2fs and qemu-img."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

MEGABYTE = 1 << 20


def ext4(path: Path, content: Path, megabytes: int = 16, *options: str) -> Path:
    """A file system in a file, with the content of a directory."""
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", *options, "-d", content, path, f"{megabytes}M"], check=True)
    return path


def partitioned(path: Path, label: str, parts: Sequence[tuple[str, Path | int]], start: int = 1) -> Path:
    """A disk with a table, `gpt` or `dos`. Of each partition: words of sfdisk, and the file that goes in or its MiB."""
    sizes = [part if isinstance(part, int) else part.stat().st_size // MEGABYTE for _, part in parts]
    with path.open("wb") as disk:
        disk.truncate((start + sum(sizes) + len(sizes) + 2) * MEGABYTE)
    lines, at, places = [f"label: {label}"], start, []
    for (words, _), size in zip(parts, sizes, strict=True):
        lines.append(f"start={at}MiB, size={size}MiB, {words}")
        places.append(at)
        at += size + 1
    table = "\n".join(lines).encode() + b"\n"
    subprocess.run(["sfdisk", "-q", path], input=table, check=True, stdout=subprocess.DEVNULL)
    with path.open("r+b") as disk:
        for (_, part), place in zip(parts, places, strict=True):
            if isinstance(part, Path):
                disk.seek(place * MEGABYTE)
                disk.write(part.read_bytes())
    return path


def converted(disk: Path, form: str, *options: str) -> Path:
    target = disk.with_suffix(f".{form}")
    subprocess.run(["qemu-img", "convert", "-O", form, *options, disk, target], check=True)
    return target


def moved(system: Path, directory: str, target: Path) -> Path:
    """Takes what is in a directory of the system out of it, for a partition of its own."""
    target.mkdir()
    for entry in (system / directory).iterdir():
        entry.rename(target / entry.name)
    return target


def fstab(system: Path, lines: Mapping[str, str]) -> None:
    """Mount points by their sources."""
    text = "".join(f"{spec} /{path} auto defaults 0 0\n" for path, spec in lines.items())
    (system / "etc/fstab").write_text(text)


@contextmanager
def attached(disk: Path) -> Iterator[str]:
    """The loop device of a disk, read-only; it is gone when nothing has it open any more."""
    device = subprocess.check_output(["losetup", "--find", "--show", "--read-only", disk], text=True).strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
