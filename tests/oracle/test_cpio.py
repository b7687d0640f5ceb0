"""Archives as GNU cpio and busybox unpack them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace

import pytest

from corpus import kitchen_sink, tree_snapshot, tree_text
from ltsp.cpio.newc import write_archive
from ltsp.host.root import RootDirectory
from ltsp.source.directory.scan import Scan
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode
from ltsp.tree.node import Directory, Metadata, Node, Symlink
from ltsp.tree.selection import Inclusion, select_all
from ltsp.tree.tree import Tree

pytestmark = [pytest.mark.oracle, pytest.mark.root]


@dataclass(frozen=True)
class Reader:
    call: list[str]
    links: str
    """The kinds of files, by find(1), of which it restores hard links."""


READERS = {
    "GNU cpio": Reader(["cpio", "--extract", "--quiet", "--preserve-modification-time", "--make-directories"], "fbcps"),
    "busybox": Reader(["busybox", "cpio", "-idm"], "f"),
}


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


def unpacked(tree: Tree, reader: Reader, scratch) -> tree_snapshot.Snapshot:
    archive, target = scratch / "archive", scratch / "target"
    target.mkdir()
    with archive.open("wb") as output:
        write_archive(tree, output)
    with archive.open("rb") as packed:
        done = subprocess.run(reader.call, stdin=packed, cwd=target, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return tree_snapshot.directory(target)


def kept(source: tree_snapshot.Snapshot, reader: Reader) -> tree_snapshot.Snapshot:
    """What an archive keeps and a program restores: no attributes, hard links of some kinds, and of directories and
    symbolic links no times, which the programs set before they write below them or not at all.
    """
    return {
        path: replace(
            entry,
            xattrs=(),
            mtime=0 if entry.kind in "dl" else entry.mtime,
            names=entry.names if entry.kind in reader.links else (),
            links=len(entry.names) if entry.kind in reader.links else 1,
        )
        for path, entry in source.items()
        if path
    }


def test_a_tree_with_everything_linux_knows_comes_back(reader, tmp_path):
    root = kitchen_sink.build(tmp_path / "nasty", kitchen_sink.KitchenSinkSize(entries=300, large=kitchen_sink.BLOCK))
    faults = Faults()
    with RootDirectory.open(os.fsencode(root)) as opened:
        tree = short(Scan(select_all, faults).run(opened))
        found = unpacked(tree, reader, tmp_path)
        expected = tree_snapshot.of_tree(tree)
    assert tree_snapshot.differences(kept(expected, reader), kept(found, reader)) == []


def short(tree: Tree) -> Tree:
    """Without the paths and targets that no initrd holds, and the times that programs with 32 bits misread."""
    return tree.select(lambda path, _: Inclusion.NOTHING if len(encode(path)) > 4000 else Inclusion.ALL).map(_moderate)


def _moderate(node: Node) -> Node:
    mtime = min(max(node.metadata.mtime, 0), 2**31 - 1)
    moderate = replace(node, metadata=replace(node.metadata, mtime=mtime))
    return replace(moderate, target=moderate.target[:1000]) if isinstance(moderate, Symlink) else moderate


def test_hard_links_are_one_file_again(reader, tmp_path):
    tree = tree_text.parse(
        "d ltsp 755 0 0 1\nf init 755 0 0 1 text:5000:1\nh ltsp/init init\nh ltsp/third init\n"
        "f empty 600 0 0 1 text:0\nh ltsp/empty empty\nf readonly 400 0 0 1 noise:300\nh zz readonly"
    )
    found = unpacked(tree, reader, tmp_path)
    assert tree_snapshot.differences(kept(tree_snapshot.of_tree(tree), reader), kept(found, reader)) == []
    assert found[b"init"].names == (b"init", b"ltsp/init", b"ltsp/third")


def test_a_file_named_like_the_trailer_is_unpacked_too(reader, tmp_path):
    tree = tree_text.parse("f TRAILER!!! 644 0 0 1 text:10\nf after 644 0 0 1 text:20")
    assert sorted(unpacked(tree, reader, tmp_path)) == [b"", b"TRAILER!!!", b"after"]


def test_gnu_cpio_lists_an_empty_tree(tmp_path):
    with (tmp_path / "archive").open("wb") as output:
        write_archive(Tree(Directory(Metadata(0o755))), output)
    with (tmp_path / "archive").open("rb") as packed:
        done = subprocess.run(["cpio", "-t"], stdin=packed, capture_output=True, check=True)
    assert done.stdout == b".\n"
