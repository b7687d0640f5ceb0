"""Parse the `-sort` file of mksquashfs(1), which sets the order of files in an image by path and priority.

Each line has a path and a priority from -32768 to 32767; higher ones come first, and unlisted files have 0. The
priority of a directory applies to everything below it without its own. A backslash escapes the next character, such as
white space; `#` starts a comment line.
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
_MIN_PRIORITY, _MAX_PRIORITY = -32768, 32767


@dataclass(frozen=True, slots=True)
class Priorities:
    files: Mapping[str, int]
    """Priority of each file below a listed path, including priority 0."""
    missing: tuple[str, ...]
    """Listed paths that are not in the tree; mksquashfs ignores them."""


def parse(text: bytes, name: str) -> Mapping[str, int]:
    """The priorities of paths relative to the root of the image; `name` is the file's name in messages.

    Raises UsageError, which lists every bad line.
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
        elif not _MIN_PRIORITY <= priority <= _MAX_PRIORITY:
            faults.append(
                f"{name}:{number}: the priority {priority} is not between {_MIN_PRIORITY} and {_MAX_PRIORITY}"
            )
        elif ".." in path.split("/"):
            faults.append(f"{name}:{number}: {printable(path)} is outside of the image")
        else:
            entries.setdefault(path, priority)
    if faults:
        raise UsageError("; ".join(faults), "write paths relative to the root of the image")
    return entries


def find_priorities(entries: Mapping[str, int], tree: Tree) -> Priorities:
    """The priorities of the files in a tree."""
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
    """The path of a line, as in the tree; a final `/*` is accepted for users of mkisofs."""
    text = re.sub(rb"\\(.)", rb"\1", raw, flags=re.DOTALL)
    return "/".join(part for part in decode(text).removesuffix("/*").split("/") if part not in ("", "."))
