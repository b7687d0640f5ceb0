from __future__ import annotations

import struct

import pytest

from corpus import tree_snapshot
from corpus.bit_flip import flip
from filesystem.mkfs import differences, filled, is_refused_by_kernel, make_file_system, shown
from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.xfs import inode
from ltsp.filesystem.xfs import volume as xfs
from ltsp.filesystem.xfs.inode import ForkFormat, XfsInode

MIB = 1 << 20
MKFS = ("mkfs.xfs", "-q", "--unsupported", "-L", "a label")
SHAPES = {
    "as it comes": (),
    # The least log that mkfs.xfs computes without reflink is too small for Linux 6.18.
    "times of 32 bits and small counts": ("-m", "bigtime=0,reflink=0", "-i", "nrext64=0", "-l", "size=16m"),
    "large inodes, counts of 64 bits": ("-i", "size=2048,nrext64=1,sparse=1"),
    "small blocks, large blocks of directories": ("-b", "size=1024", "-n", "size=16384", "-m", "rmapbt=1"),
    "sectors of 4096 bytes, stripes": ("-s", "size=4096", "-d", "su=64k,sw=2,agcount=5"),
}


LOG_PLACE = ((">I", 4), (">Q", 48), (">I", 84))
"""sb_blocksize, sb_logstart, sb_agblocks, and a byte at 124, sb_agblklog. xfs_format.h, struct xfs_dsb"""


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("shape", SHAPES)
def test_all_that_the_kernel_shows_is_in_the_tree(shape, nasty_root, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 128 * MIB, *MKFS, *SHAPES[shape])
    expected = filled(image, nasty_root, then="allocated")
    found = xfs.open(blocks(image))
    assert (found.kind, found.label) == ("xfs", "a label")
    assert len(expected) > 1800
    assert differences(expected, found.tree()) == []


def log_cycle(image):
    """How often the log was begun, which each of its sectors says. xfs_log_format.h, struct xlog_rec_header"""
    data = image.read_bytes()
    block_size, start, group_blocks = (struct.unpack_from(kind, data, at)[0] for kind, at in LOG_PLACE)
    group, block = start >> data[124], start & (1 << data[124]) - 1
    first, second = struct.unpack_from(">II", data, (group * group_blocks + block) * block_size)
    return second if first == 0xFEEDBABE else first


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("then", ["cloned", "log-turned-over", "many-attributes"])
def test_shared_extents_a_wrapped_log_and_many_attributes_are_read(then, blocks, tmp_path):
    (tmp_path / "source").mkdir()
    # A little more than the least that mkfs.xfs takes.
    image = make_file_system(tmp_path / "image", 128 * MIB, *MKFS, "-l", "size=13m")
    expected = filled(image, tmp_path / "source", then=then)
    assert (log_cycle(image) > 1) == (then == "log-turned-over")
    assert differences(expected, xfs.open(blocks(image)).tree()) == []


@pytest.mark.root
@pytest.mark.oracle
def test_a_log_with_changes_is_refused_until_it_was_mounted(nasty_root, blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 128 * MIB, *MKFS)
    filled(image, nasty_root, then="pull-the-plug")
    cut = tmp_path / "image.cut"
    with pytest.raises(SourceError, match="was not cleanly unmounted") as raised:
        xfs.open(blocks(cut))
    assert "mount and unmount it (or a copy) once" in raised.value.hint
    expected = shown(cut)
    assert differences(expected, xfs.open(blocks(cut)).tree()) == []


@pytest.mark.oracle
@pytest.mark.parametrize("options", [(), ("-n", "ftype=0"), ("-b", "size=1024", "-n", "size=8192")])
def test_version_4_is_read(options, blocks, tmp_path):
    """The kernel may not read it any more. mkfs lays files out, but neither times nor attributes."""
    content = tmp_path / "content"
    content.write_bytes(bytes(range(256)) * 100)
    crowd = [f"entry-{number:04} ---644 {number} 5 {content}" for number in range(400)]
    lines = [
        "/",
        "0 0",
        "d--755 1 2",
        f"file -u-755 3 4 {content}",
        "device b--660 0 6 8 17",
        "null c--666 0 0 1 3",
        "fifo p--600 7 8",
        f"link l--777 0 0 {'target/' * 30}",
        f"long l--777 0 0 {'target/' * 100}",
        "crowd d--700 9 10",
        *crowd,
        "$",
        "empty d--711 0 0",
        "$",
        "$",
    ]
    prototype = tmp_path / "prototype"
    prototype.write_text("\n".join(lines) + "\n")
    call = (*MKFS, "-m", "crc=0,finobt=0,bigtime=0,reflink=0,inobtcount=0", "-p", str(prototype), *options)
    image = make_file_system(tmp_path / "image", 64 * MIB, *call)
    found = tree_snapshot.of_tree(xfs.open(blocks(image)).tree())
    kinds = {name: found[name].kind for name in (b"file", b"device", b"null", b"fifo", b"link", b"crowd", b"empty")}
    assert "".join(kinds.values()) == "fbcpldd"
    assert (found[b""].mode, found[b""].uid, found[b""].gid) == (0o755, 1, 2)
    assert (found[b"file"].mode, found[b"file"].uid, found[b"file"].gid) == (0o4755, 3, 4)
    assert found[b"device"].device == (8, 17)
    assert found[b"link"].target == b"target/" * 30
    assert found[b"long"].target == b"target/" * 100
    expected = tree_snapshot.directory(tmp_path)[b"content"]
    assert sum(path.startswith(b"crowd/") for path in found) == 400
    for number in range(400):
        entry = found[b"crowd/entry-%04d" % number]
        assert (entry.uid, entry.size, entry.digest) == (number, expected.size, expected.digest)


def patch(image, at, data):
    with image.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.oracle
def test_an_invalid_superblock_is_refused(blocks, tmp_path):
    image = make_file_system(tmp_path / "image", 64 * MIB, *MKFS)
    with image.open("r+b") as file:
        file.truncate(32 * MIB)
    with pytest.raises(FormatError, match="67108864 bytes long, but the volume only 33554432"):
        xfs.open(blocks(image))
    patch(image, 108, b"other")
    with pytest.raises(FormatError, match="wrong checksum"):
        xfs.open(blocks(image))
    patch(image, 216, (1 << 20).to_bytes(4, "big"))
    with pytest.raises(SourceError, match="unknown features: 0x100000"):
        xfs.open(blocks(image))
    patch(image, 0, b"none")
    with pytest.raises(FormatError, match="not an xfs file system"):
        xfs.open(blocks(image))


@pytest.mark.root
@pytest.mark.oracle
def test_a_wrong_checksum_in_the_map_of_a_file_is_refused_as_by_the_kernel(blocks, tmp_path):
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", 512 * MIB, *MKFS)
    filled(image, tmp_path / "source", then="allocated")
    found = xfs.open(blocks(image))
    fork = found.tree().get("pieces").content.fork
    assert fork.format == ForkFormat.TREE
    (block,) = inode._parse_pointers(fork.data, 4, 1)
    flip(image, found.superblock.locate_blocks(block) + 40)
    content = xfs.open(blocks(image)).tree().get("pieces").content
    with pytest.raises(FormatError, match="wrong checksum"):
        content.open()
    assert is_refused_by_kernel(image, "pieces")


@pytest.mark.root
@pytest.mark.oracle
@pytest.mark.parametrize("block", [0, -1])
def test_a_wrong_checksum_of_attributes_is_refused(block, blocks, tmp_path):
    """Of a leaf, and of a block with a value."""
    (tmp_path / "source").mkdir()
    image = make_file_system(tmp_path / "image", 512 * MIB, *MKFS)
    filled(image, tmp_path / "source", then="many-attributes")
    found = xfs.open(blocks(image))
    number = found.tree().get("large").content.number
    raw = blocks(image).read_at(found.superblock.locate_inode(number), found.superblock.inode_size)
    places = inode.runs(found.blocks, found.superblock, XfsInode.parse(raw, number).attributes)
    _, place, length = places[block]
    flip(image, place + length - 1 if block else place + 3000)
    with pytest.raises(FormatError, match="of its attributes is damaged: wrong checksum"):
        xfs.open(blocks(image)).tree()


@pytest.mark.root
@pytest.mark.oracle
def test_a_wrong_checksum_of_a_symbolic_link_is_refused(blocks, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "link").symlink_to("long/" * 190)
    image = make_file_system(tmp_path / "image", 512 * MIB, *MKFS)
    filled(image, tmp_path / "source")
    data = image.read_bytes()
    place = data.index(b"long/long/long/", data.index(b"XSLM"))
    flip(image, place)
    with pytest.raises(FormatError, match="a damaged symbolic link"):
        xfs.open(blocks(image)).tree()
