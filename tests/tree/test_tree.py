"""The tree as a value: walking, resolving links, editing, mapping and selecting."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ltsp.tree.content import Bytes
from ltsp.tree.name import byte_sort_key, decode, encode, printable, sort_names
from ltsp.tree.node import Directory, File, Metadata, Symlink
from ltsp.tree.selection import Inclusion
from ltsp.tree.tree import Tree

META = Metadata(0o644)


def directory(**entries):
    return Directory(Metadata(0o755), entries)


def file(data=b""):
    return File(META, Bytes(data))


def link(target):
    return Symlink(META, target)


def paths(tree):
    return [path for path, _node in tree.walk()]


def test_a_walk_goes_depth_first_in_the_order_of_the_names_bytes():
    tree = Tree(Directory(META, {"b": directory(z=file()), "a": file(), "b-": file(), decode(b"\xff"): file()}))
    assert paths(tree) == ["a", "b", "b/z", "b-", "\udcff"]


@given(st.lists(st.binary(min_size=1), unique=True))
def test_names_sort_as_their_bytes_do(raw):
    assert [encode(name) for name in sort_names([decode(name) for name in raw])] == sorted(raw)
    assert all(byte_sort_key(decode(name)) == name for name in raw)


def test_a_walk_of_a_tree_deeper_than_the_interpreters_stack_ends():
    node = file()
    for _depth in range(5000):
        node = directory(d=node)
    tree = Tree(node)
    assert sum(1 for _ in tree.walk()) == 5000
    assert sum(1 for _ in tree.select(lambda _path, _directory: Inclusion.ALL).walk()) == 5000


def test_get_follows_no_link():
    tree = Tree(directory(etc=directory(passwd=file()), link=link("etc")))
    assert tree.get("etc/passwd") is not None
    assert tree.get("link/passwd") is None
    assert tree.get("etc/passwd/x") is None
    assert tree.get("") is tree.root


def test_links_resolve_inside_the_tree_as_in_a_chroot():
    tree = Tree(
        directory(
            boot=directory(kernel=file(), up=link("../../../boot/kernel"), self=link("self")),
            vmlinuz=link("/boot/kernel"),
            dir=link("boot"),
            gone=link("nowhere"),
        )
    )
    assert tree.resolve("vmlinuz") == "boot/kernel"
    assert tree.resolve("boot/up") == "boot/kernel"
    assert tree.resolve("dir/../dir/kernel") == "boot/kernel"
    assert tree.resolve("dir") == "boot"
    assert tree.resolve("..") == ""
    assert tree.resolve("boot/self") is None
    assert tree.resolve("gone") is None
    assert tree.resolve("vmlinuz/..") is None
    assert tree.follow("dir/kernel") is tree.get("boot/kernel")


def test_an_edit_rewrites_removes_and_adds():
    tree = Tree(directory(etc=directory(passwd=file(b"old"), shadow=file()), usr=directory()))
    new = file(b"new")
    edited = tree.edit({"etc/passwd": new, "etc/shadow": None, "etc/hosts": file(), "usr": directory(bin=file())})
    assert paths(edited) == ["etc", "etc/hosts", "etc/passwd", "usr", "usr/bin"]
    assert edited.get("etc/passwd") is new
    assert paths(tree) == ["etc", "etc/passwd", "etc/shadow", "usr"]


def test_a_rewritten_file_is_rewritten_under_each_of_its_names():
    """A copy of /etc/shadow under a second name would keep the hashes that the first one lost."""
    shadow = file(b"hash")
    tree = Tree(directory(etc=directory(shadow=shadow), backup=directory(s=shadow)))
    new = file(b"")
    edited = tree.edit({"etc/shadow": new})
    assert edited.get("backup/s") is new
    assert edited.get("etc/shadow") is new


def test_a_change_without_a_directory_is_passed_over():
    tree = Tree(directory(etc=directory()))
    assert paths(tree.edit({"var/log/x": file(), "etc/a/b": file()})) == ["etc"]


def test_a_map_keeps_hard_links():
    shared = file(b"x")
    tree = Tree(directory(a=shared, d=directory(b=shared)))
    mapped = tree.map(lambda node: replace(node, metadata=replace(node.metadata, uid=7)))
    assert mapped.get("a") is mapped.get("d/b")
    assert mapped.get("a") is not shared
    assert {node.metadata.uid for _path, node in mapped.walk()} == {7}
    assert mapped.root.metadata.uid == 7


def test_a_selection_prunes_empties_and_keeps():
    tree = Tree(directory(home=directory(alice=directory(secret=file())), gone=directory(x=file()), kept=file()))
    takes = {"home": Inclusion.EMPTIED, "gone": Inclusion.NOTHING, "kept": Inclusion.ALL}
    asked = []

    def selection(path, is_directory):
        asked.append((path, is_directory))
        return takes[path]

    assert paths(tree.select(selection)) == ["home", "kept"]
    assert sorted(asked) == [("gone", True), ("home", True), ("kept", False)]


@given(st.binary())
def test_printed_names_have_no_control_characters_and_stay_distinct(raw):
    text = printable(decode(raw))
    assert text.isprintable()
    text.encode("utf-8")


def test_printable_escapes():
    assert printable("plain é") == "plain é"
    assert printable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert printable(decode(b"\xff\\")) == "\\xff\\\\"
    assert printable("\u202e") == "\\u202e"
