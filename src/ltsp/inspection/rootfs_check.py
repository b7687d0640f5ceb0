"""Checks for a Linux root file system, by /etc/passwd and /usr, in a tree or a directory of the host.

Links in a directory of the host are resolved inside it, as its own programs would.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final

from ltsp.errors import SourceError
from ltsp.host.root import CHROOT_MARKS, is_chroot, leads_to
from ltsp.tree.name import decode, encode, printable, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

_FILE: Final = "etc/passwd"
_MARKS: Final = tuple(map(decode, CHROOT_MARKS))
_SHOWN = 6
"""How many of the entries that were found instead are listed."""
ROOTFS_HINT = "a root file system has /etc/passwd and /usr"


def is_system(tree: Tree) -> bool:
    """Whether it has the marks of a root file system."""
    return not find_missing_in_tree(tree)


def find_missing_in_tree(tree: Tree) -> str:
    """Why a tree is not a root file system, and what it contains; empty if it is one."""
    directory = any(isinstance(tree.follow(each), Directory) for each in _MARKS)
    return _describe_missing(isinstance(tree.follow(_FILE), File), directory, tree.root.entries)


def find_missing(path: str) -> str:
    """Why a directory is not a root file system, and what it contains; empty if it is one.

    Raises SourceError if it cannot be read.
    """
    try:
        entries = [decode(name) for name in os.listdir(encode(path))]
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}", "run as root") from error
    return _describe_missing(leads_to(encode(path), encode(_FILE), stat.S_ISREG), is_chroot(encode(path)), entries)


def _describe_missing(accounts: bool, directory: bool, entries: Iterable[str]) -> str:
    missing = [path for path, there in ((_FILE, accounts), (_MARKS[0], directory)) if not there]
    if not missing:
        return ""
    found = sort_names(list(entries))
    shown = ", ".join(map(printable, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
    absent = " and ".join(f"/{path}" for path in missing)
    verb = "is" if len(missing) == 1 else "are"
    return f"it is not a Linux root file system: {absent} {verb} missing; found {shown or 'nothing'}"


def list_entries(directory: str) -> list[str]:
    """The names in a directory; none if it cannot be read."""
    try:
        return [decode(name) for name in os.listdir(encode(directory))]
    except OSError:
        return []
