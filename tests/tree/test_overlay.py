"""Merging layers, compared with the kernel's overlayfs."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest

from corpus.tree_snapshot import differences, of_tree
from ltsp.errors import FormatError
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Device, DeviceKind, Directory, File, Metadata, Symlink
from ltsp.tree.overlay import merge_layers
from ltsp.tree.selection import select_all
from ltsp.tree.tree import Tree


def directory(entries, *said):
    return Directory(Metadata(0o755, xattrs=tuple(said)), entries)


def file(text="", *said):
    return File(Metadata(0o644, xattrs=tuple(said)), Bytes(text.encode()))


WHITEOUT = Device(Metadata(0), DeviceKind.CHARACTER, 0, 0)
OPAQUE = ("trusted.overlay.opaque", b"y")


def shown(*layers):
    return {path for path, _ in merge_layers([Tree(directory(each)) for each in layers]).walk()}


def test_entries_of_all_layers_are_seen_and_whiteouts_hide_them():
    lower = {"a": file(), "b": file(), "d": directory({"x": file(), "y": file()})}
    assert shown(lower, {"c": file(), "d": directory({"z": file()})}) == {"a", "b", "c", "d", "d/x", "d/y", "d/z"}
    assert shown(lower, {"a": WHITEOUT, "d": directory({"x": WHITEOUT})}) == {"b", "d", "d/y"}
    assert shown(lower, {"d": WHITEOUT}, {"d": directory({"n": file()})}) == {"a", "b", "d", "d/n"}
    assert shown({"new": directory({"none": WHITEOUT})}) == {"new"}


def test_an_empty_file_is_a_whiteout_only_where_the_directory_has_such():
    hidden = file("", ("trusted.overlay.whiteout", b""))
    lower = {"d": directory({"x": file(), "y": file()})}
    assert shown(lower, {"d": directory({"x": hidden}, ("trusted.overlay.opaque", b"x"))}) == {"d", "d/y"}
    assert shown(lower, {"d": directory({"x": hidden})}) == {"d", "d/x", "d/y"}


@pytest.mark.parametrize("own", ["trusted", "user"])
def test_an_opaque_directory_hides_what_is_below_it_and_the_mark_is_not_seen(own):
    upper = directory({"n": file()}, (f"{own}.overlay.opaque", b"y"), ("user.kept", b"1"))
    tree = merge_layers([Tree(directory({"d": directory({"x": file()})})), Tree(directory({"d": upper}))])
    assert set(tree.get("d").entries) == {"n"}
    assert tree.get("d").metadata.xattrs == (("user.kept", b"1"),)


def test_a_file_over_a_directory_hides_it_for_the_layers_above_too():
    layers = {"d": directory({"x": file()})}, {"d": Symlink(Metadata(0o777), "e")}, {"d": directory({"n": file()})}
    assert shown(*layers) == {"d", "d/n"}


def test_hard_links_stay_where_attributes_go():
    one = file("text", ("trusted.overlay.origin", b"\0"))
    tree = merge_layers([Tree(directory({"a": one})), Tree(directory({"b": one, "c": one}))])
    assert tree.get("b") is tree.get("c")
    assert tree.get("b").metadata.xattrs == ()


def test_a_layer_may_be_deeper_than_the_interpreter_s_stack():
    deep = directory({"end": WHITEOUT})
    for _ in range(5000):
        deep = directory({"d": deep})
    assert len(list(merge_layers([Tree(deep), Tree(deep)]).walk())) == 5000


@pytest.mark.parametrize("key", ["trusted.overlay.redirect", "user.overlay.metacopy"])
def test_content_elsewhere_in_the_layers_is_refused_by_name(key):
    node = directory({}, (key, b"x")) if key.endswith("redirect") else file("", (key, b""))
    with pytest.raises(FormatError, match=r"/usr/x.*overlay\.") as caught:
        merge_layers([Tree(directory({})), Tree(directory({"usr": directory({"x": node})}))])
    assert "mount -t overlay" in caught.value.hint
    covered = {"usr": directory({"x": file()})}
    assert shown({"usr": directory({"x": node})}, covered) == {"usr", "usr/x"}


def layers_on(tmp_path):
    """Three layers, with everything that a layer can express about those below it."""
    low, middle, high = (tmp_path / name for name in ("low", "middle", "high"))
    for at, names in (
        (low, ("etc/a", "etc/b", "opt/x/one", "opt/y", "srv/f", "var/lib/old", "turned", "kept/f")),
        (middle, ("etc/b", "etc/c", "opt/x/two", "srv", "var/lib/new", "turned/f", "back/f", "xwhite/f")),
        (high, ("etc/d", "opt/x/three", "srv/new", "var/lib/newer", "back", "linked")),
    ):
        for name in names:
            path = at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of {at.name}\n")
    white = middle / "etc/a", middle / "opt/y", high / "kept", high / "opt/x/one", high / "opt/none"
    for path in white:
        os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
    os.setxattr(middle / "var/lib", "trusted.overlay.opaque", b"y")
    os.setxattr(high / "opt", "user.kept", b"value")
    os.link(high / "linked", high / "other")
    (high / "etc").chmod(0o700)
    os.chown(high / "etc/d", 5, 6)
    os.setxattr(high / "etc/d", "trusted.overlay.origin", b"\0\xfb")
    os.symlink("nowhere", middle / "etc/link")
    return low, middle, high


def read(path):
    return DirectorySource("x", str(path), str(path)).open(select_all, Faults())


@pytest.mark.root
@pytest.mark.oracle
def test_it_is_what_the_kernel_s_overlayfs_shows(tmp_path):
    layers = layers_on(tmp_path)
    merged, copy = tmp_path / "merged", tmp_path / "copy"
    merged.mkdir()
    lower = ":".join(str(each) for each in reversed(layers))
    script = 'mount -t overlay -o ro,lowerdir="$1" overlay "$2" && cp -a "$2" "$3"'
    subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", lower, merged, copy], check=True)
    with read(layers[0]) as low, read(layers[1]) as middle, read(layers[2]) as high, read(copy) as expected:
        ours = of_tree(merge_layers([low, middle, high]))
        assert differences(of_tree(expected), ours) == []
    assert {b"opt/x/three", b"var/lib/newer", b"var/lib/new", b"turned/f", b"srv/new"} <= set(ours)
    assert not {b"etc/a", b"opt/y", b"opt/x/one", b"kept", b"var/lib/old", b"srv/f", b"back/f"} & set(ours)
