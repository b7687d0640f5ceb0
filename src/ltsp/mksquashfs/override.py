"""Override the metadata of nodes, for mksquashfs options such as -all-root, -force-uid and -all-time."""

from __future__ import annotations

from dataclasses import replace

from ltsp.mksquashfs.options import Override
from ltsp.tree.node import Metadata, Node
from ltsp.tree.tree import Tree


def override_metadata(tree: Tree, changes: Override) -> Tree:
    """The tree with the changes for every node, and those for the root directory, applied.

    If both are given, those for every node win at the root, as in mksquashfs.
    """
    if changes == Override():
        return tree
    root = _replace_metadata(
        tree.root.metadata, changes.root_uid, changes.root_gid, changes.root_time, changes.root_mode
    )
    tree = Tree(replace(tree.root, metadata=root))
    if changes.uid is changes.gid is changes.time is None:
        return tree

    def changed(node: Node) -> Node:
        return replace(node, metadata=_replace_metadata(node.metadata, changes.uid, changes.gid, changes.time))

    return tree.map(changed)


def _replace_metadata(
    metadata: Metadata, uid: int | None, gid: int | None, time: int | None, mode: int | None = None
) -> Metadata:
    return replace(
        metadata,
        uid=metadata.uid if uid is None else uid,
        gid=metadata.gid if gid is None else gid,
        mtime=metadata.mtime if time is None else time,
        mode=metadata.mode if mode is None else mode,
    )
