"""The check before publishing accepts images from our writer and mksquashfs, and refuses damaged or truncated ones."""

from __future__ import annotations

import io
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings

from corpus.tree_snapshot import differences, of_tree
from corpus.tree_strategies import trees
from ltsp.errors import FormatError
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.inode_reader import InodeReader
from ltsp.squashfs.meta_reader import MemoryBudget
from ltsp.squashfs.reader import Image
from ltsp.squashfs.superblock import CompressorId, Flags, SquashfsSuperblock
from ltsp.squashfs.tree_reader import SquashfsTreeReader
from ltsp.squashfs.verify import check_image, verify_image
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from squashfs.image_snapshot import snapshot
from squashfs.raw_image import image, root
from squashfs.write_helpers import in_memory


def written(tree, **options) -> io.BytesIO:
    return in_memory(tree, WriteOptions(**{"compression": Compression("zstd", 1), "block_size": 4096, **options}))


@settings(max_examples=40)
@given(trees())
def test_what_our_writer_makes_passes_the_check_and_equals_its_source(tree):
    image = check_image(written(tree))
    verified = verify_image(image, tree, Faults())
    assert verified.nodes == image.superblock.inode_count
    assert verified.not_compared == ()


@settings(max_examples=40)
@given(trees())
def test_the_export_table_leads_to_the_inode_of_each_number(tree):
    image = Image.open(written(tree))
    tables = image.tables
    allowance = MemoryBudget(1 << 30)
    growth = SquashfsTreeReader(
        image.superblock,
        tables.directories,
        InodeReader(tables.inodes, tables.ids, tables.xattrs, image.blocks, allowance),
        allowance,
    )
    growth.tree()
    exported = array("Q", b"".join(tables.exports.blocks()))
    assert exported == growth.references[1:]


@settings(max_examples=20)
@given(trees())
def test_holes_are_reported_and_reads_of_any_size_fit_together(tree):
    image = Image.open(written(tree)).tree()
    assert differences(of_tree(image), snapshot(image)) == []


@settings(max_examples=10)
@given(trees())
def test_several_threads_may_read_one_image(tree):
    image = Image.open(written(tree))
    files = [node for _, node in image.tree().walk() if isinstance(node, File)]

    def whole(file):
        with file.content.open() as stream:
            return stream.read(stream.size)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(whole, files * 4)) == [whole(file) for file in files] * 4


@pytest.mark.parametrize(
    "compression",
    [
        Compression("gzip", 3),
        Compression("gzip", 9),
        Compression("zstd", 4),
        Compression("lz4"),
        Compression("lz4", high_compression=True),
    ],
    ids=str,
)
def test_an_image_tells_what_it_was_compressed_with(compression):
    file = in_memory(Image.open(io.BytesIO(image(root(b"")))).tree(), WriteOptions(compression))
    assert check_image(file).compression() == compression


@pytest.mark.parametrize("length", [0, 1, 95, 96, 100, 140])
def test_a_truncated_image_file_is_refused(length):
    data = image(root(b""))
    assert length < len(data)
    with pytest.raises(FormatError):
        check_image(io.BytesIO(data[:length]))


def test_a_file_that_is_not_an_image_is_refused():
    for data in (b"", b"x" * 200, b"sqsh" + bytes(200)):
        with pytest.raises(FormatError, match="not a squashfs image"):
            check_image(io.BytesIO(data))


SUPERBLOCKS = {
    "unsupported version 3.1: only 4.0 is supported": {"major": 3, "minor": 1},
    "unknown compressor 7": {"compressor": 7},
    "block size 131073": {"block_size": 131073},
    "with logarithm 16": {"block_log": 16},
    "with logarithm 65535": {"block_log": 65535},
    "block size 2097152": {"block_size": 1 << 21, "block_log": 21},
    "the image is 1000000 bytes long": {"bytes_used": 1_000_000},
    "0 inodes in": {"inode_count": 0},
    "fragment blocks in": {"fragment_count": 2**32 - 1},
    "the id table has no entries": {"id_count": 0},
    "the inode table at 5 is before": {"inode_table": 5},
    "the directory table at 0 is before": {"directory_table": 0},
    "the end of the image at 144 is before the id table": {"id_table": 2**63},
    "the xattr table at 7 is before": {"xattr_table": 7},
    "the export table at 97 is before": {"export_table": 97},
    "the root inode is outside of the inode table": {"root": 100 << 16},
    "outside of the inode table, at 0:8192": {"root": 8192},
}


@pytest.mark.parametrize("told", SUPERBLOCKS)
def test_a_superblock_that_contradicts_itself_or_the_file_is_refused(told):
    data = image(root(b""))
    with pytest.raises(FormatError) as refused:
        check_image(io.BytesIO(replace(SquashfsSuperblock.unpack(data), **SUPERBLOCKS[told]).pack() + data[96:]))
    assert told in refused.value.message
    assert refused.value.message.startswith("superblock is damaged: ")


def test_a_record_of_options_that_is_damaged_is_refused():
    data = image(root(b""), data=b"\x07\x80" + bytes(7), flags=Flags.COMPRESSOR_OPTIONS)
    with pytest.raises(FormatError, match="options of gzip"):
        check_image(io.BytesIO(data))


def test_what_lzo_cannot_decompress_is_damage():
    data = image(root(b""), inode_table=b"\x01\x00x" * 20, compressor=CompressorId.LZO)
    with pytest.raises(FormatError, match="lzo cannot decompress it"):
        check_image(io.BytesIO(data))
