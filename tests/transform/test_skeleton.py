"""What every root file system has: `/` that all may look into, and the places for mounts."""

from __future__ import annotations

from ltsp.transform.skeleton import STANDARD_DIRECTORIES, add_skeleton
from ltsp.tree.node import Directory, Metadata, Symlink
from ltsp.tree.selection import Inclusion, select_all
from ltsp.tree.tree import Tree

OWN = Metadata(0o640, uid=1, gid=2, mtime=3)


def tree(metadata: Metadata = OWN, **entries) -> Tree:
    return Tree(Directory(metadata, entries))


def test_the_root_is_everybodys_to_look_into_with_the_time_of_its_source():
    xattrs = (
        ("security.selinux", b"root_t"),
        ("system.posix_acl_access", b"x"),
        ("trusted.overlay.opaque", b"y"),
        ("user.note", b"ours"),
    )
    kept = tree(Metadata(0o2700, 1000, 1000, 77, xattrs), etc=Directory(OWN))
    done = add_skeleton(kept, select_all)
    assert done.root.metadata == Metadata(0o755, 0, 0, 77, (("security.selinux", b"root_t"),))
    assert done.get("etc") is kept.get("etc")


def test_places_that_a_copy_came_without_are_made():
    done = add_skeleton(tree(var=Directory(OWN)), select_all)
    made = {path: done.get(path).metadata for path in STANDARD_DIRECTORIES}
    assert made == {path: Metadata(mode, mtime=OWN.mtime) for path, mode in STANDARD_DIRECTORIES.items()}
    assert (
        STANDARD_DIRECTORIES["tmp"],
        STANDARD_DIRECTORIES["var/tmp"],
        STANDARD_DIRECTORIES["root"],
        STANDARD_DIRECTORIES["proc"],
    ) == (
        0o1777,
        0o1777,
        0o700,
        0o755,
    )
    assert done.get("var").metadata is OWN


def test_what_stands_at_a_place_stays():
    done = add_skeleton(tree(tmp=Symlink(OWN, "/nowhere"), proc=Directory(OWN)), select_all)
    assert isinstance(done.get("tmp"), Symlink)
    assert done.get("proc").metadata is OWN
    assert done.get("var") is None


def test_what_is_left_out_altogether_is_not_made():
    done = add_skeleton(tree(), lambda path, _: Inclusion.NOTHING if path == "media" else Inclusion.EMPTIED)
    assert done.get("media") is None
    assert done.get("srv") is not None
