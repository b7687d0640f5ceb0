"""Adds what every root file system needs, regardless of its source: a proper `/`, and the mount points.

The mode, owner and ACL of a source's top directory say who may access that directory on the server. As `/` of a
client, they would deny its services, which run as other users, access to all files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ltsp.tree.node import Directory, Metadata, Node
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_ROOT_MODE: Final = 0o755
_KEPT_XATTR_PREFIX: Final = "security."
"""Attributes that `/` keeps: the SELinux label belongs to the system, like those of everything below."""

STANDARD_DIRECTORIES: Final = {
    "dev": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o755,
    "tmp": 0o1777,
    "var/tmp": 0o1777,
}
"""Directories of hier(7) and file-hierarchy(7) that are empty in an image, so that copies of a system often lack them
out; modes as of Debian's base-files.
"""


def add_skeleton(tree: Tree, selection: Selection) -> Tree:
    """The tree with `/` of mode 0755 and owned by root, with its time unchanged, and the missing mount points.

    Whatever stands at such a place stays as it is, a link that leads nowhere too; and what the selection leaves out
    altogether is not made.
    """
    own = tree.root.metadata
    kept = tuple((name, value) for name, value in own.xattrs if name.startswith(_KEPT_XATTR_PREFIX))
    top = Tree(replace(tree.root, metadata=Metadata(_ROOT_MODE, 0, 0, own.mtime, kept)))
    missing: dict[str, Node] = {}
    for path, mode in STANDARD_DIRECTORIES.items():
        if top.get(path) is None and selection(path, True) is not Inclusion.NOTHING:
            missing[path] = Directory(Metadata(mode, mtime=own.mtime))
    return top.edit(missing) if missing else top
