from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from corpus.bit_flip import flip
from filesystem.mkfs import differences, filled, is_refused_by_kernel, make_file_system, shown
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.filesystem.btrfs import content
from ltsp.filesystem.btrfs import volume as btrfs
from ltsp.storage import lzo
from ltsp.tree.node import Directory, File

MIB = 1 << 20
SIZE = 128 * MIB
MKFS = ("mkfs.btrfs", "-q", "-L", "a label")
SHAPES = {
    "as it comes": ((), ""),
    "one copy of metadata": (("-m", "single"), ""),
    "data and metadata in the same chunks": (("--mixed",), "compress=zstd"),
    "zlib": ((), "compress-force=zlib"),
    "zstd": ((), "compress-force=zstd"),
    "lzo": (("-n", "4096"), "compress-force=lzo,max_inline=4095"),
    "holes that are written down": (("-O", "^no-holes"), ""),
    "sha256": (("--csum", "sha256"), ""),
    "blake2": (("--csum", "blake2"), ""),
    "xxhash": (("--csum", "xxhash"), ""),
}


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("shape", SHAPES)
def test_all_that_the_kernel_shows_is_in_the_tree(shape, nasty_root, blocks, tmp_path):
    mkfs, options = SHAPES[shape]
    image = make_file_system(tmp_path / "image", SIZE, *MKFS, *mkfs)
    expected = filled(image, nasty_root, options, then="allocated")
    found = btrfs.open(blocks(image))
    assert (found.kind, found.label) == ("btrfs", "a label")
    assert len(expected) > 1800
    assert differences(expected, found.tree()) == []


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "compress-force=zstd"])
def test_pieces_of_shared_extents_are_read(options, blocks, tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    expected = filled(image, tmp_path / "source", options, then="cloned")
    assert differences(expected, btrfs.open(blocks(image)).tree()) == []


@pytest.mark.root
@pytest.mark.oracle
def test_many_and_large_attributes_are_read(blocks, tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    expected = filled(image, tmp_path / "source", then="many-attributes")
    assert differences(expected, btrfs.open(blocks(image)).tree()) == []


@pytest.mark.root
@pytest.mark.oracle
def test_lzo_is_decompressed_without_the_library(nasty_root, blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(lzo, "load_native", lambda: None)
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    expected = filled(image, nasty_root, "compress-force=lzo")
    assert differences(expected, btrfs.open(blocks(image)).tree()) == []


@pytest.fixture
def layered(tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    filled(image, tmp_path / "source", then="subvolumes")
    return image


@pytest.mark.root
@pytest.mark.oracle
def test_subvolumes_are_listed_and_found_by_path_and_number(layered, blocks):
    found = btrfs.open(blocks(layered))
    paths = [one.path for one in found.subvolumes()]
    assert paths == ["", "@", "@/snapshot", "@/var/lib/machines", "@home", "directory/@/nested"]
    assert (
        found.default_subvolume()
        == found.find_subvolume("@")
        == found.find_subvolume("/@/")
        == found.find_subvolume(str(found.find_subvolume("@")))
    )
    with pytest.raises(SourceError, match="no subvolume @root") as raised:
        found.find_subvolume("@root")
    assert "@, @/snapshot" in raised.value.hint


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("subvolume", [None, "", "@", "@home", "@/snapshot", "directory/@/nested"])
def test_the_tree_of_a_subvolume_is_that_of_its_mount(subvolume, layered, blocks):
    """With those that lie in it; an entry of a snapshot for one that is not in it is an empty directory."""
    found = btrfs.open(blocks(layered))
    number = None if subvolume is None else found.find_subvolume(subvolume)
    tree = found.tree(subvolume=number)
    options = "" if subvolume is None else f"subvol=/{subvolume}"
    expected = shown(layered, options)
    for path, entry in expected.items():
        whole = b"snapshot/" + path if subvolume == "@/snapshot" else path
        if whole.endswith((b"snapshot/var/lib/machines", b"snapshot/removed")):
            # The kernel makes its time up.
            expected[path] = replace(entry, mtime=0)
    assert differences(expected, tree) == []
    if subvolume is None:
        assert isinstance(tree.get("snapshot/var/lib/machines"), Directory)
        assert isinstance(tree.get("snapshot/name"), File)


@pytest.mark.root
@pytest.mark.oracle
def test_a_log_of_trees_is_refused_until_it_was_mounted(blocks, tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    filled(image, tmp_path / "source", then="synced-file")
    cut = tmp_path / "image.cut"
    with pytest.raises(SourceError, match="was not cleanly unmounted") as raised:
        btrfs.open(blocks(cut))
    assert "mount and unmount it (or a copy) once" in raised.value.hint
    expected = shown(cut)
    assert b"after" in expected
    assert differences(expected, btrfs.open(blocks(cut)).tree()) == []


@pytest.mark.root
@pytest.mark.oracle
def test_a_damaged_node_is_read_from_its_second_copy(nasty_root, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", SIZE, *MKFS, "-m", "dup")
    expected = filled(image, nasty_root)
    found = btrfs.open(blocks(image))
    root = found._find_subvolume(btrfs.TOP_SUBVOLUME).root
    first, second = found.node_reader.chunks.locate_copies(root.address, found.node_reader.superblock.node_size)
    with image.open("r+b") as file:
        file.seek(first + 500)
        file.write(b"damage")
    assert differences(expected, btrfs.open(blocks(image)).tree()) == []
    with image.open("r+b") as file:
        file.seek(second + 500)
        file.write(b"damage")
    with pytest.raises(FormatError, match="wrong checksum"):
        btrfs.open(blocks(image)).tree()


PRECIOUS = bytes(range(256)) * 1000
SUMS = {
    "crc32c": ("--csum", "crc32c"),
    "xxhash": ("--csum", "xxhash"),
    "sha256": ("--csum", "sha256"),
    "blake2": ("--csum", "blake2"),
}


def copies_of(image, blocks, name, within):
    """Where each copy of a byte of a file lies."""
    content = btrfs.open(blocks(image)).tree().get(name).content
    extent = max((each for each in content._read_extents() if each.start <= within), key=lambda each: each.start)
    at = extent.address if extent.compression else extent.address + extent.offset + within - extent.start
    return content.extent_data.node_reader.chunks.locate_copies(at, 1)


def read_whole(image, blocks, name):
    with btrfs.open(blocks(image)).tree().get(name).content.open() as stream:
        return stream.read(stream.size)


@pytest.fixture
def precious(tmp_path):
    """Two files of 256,000 bytes, neither of which is the other."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "precious").write_bytes(PRECIOUS)
    (source / "another").write_bytes(PRECIOUS[::-1])
    return source


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "compress-force=zstd"])
@pytest.mark.parametrize("kind", SUMS)
def test_a_damaged_byte_of_data_is_refused_as_by_the_kernel(kind, options, precious, blocks, tmp_path, chance):
    image = make_file_system(tmp_path / "image", SIZE, *MKFS, *SUMS[kind], "-d", "single")
    filled(image, precious, options)
    (place,) = copies_of(image, blocks, "precious", chance.randrange(len(PRECIOUS)))
    flip(image, place)
    with pytest.raises(FormatError, match="wrong checksum"):
        read_whole(image, blocks, "precious")
    assert read_whole(image, blocks, "another") == PRECIOUS[::-1]
    assert is_refused_by_kernel(image, "precious")
    assert not is_refused_by_kernel(image, "another")


@pytest.mark.root
@pytest.mark.oracle
def test_damaged_data_is_read_from_its_second_copy(precious, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 2 * SIZE, *MKFS, "-d", "dup")
    filled(image, precious)
    for within, copy in ((100, 0), (70_000, 1), (70_000 + 4096, 0)):
        flip(image, copies_of(image, blocks, "precious", within)[copy])
    assert read_whole(image, blocks, "precious") == PRECIOUS
    flip(image, copies_of(image, blocks, "precious", 200)[1])
    with pytest.raises(FormatError, match="wrong checksum"):
        read_whole(image, blocks, "precious")


@pytest.mark.root
@pytest.mark.oracle
def test_data_without_checksums_is_read_as_it_is(precious, blocks, tmp_path):
    """Mounted with nodatasum, files are made without them: by the kernel, too, a damaged byte is read."""
    image = make_file_system(tmp_path / "image", SIZE, *MKFS, "-d", "single")
    filled(image, precious, "nodatasum")
    flip(image, copies_of(image, blocks, "precious", 5000)[0])
    expected = PRECIOUS[:5000] + bytes([PRECIOUS[5000] ^ 1]) + PRECIOUS[5001:]
    assert read_whole(image, blocks, "precious") == expected
    assert not is_refused_by_kernel(image, "precious")
    assert differences(shown(image), btrfs.open(blocks(image)).tree()) == []


@pytest.mark.root
@pytest.mark.oracle
def test_data_whose_checksums_are_missing_is_refused(precious, blocks, tmp_path, monkeypatch):
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    filled(image, precious)
    monkeypatch.setattr(content, "EXTENT_CSUM", 129)
    with pytest.raises(FormatError, match="has no checksum"):
        read_whole(image, blocks, "precious")


@pytest.mark.oracle
def test_xxhash_without_its_library_is_named(blocks, tmp_path, monkeypatch):
    image = make_file_system(tmp_path / "image", SIZE, *MKFS, "--csum", "xxhash")
    monkeypatch.setitem(sys.modules, "xxhash", None)
    with pytest.raises(LtspError, match="Python package xxhash") as raised:
        btrfs.open(blocks(image))
    assert "ltsp[disk]" in raised.value.hint


@pytest.mark.oracle
def test_several_devices_are_named(blocks, tmp_path):
    other = tmp_path / "other"
    with other.open("wb") as file:
        file.truncate(SIZE)
    image = make_file_system(tmp_path / "image", SIZE, *MKFS, "-m", "raid1", "-d", "raid0", str(other))
    with pytest.raises(SourceError, match="spans 2 devices"):
        btrfs.open(blocks(image))


@pytest.mark.oracle
def test_an_invalid_superblock_is_refused(blocks, tmp_path):
    image = make_file_system(tmp_path / "image", SIZE, *MKFS)
    with image.open("r+b") as file:
        file.truncate(100 * MIB)
    with pytest.raises(FormatError, match="134217728 bytes long, but the volume only 104857600"):
        btrfs.open(blocks(image))
    with image.open("r+b") as file:
        file.seek(0x10000 + 299)
        file.write(b"other")
    with pytest.raises(FormatError, match="wrong checksum"):
        btrfs.open(blocks(image))
    with image.open("r+b") as file:
        file.seek(0x10000 + 64)
        file.write(b"none")
    with pytest.raises(FormatError, match="not a btrfs file system"):
        btrfs.open(blocks(image))
