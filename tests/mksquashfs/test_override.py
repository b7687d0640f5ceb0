from __future__ import annotations

from ltsp.mksquashfs.options import Override
from ltsp.mksquashfs.override import override_metadata
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

OWN = Metadata(0o640, uid=1, gid=2, mtime=3, xattrs=(("user.a", b"x"),))
FILE = File(OWN, Bytes(b"x"))
TREE = Tree(Directory(OWN, {"a": FILE, "d": Directory(OWN, {"b": FILE})}))


def all_metadata(tree: Tree) -> list[tuple[int, int, int, int]]:
    nodes = [tree.root, *(node for _, node in tree.walk())]
    assert all(node.metadata.xattrs == OWN.xattrs for node in nodes)
    return [(n.metadata.mode, n.metadata.uid, n.metadata.gid, n.metadata.mtime) for n in nodes]


def test_no_change_is_the_same_tree():
    assert override_metadata(TREE, Override()) is TREE


def test_owner_and_time_are_those_of_every_node():
    assert all_metadata(override_metadata(TREE, Override(uid=0, time=9))) == [(0o640, 0, 2, 9)] * 4


def test_what_is_for_the_root_leaves_all_else():
    changed = override_metadata(TREE, Override(root_mode=0o755, root_uid=5, root_gid=6, root_time=7))
    assert all_metadata(changed) == [(0o755, 5, 6, 7), *[(0o640, 1, 2, 3)] * 3]
    assert changed.root.entries is TREE.root.entries


def test_what_is_for_every_node_wins_at_the_root():
    assert all_metadata(override_metadata(TREE, Override(gid=0, root_gid=6)))[0] == (0o640, 1, 0, 3)


def test_hard_links_stay():
    changed = override_metadata(TREE, Override(uid=0))
    assert changed.get("a") is changed.get("d/b")
