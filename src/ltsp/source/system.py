"""Whether a directory of the host, or a tree, is a system: looked at from within, as its own programs would see it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from ltsp.errors import SourceError
from ltsp.host.root import Root
from ltsp.tree.name import decode, encode, in_order, printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_SHOWN = 6
"""Names of what was found instead of a system."""


def lack(path: str) -> str:
    """Why a directory is no system, and what it seems to be; empty if it is one.

    Raises SourceError where it cannot be told.
    """
    try:
        entries = in_order([decode(name) for name in os.listdir(encode(path))])
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}", "run as root") from error
    missing = [
        wanted
        for wanted, is_kind in (("proc", stat.S_ISDIR), ("etc/passwd", stat.S_ISREG))
        if not leads(path, wanted, is_kind)
    ]
    if not missing:
        return ""
    found = ", ".join(printable(entry) for entry in entries[:_SHOWN]) + (", …" if len(entries) > _SHOWN else "")
    return f"there is no {' and no '.join(missing)}; found {found or 'nothing at all'}"


def is_system(tree: Tree) -> bool:
    """Whether there is what no system is without."""
    return isinstance(tree.follow("proc"), Directory) and isinstance(tree.follow("etc/passwd"), File)


def leads(path: str, inner: str, is_kind: Callable[[int], bool]) -> bool:
    """Whether there is something of this kind in a directory, links resolved inside it."""
    try:
        with Root.open(encode(path)) as root:
            handle = root.follow(encode(inner))
            try:
                return is_kind(os.fstat(handle).st_mode)
            finally:
                os.close(handle)
    except OSError:
        return False


def entries_of(directory: str) -> list[str]:
    """The names in a directory; none where it cannot be read."""
    try:
        return [decode(name) for name in os.listdir(encode(directory))]
    except OSError:
        return []
