"""A tree as a prototype for mkfs.xfs, for file systems that no kernel here mounts: xfs version 4."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from corpus import format_limits

_TYPES = {
    stat.S_IFREG: "-",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
    stat.S_IFIFO: "p",
}
LOSSES = (
    replace(
        format_limits.entries(
            "a prototype has words between blanks, owners of 31 bits, no sockets and no long links",
            lambda path, entry: (
                re.search(rb"\s", path + entry.target) is not None
                or re.search(rb"(^|/)[:$]", path) is not None
                or max(entry.uid, entry.gid) >= 1 << 31
                or len(entry.target) > 1023
                or entry.device[1] >= 1 << 18
                or entry.kind == "s"
            ),
        ),
        refused=True,
    ),
    format_limits.attributes("a prototype has no attributes", lambda *_: True),
    format_limits.links("a prototype has one name for each file", "flbcp"),
    format_limits.each("a prototype has no sticky bit", lambda entry: replace(entry, mode=entry.mode & ~0o1000)),
    replace(format_limits.times("times are those of mkfs", lambda _: 0), varies=True),
)


def prototype(tree: Path, target: Path) -> Path:
    """The contents are taken from copies without attributes: some mkfs.xfs take those over, ACLs under another name."""
    contents = target.with_name(f"{target.name}.contents")
    call = ["cp", "--recursive", "--no-dereference", "--preserve=links", "--sparse=always", tree, contents]
    subprocess.run(call, check=True)
    lines = _lines(os.fsencode(tree), os.fsencode(contents))
    target.write_bytes(b"boot\n0 0\n" + b"\n".join(lines) + b"\n$\n")
    return target


def _lines(path: bytes, content: bytes, name: bytes = b"") -> Iterator[bytes]:
    """A node, and what is below it. mkfs.xfs(8), `-p`"""
    status = os.lstat(path)
    kind = _TYPES[stat.S_IFMT(status.st_mode)]
    bits = ("u" if status.st_mode & stat.S_ISUID else "-") + ("g" if status.st_mode & stat.S_ISGID else "-")
    words = [f"{kind}{bits}{status.st_mode & 0o777:03o}".encode(), b"%d" % status.st_uid, b"%d" % status.st_gid]
    if name:
        words.insert(0, name)
    match kind:
        case "-":
            words.append(content)
        case "l":
            words.append(os.readlink(path))
        case "b" | "c":
            words += [b"%d" % os.major(status.st_rdev), b"%d" % os.minor(status.st_rdev)]
    yield b" ".join(words)
    if kind == "d":
        for below in sorted(os.listdir(path)):
            yield from _lines(os.path.join(path, below), os.path.join(content, below), below)
        if name:
            yield b"$"
