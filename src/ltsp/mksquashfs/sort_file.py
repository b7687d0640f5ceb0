"""The file of `-sort`: which files come first in an image, by path and priority, as mksquashfs(1) reads it.

One path a line and a priority from -32768 to 32767 after it, higher ones first, 0 for what is not listed. A directory
gives its priority to all below it that has none of its own. A backslash protects the character after it, white space
above all; `#` begins a comment line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ltsp.errors import UsageError
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_LINE = re.compile(rb"((?:\\.|[^\s\\])+)\\?\s*([+-]?[0-9]{1,9})\s*")
_LOWEST, _HIGHEST = -32768, 32767


@dataclass(frozen=True, slots=True)
class Priorities:
    files: Mapping[str, int]
    """Of each file below a listed path, that with the priority 0 too."""
    missing: tuple[str, ...]
    """Listed paths that are not in the tree; mksquashfs passes over them."""


def parse(text: bytes, name: str) -> Mapping[str, int]:
    """The priorities of paths relative to the root of the image; `name` is what errors call the file.

    Raises UsageError that names every bad line.
    """
    entries: dict[str, int] = {}
    faults: list[str] = []
    for number, raw in enumerate(text.split(b"\n"), 1):
        line = raw.lstrip()
        if not line or line.startswith(b"#"):
            continue
        found = _LINE.fullmatch(line)
        priority = int(found[2]) if found is not None else None
        path = _parse_path(found[1]) if found is not None else ""
        if priority is None:
            faults.append(f"{name}:{number}: expected a path and a priority")
        elif not _LOWEST <= priority <= _HIGHEST:
            faults.append(f"{name}:{number}: the priority {priority} is not between {_LOWEST} and {_HIGHEST}")
        elif ".." in path.split("/"):
            faults.append(f"{name}:{number}: {printable(path)} is outside of the image")
        else:
            entries.setdefault(path, priority)
    if faults:
        raise UsageError("; ".join(faults), "write paths relative to the root of the image")
    return entries


def find_priorities(entries: Mapping[str, int], tree: Tree) -> Priorities:
    """What a sort file says about the files of a tree."""
    missing = tuple(path for path in entries if path and tree.get(path) is None)
    directories = {"": entries.get("")}
    files: dict[str, int] = {}
    for path, node in tree.walk():
        priority = entries.get(path, directories[path.rpartition("/")[0]])
        if isinstance(node, Directory):
            directories[path] = priority
        elif isinstance(node, File) and priority is not None:
            files[path] = priority
    return Priorities(files, missing)


def _parse_path(raw: bytes) -> str:
    """A path of a line, as the tree has it; `/*` at its end is for readers who know mkisofs."""
    text = re.sub(rb"\\(.)", rb"\1", raw, flags=re.DOTALL)
    return "/".join(part for part in decode(text).removesuffix("/*").split("/") if part not in ("", "."))
