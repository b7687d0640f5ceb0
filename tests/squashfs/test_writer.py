"""The edges of the format: many, large, long, out of range."""

from __future__ import annotations

import os
import struct
import subprocess
from contextlib import nullcontext
from hashlib import sha256
from types import SimpleNamespace

import pytest

from corpus.tree_snapshot import differences, mounted, of_tree, stated, unpacked
from corpus.tree_strategies import Made, Sparse, SparseStream, noise, text
from ltsp.errors import LtspError, UsageError
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.format import ExtendedDirectoryInode, ExtendedFileInode, InodeType
from ltsp.squashfs.reader import Image
from ltsp.squashfs.superblock import Flags
from ltsp.squashfs.writer import LostMetadata, WriteOptions
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, Metadata, Symlink
from ltsp.tree.tree import Tree
from squashfs.write_helpers import file, tree, write_image

GIB = 1 << 30
oracle_as_root = [pytest.mark.oracle, pytest.mark.root]
READERS = [
    pytest.param(unpacked, marks=oracle_as_root),
    pytest.param(mounted, marks=oracle_as_root),
    pytest.param(lambda image, _scratch: ours(image), id="ours"),
]


def ours(image):
    with image.open("rb") as opened:
        return of_tree(Image.open(opened).tree())


def superblock(image):
    with image.open("rb") as opened:
        return Image.open(opened).superblock


def crowded(count: int) -> Tree:
    entries = {f"entry-{number}": Fifo(Metadata(0o600, mtime=number)) for number in range(count)}
    return Tree(Directory(Metadata(0o755), {"many": Directory(Metadata(0o755), entries), "after": file(b"x")}))


@pytest.mark.parametrize("reader", READERS)
def test_a_large_directory_comes_back(tmp_path, reader):
    write_image(crowded(5_000), tmp_path / "image")
    assert differences(stated(of_tree(crowded(5_000))), reader(tmp_path / "image", tmp_path)) == []


@pytest.mark.oracle
def test_a_directory_of_70_000_entries_is_listed_whole(tmp_path):
    image = tmp_path / "image"
    write_image(crowded(70_000), image)
    listing = subprocess.run(["unsquashfs", "-l", image], capture_output=True, check=True).stdout
    assert listing.count(b"/many/entry-") == 70_000


@pytest.mark.torture
@pytest.mark.parametrize("reader", READERS)
def test_a_directory_of_70_000_entries_comes_back(tmp_path, reader):
    write_image(crowded(70_000), tmp_path / "image")
    assert differences(stated(of_tree(crowded(70_000))), reader(tmp_path / "image", tmp_path)) == []


@pytest.mark.oracle
@pytest.mark.root
def test_the_kernel_finds_each_name_by_the_index(tmp_path):
    names = [f"{number:05}-{'n' * 249}" for number in range(2_000)]
    nodes = tree(many=Directory(Metadata(0o755), {name: Fifo(Metadata(0o600)) for name in names}))
    image = tmp_path / "image"
    write_image(nodes, image, compression=Compression("none"))
    inode = image.read_bytes().find(struct.pack("<HH", InodeType.EXTENDED_DIRECTORY, 0o755))
    directory = ExtendedDirectoryInode.unpack(image.read_bytes(), inode)
    assert directory.index_count == directory.listing_size // 8192
    assert differences(stated(of_tree(nodes)), mounted(image, tmp_path)) == []


@pytest.mark.parametrize("reader", READERS)
def test_a_file_over_4_gib_comes_back_and_its_holes_are_not_read(tmp_path, reader):
    size = 4 * GIB + 12_345
    content = Sparse(size, ((0, 5), (GIB + 3, 300_000), (4 * GIB + 1, 7)))
    nodes = tree(a=noise(5000), large=file(content), z=noise(10))
    image = tmp_path / "image"
    done = write_image(nodes, image, block_size=131072)
    assert done.size < 1_000_000
    assert done.source_bytes == size + 5010
    assert differences(stated(of_tree(nodes)), reader(image, tmp_path)) == []


def test_holes_are_passed_over_without_reading(tmp_path):
    stream = SparseStream(Sparse(GIB, ((GIB // 2, 100),)))

    class Watched:
        size = GIB

        def open(self):
            return nullcontext(stream)

    write_image(tree(a=file(Watched())), tmp_path / "image", block_size=131072)
    assert stream.bytes_read <= 2 * 131072


def test_the_blocks_of_a_sparse_file_are_counted_as_the_kernel_does(tmp_path):
    for content, blocks in (
        (Sparse(40_000), 0),
        (Sparse(40_960, ((8192, 4096),)), 8),
        (Made(text, 40_960), 80),
    ):
        image = tmp_path / "image"
        shared = file(content)
        write_image(tree(a=shared, b=shared), image, compression=Compression("none"))
        data = image.read_bytes()
        at = superblock(image).inode_table + 2
        inode = ExtendedFileInode.unpack(data, at)
        assert inode.kind == InodeType.EXTENDED_FILE
        assert (inode.file_size - inode.sparse + 511) // 512 == blocks


@pytest.mark.parametrize("reader", READERS)
def test_directories_may_nest_deeper_than_the_interpreters_stack(tmp_path, reader):
    depth = 2_000
    directory = Directory(Metadata(0o755), {"bottom": file(b"deep")})
    for _ in range(depth):
        directory = Directory(Metadata(0o755), {"d": directory})
    image = tmp_path / "image"
    done = write_image(Tree(directory), image)
    assert done.inodes == depth + 2
    if reader is unpacked:
        listing = subprocess.run(["unsquashfs", "-l", image], capture_output=True, check=True).stdout
        assert b"/d" * depth + b"/bottom" in listing
    elif reader is not mounted:  # the path is longer than the kernel takes
        assert differences(stated(of_tree(Tree(directory))), reader(image, tmp_path)) == []


def test_65_535_owners_fit_and_one_more_is_refused_before_anything_is_written(tmp_path):
    def nodes(count):
        return tree(**{f"f{number}": Fifo(Metadata(0o600, uid=number, gid=number)) for number in range(count)})

    image = tmp_path / "image"
    write_image(nodes(65_535), image)
    assert superblock(image).id_count == 65_535
    with image.open("rb") as opened:
        entries = Image.open(opened).tree().root.entries
        assert [entries[f"f{number}"].metadata.gid for number in (0, 300, 65_534)] == [0, 300, 65_534]
    image.unlink()
    with pytest.raises(LtspError, match="65536 different user and group ids, but squashfs can store only 65535"):
        write_image(nodes(65_536), image)
    assert image.stat().st_size == 0


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Fifo(Metadata(0o600, uid=2**32)), "do not fit in 32 bits"),
        (Fifo(Metadata(0o600, gid=-1)), "do not fit in 32 bits"),
        (Symlink(Metadata(0o777), "x" * 4096), "must have 1 to 4095 bytes"),
        (Symlink(Metadata(0o777), ""), "must have 1 to 4095 bytes"),
        (Device(Metadata(0o600), DeviceKind.BLOCK, 4096, 0), "out of range"),
        (Device(Metadata(0o600), DeviceKind.BLOCK, 0, 1 << 20), "out of range"),
    ],
)
def test_what_squashfs_or_linux_cannot_hold_is_refused(tmp_path, node, message):
    with pytest.raises(LtspError, match=message):
        write_image(tree(odd=node), tmp_path / "image")


def test_a_name_beyond_255_bytes_is_refused(tmp_path):
    with pytest.raises(LtspError, match="longer than 255 bytes"):
        write_image(Tree(Directory(Metadata(0o755), {"ü" * 128: file(b"")})), tmp_path / "image")


def test_what_is_lost_is_counted(tmp_path):
    xattrs = (
        ("system.posix_acl_access", b"\2\0\0\0"),
        ("system.nfs4_acl", b"x"),
        ("com.apple.quarantine", b"x"),
        ("user.", b"no name"),
        ("user.kept", b"x"),
        ("user.large", bytes(65_537)),
    )
    shared = file(b"x", xattrs=xattrs)
    done = write_image(
        tree(a=shared, b=shared, c=file(b"", xattrs=xattrs), d=file(b"", mtime=-1), e=file(b"", mtime=2**32)),
        tmp_path / "image",
    )
    assert done.lost == LostMetadata(times=2, acls=2, foreign=6, too_large=2)
    assert ours(tmp_path / "image")[b"a"].xattrs == ((b"user.kept", b"x"),)


@pytest.mark.parametrize("reader", READERS[1:])
def test_large_attribute_values_are_stored_once_and_come_back(tmp_path, reader):
    label = ("security.selinux", b"system_u:object_r:etc_t:s0")
    large = ("trusted.signature", noise(60_000))
    nodes = tree(
        **{f"f{number}": file(b"x", xattrs=(label, ("trusted.own", b"%d" % number), large)) for number in range(20)}
    )
    done = write_image(nodes, tmp_path / "image", compression=Compression("none"))
    assert done.size < 80_000
    assert differences(stated(of_tree(nodes)), reader(tmp_path / "image", tmp_path)) == []


def test_namespaces_of_attributes_can_be_chosen(tmp_path):
    xattrs = (("security.a", b"1"), ("trusted.b", b"2"), ("user.c", b"3"))
    image = tmp_path / "image"
    done = write_image(tree(a=file(b"", xattrs=xattrs)), image, xattr_namespaces=("security.", "user."))
    assert ours(image)[b"a"].xattrs == ((b"security.a", b"1"), (b"user.c", b"3"))
    assert done.lost == LostMetadata(0, 0, 0, 0)
    write_image(tree(a=file(b"", xattrs=xattrs)), image, xattrs=False)
    assert ours(image)[b"a"].xattrs == ()
    assert Flags.NO_XATTRS in Flags(superblock(image).flags)


@pytest.mark.parametrize("size", [0, 2048, 5000, 2 << 20])
def test_block_sizes_are_powers_of_two_from_4_kib_to_1_mib(size):
    with pytest.raises(UsageError, match=f"invalid block size of {size} bytes"):
        WriteOptions(block_size=size)


def test_an_empty_tree_is_an_image(tmp_path):
    done = write_image(Tree(Directory(Metadata(0o700))), tmp_path / "image")
    assert done.inodes == 1
    assert list(ours(tmp_path / "image")) == [b""]


def test_blocks_are_stored_as_they_are_where_compression_does_not_pay(tmp_path):
    done = write_image(tree(a=noise(40_960)), tmp_path / "image", compression=Compression("gzip", 1))
    assert done.sizes.data == 40_960


@pytest.fixture
def small_disk(monkeypatch):
    """Writes take 1000 bytes at a time, as long as there is room for them."""
    disk = SimpleNamespace(room=10**9)

    def pwrite(descriptor, data, at):
        if not disk.room:
            raise OSError(28, "No space left on device")
        count = whole(descriptor, data[: min(disk.room, 1000)], at)
        disk.room -= count
        return count

    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "pwritev", lambda descriptor, parts, at: pwrite(descriptor, b"".join(parts), at))
    return disk


def test_a_file_that_takes_less_than_it_is_given_gets_the_rest(tmp_path, small_disk):
    nodes = tree(a=noise(100_000))
    write_image(nodes, tmp_path / "slow")
    small_disk.room = 50_000
    with pytest.raises(OSError, match="No space left"):
        write_image(nodes, tmp_path / "full")
    assert (tmp_path / "slow").stat().st_size > 100_000
    assert differences(of_tree(nodes), unpacked(tmp_path / "slow", tmp_path)) == []


def test_what_changes_between_writing_and_reading_back_is_noticed(tmp_path):
    image = tmp_path / "image"
    sealed = write_image(tree(a=noise(9000)), image).sealed
    with open(image, "r+b", buffering=0) as file:
        assert sealed.read_back(file.fileno()) == sha256(image.read_bytes()).hexdigest()
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
        with pytest.raises(LtspError, match="read back differs"):
            sealed.read_back(file.fileno())
        file.truncate(sealed.size - 1)
        with pytest.raises(LtspError, match="read back differs"):
            sealed.read_back(file.fileno())
