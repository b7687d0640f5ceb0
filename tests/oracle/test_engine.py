"""What goes in from a directory comes back from unsquashfs, from the kernel and from our own reader.

The differences that are allowed are those of `tree_snapshot.stated`, and no other.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from corpus import kitchen_sink, tree_snapshot
from ltsp.host.root import RootDirectory
from ltsp.source.directory.scan import Scan
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.reader import Image
from ltsp.squashfs.writer import WriteOptions, WriteResult, write_squashfs
from ltsp.tree.faults import Faults
from ltsp.tree.selection import Inclusion, Selection, select_all

pytestmark = [pytest.mark.oracle, pytest.mark.root]

KIB = 1 << 10
CODECS = [
    Compression("gzip", 6),
    Compression("zstd", 3),
    Compression("xz", 0),
    Compression("lz4"),
    Compression("lz4", high_compression=True),
    Compression("none"),
]


def pack(source: Path, image: Path, options: WriteOptions, selection: Selection = select_all) -> WriteResult:
    """Scan a directory and write its image, as a build does."""
    faults = Faults()
    with RootDirectory.open(os.fsencode(source)) as root, image.open("w+b", buffering=0) as output:
        written = write_squashfs(Scan(selection, faults).run(root), output, options, faults)
    assert not faults
    return written


def read_back(image: Path) -> tree_snapshot.Snapshot:
    with image.open("rb") as file:
        return tree_snapshot.of_tree(Image.open(file).tree())


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kitchen_sink.QUICK, id="quick"),
        pytest.param(kitchen_sink.WHOLE, id="whole", marks=pytest.mark.torture),
    ],
)
def source(request, tmp_path_factory):
    """The nasty tree, with the snapshot of it. Nobody changes it."""
    root = kitchen_sink.build(tmp_path_factory.mktemp("nasty") / "root", request.param)
    yield root, tree_snapshot.directory(root)
    shutil.rmtree(root)


@pytest.fixture
def scratch(tmp_path):
    """A place for images and what is unpacked from them, emptied after the test: it is large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_a_scan_sees_what_is_there(source):
    root, there = source
    with RootDirectory.open(os.fsencode(root)) as handle:
        found = tree_snapshot.of_tree(Scan(select_all, Faults()).run(handle))
    expected = {path: tree_snapshot.counted(entry) for path, entry in there.items()}
    assert tree_snapshot.differences(expected, found) == []


@pytest.mark.parametrize("compression", CODECS, ids=str)
def test_every_codec_gives_back_the_kitchen_sink(source, scratch, compression):
    root, there = source
    image = scratch / "image"
    pack(root, image, WriteOptions(compression))
    expected = tree_snapshot.stated(there)
    assert tree_snapshot.differences(expected, read_back(image)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.unpacked(image, scratch)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.mounted(image, scratch)) == []


@pytest.mark.parametrize(
    "options",
    [
        WriteOptions(Compression("zstd", 1), block_size=4 * KIB),
        WriteOptions(Compression("gzip", 1), block_size=1024 * KIB),
    ],
    ids=["blocks of 4 KiB", "blocks of 1 MiB"],
)
def test_every_layout_gives_back_the_kitchen_sink(source, scratch, options):
    root, there = source
    image = scratch / "image"
    pack(root, image, options)
    expected = tree_snapshot.stated(there)
    assert tree_snapshot.differences(expected, read_back(image)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.unpacked(image, scratch)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.mounted(image, scratch)) == []


def test_without_attributes_nothing_else_is_lost(source, scratch):
    root, there = source
    image = scratch / "image"
    pack(root, image, WriteOptions(Compression("zstd", 1), xattrs=False))
    expected = tree_snapshot.without_attributes(tree_snapshot.stated(there))
    assert tree_snapshot.differences(expected, tree_snapshot.unpacked(image, scratch)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.mounted(image, scratch)) == []


@pytest.mark.parametrize("take", [Inclusion.NOTHING, Inclusion.EMPTIED])
def test_a_hard_link_across_a_directory_that_is_left_out_keeps_its_other_names(source, scratch, take):
    root, there = source
    image = scratch / "image"

    def selection(path: str, _directory: bool) -> Inclusion:
        return take if path == "excluded" else Inclusion.ALL

    pack(root, image, WriteOptions(Compression("zstd", 1)), selection)
    kept = tree_snapshot.selected(
        there, lambda path: not path.startswith(b"excluded/") and (path != b"excluded" or take is Inclusion.EMPTIED)
    )
    expected = tree_snapshot.stated(kept)
    assert expected[b"links/last-name"].links == 1
    assert tree_snapshot.differences(expected, tree_snapshot.unpacked(image, scratch)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.mounted(image, scratch)) == []


def test_what_cannot_be_kept_is_counted(source, scratch):
    root, there = source
    written = pack(root, scratch / "image", WriteOptions(Compression("zstd", 1)))
    nodes = {(entry.names or (path,))[0]: entry for path, entry in there.items()}
    clamped = sum(not 0 <= entry.mtime <= tree_snapshot.LATEST for entry in nodes.values())
    acls = sum(name.startswith(b"system.posix_acl") for entry in nodes.values() for name, _ in entry.xattrs)
    assert clamped == 4 * 3
    assert (written.lost.times, written.lost.acls) == (clamped, acls)


def test_a_hole_takes_no_room_in_the_image_nor_where_it_is_unpacked(source, scratch):
    root, _ = source
    image = scratch / "image"
    pack(root / "holes", image, WriteOptions(Compression("none"), block_size=128 * KIB))
    assert image.stat().st_size < 16 * 128 * KIB
    tree_snapshot.unpacked(image, scratch)
    taken = (scratch / "image.unpacked" / "over-4-gib").stat().st_blocks * 512
    assert taken <= 4 * 128 * KIB


def test_a_real_debian_root_comes_back_without_a_difference(debian_root, scratch):
    image = scratch / "image"
    pack(debian_root, image, WriteOptions(Compression("zstd", 1)))
    expected = tree_snapshot.stated(tree_snapshot.directory(debian_root))
    assert len(expected) > 5_000
    assert tree_snapshot.differences(expected, read_back(image)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.mounted(image, scratch)) == []
    assert tree_snapshot.differences(expected, tree_snapshot.unpacked(image, scratch)) == []
