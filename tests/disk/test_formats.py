"""Every disk format that qemu-img writes is read like qemu-img reads it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from corpus.extents import read_extents
from disk import disk_patterns
from ltsp.disk.image import open_disk
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage.extents import NotInFiles, find_file_ranges, join_ranges

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.oracle
MIB = 1 << 20

KINDS = {
    "raw": ["-O", "raw"],
    "qcow2 of version 2": ["-O", "qcow2", "-o", "compat=0.10"],
    "qcow2 of version 3": ["-O", "qcow2"],
    "qcow2 with small clusters": ["-O", "qcow2", "-o", "cluster_size=512"],
    "qcow2 with large clusters": ["-O", "qcow2", "-o", "cluster_size=2M"],
    "qcow2 with parts of clusters": ["-O", "qcow2", "-o", "extended_l2=on"],
    "qcow2 that was made at once": ["-O", "qcow2", "-o", "preallocation=metadata"],
    "qcow2 by zlib": ["-c", "-O", "qcow2"],
    "qcow2 by zlib in large clusters": ["-c", "-O", "qcow2", "-o", "cluster_size=2M"],
    "qcow2 by zstd": ["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
    "qcow2 with lazy counts": ["-O", "qcow2", "-o", "lazy_refcounts=on"],
    "VMDK in one sparse file": ["-O", "vmdk"],
    "VMDK with empty grains": ["-O", "vmdk", "-o", "zeroed_grain=on"],
    "VMDK in one flat file": ["-O", "vmdk", "-o", "subformat=monolithicFlat"],
    "VMDK in sparse files": ["-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse"],
    "VMDK in flat files": ["-O", "vmdk", "-o", "subformat=twoGbMaxExtentFlat"],
    "VMDK as a stream": ["-O", "vmdk", "-o", "subformat=streamOptimized"],
    "VDI that grows": ["-O", "vdi"],
    "VDI of fixed size": ["-O", "vdi", "-o", "static=on"],
    "VHD that grows": ["-O", "vpc", "-o", "force_size=on"],
    "VHD of fixed size": ["-O", "vpc", "-o", "subformat=fixed,force_size=on"],
    "VHDX that grows": ["-O", "vhdx"],
    "VHDX of fixed size": ["-O", "vhdx", "-o", "subformat=fixed"],
    "VHDX with small blocks": ["-O", "vhdx", "-o", "block_size=1M"],
}
SIZE = 9 * MIB + 512 * 7
"""Ends within a cluster, a grain and a block."""


def qemu_img(*words: object) -> str:
    return subprocess.run(
        ["qemu-img", *map(str, words)], check=True, capture_output=True, text=True, timeout=120
    ).stdout


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("disk") / "plain"
    path.write_bytes(disk_patterns.disk(random.Random(4), SIZE))
    return path


class Siblings:
    """Files of one directory, by names without a directory; counted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.opened: list[str] = []
        self.stack = ExitStack()

    def __call__(self, name: str):
        self.opened.append(name)
        if "/" in name:
            raise SourceError(f"{name} is elsewhere")
        try:
            return self.stack.enter_context((self.directory / name).open("rb"))
        except FileNotFoundError as error:
            raise SourceError(f"there is no {name}") from error


@pytest.fixture
def siblings(tmp_path):
    found = Siblings(tmp_path)
    with found.stack:
        yield found


def whole(path: Path, siblings, step: int = MIB) -> bytes:
    with path.open("rb") as file:
        disk = open_disk(file, open_sibling=siblings).blocks
        return b"".join(disk.read_at(at, step) for at in range(0, disk.size, step))


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_is_read_as_qemu_reads_it(kind, raw, tmp_path, siblings, chance):
    made = tmp_path / "a disk.dat"
    qemu_img("convert", "-f", "raw", *KINDS[kind], raw, made)
    expected = raw.read_bytes()
    with made.open("rb") as file:
        disk = open_disk(file, open_sibling=siblings)
        assert disk.blocks.size == len(expected)
        assert disk.format in kind
        assert disk.blocks.read_at(0, len(expected)) == expected
        for _ in range(100):
            at = chance.randrange(len(expected) + 100)
            size = chance.choice((1, 17, 512, 4096, 70_000, chance.randrange(MIB)))
            assert disk.blocks.read_at(at, size) == expected[at : at + size]
            size = min(size, len(expected) - at)
            try:
                found = join_ranges(find_file_ranges(disk.blocks, at, size), 1 << 20) if size > 0 else []
            except NotInFiles:
                assert " by z" in kind or " as a stream" in kind or at + size > SIZE & -MIB
                continue
            assert read_extents(found) == expected[at : at + max(size, 0)]


@pytest.mark.parametrize("kind", ["raw", "qcow2 of version 3", "VMDK as a stream", "VHD of fixed size"])
@pytest.mark.parametrize("by", ["gzip", "bzip2", "xz", "zstd"])
def test_a_compressed_disk_is_unpacked_into_a_sparse_file(kind, by, raw, tmp_path):
    made = tmp_path / "disk"
    qemu_img("convert", "-f", "raw", *KINDS[kind], raw, made)
    compress = {
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": partial(lzma.compress, preset=0),
        "zstd": zstd.compress,
    }[by]
    content = made.read_bytes()
    scratch = (tmp_path / "scratch").open("w+b")
    with scratch:
        # Two members behind each other, as `gzip -c a b` makes them.
        packed = compress(content[:100_000]) + compress(content[100_000:])
        signs: list[None] = []
        disk = open_disk(io.BytesIO(packed), make_scratch=lambda: scratch, heartbeat=lambda: signs.append(None))
        assert disk.compression == by
        assert len(signs) > 1
        assert disk.blocks.read_at(0, SIZE) == raw.read_bytes()
        if kind == "raw":
            assert os.fstat(scratch.fileno()).st_blocks * 512 < SIZE * 3 // 4


@pytest.mark.parametrize("compress", [gzip.compress, partial(lzma.compress, preset=0), zstd.compress])
def test_a_truncated_compressed_disk_is_damaged(compress, raw):
    data = compress(raw.read_bytes())
    with pytest.raises(FormatError, match="it is truncated"):
        open_disk(io.BytesIO(data[: len(data) // 2]))


def test_a_compressed_file_that_decompresses_to_too_much_is_refused_in_time(monkeypatch):
    monkeypatch.setattr("ltsp.disk.image._ALWAYS_ALLOWED_SIZE", 64 * MIB)
    monkeypatch.setattr("ltsp.disk.image._MAX_RATIO", 10)
    with pytest.raises(FormatError, match="decompresses to more"):
        open_disk(io.BytesIO(gzip.compress(bytes(80 * MIB))))


def test_a_compressed_file_in_a_compressed_file_is_not_unpacked_again(raw):
    with pytest.raises(SourceError, match="compressed file in a gzip file"):
        open_disk(io.BytesIO(gzip.compress(gzip.compress(raw.read_bytes()))))


def write(disk: Path, *commands: str) -> None:
    words = [word for command in commands for word in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *words, disk], check=True, capture_output=True, timeout=60)


def test_a_difference_is_read_with_the_disks_below_it(raw, tmp_path, siblings):
    """The lowest is shorter than those above it, which have zeros over its data, and data of their own."""
    (tmp_path / "base").write_bytes(raw.read_bytes())
    qemu_img("create", "-f", "qcow2", "-b", "base", "-F", "raw", tmp_path / "middle", "12M")
    write(tmp_path / "middle", "write -P 7 1000k 900k", "write -z 2M 200k", "write -P 9 11M 512")
    qemu_img("create", "-f", "qcow2", "-o", "extended_l2=on", "-b", "middle", "-F", "qcow2", tmp_path / "top", "14M")
    write(tmp_path / "top", "write -P 5 1500k 5k", "write -z 3M 3k", "write -P 4 13M 1k", "discard 4M 128k")
    qemu_img("convert", "-O", "raw", tmp_path / "top", tmp_path / "expected")
    assert whole(tmp_path / "top", siblings, 333_333) == (tmp_path / "expected").read_bytes()
    assert siblings.opened == ["middle", "base"]


def test_a_disk_below_is_asked_for_in_the_directory_of_the_disk_that_names_it(raw, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/base").write_bytes(raw.read_bytes())
    qemu_img("create", "-f", "qcow2", "-b", "base", "-F", "raw", tmp_path / "store/middle")
    qemu_img("create", "-f", "qcow2", "-b", "store/middle", "-F", "qcow2", tmp_path / "top")
    with ExitStack() as stack, (tmp_path / "top").open("rb") as file:
        disk = open_disk(file, open_sibling=lambda name: stack.enter_context((tmp_path / name).open("rb")))
        assert disk.backing_files == ("store/middle", "store/base")
        assert disk.blocks.read_at(0, SIZE) == raw.read_bytes()


def test_raw_content_below_a_disk_that_calls_it_raw_chooses_no_reader(tmp_path, siblings):
    """A guest may write the header of a qcow2 disk, with a backing file of its choice, to its own raw disk."""
    qemu_img("create", "-f", "qcow2", "-u", "-b", "secret", "-F", "raw", tmp_path / "base", "1M")
    qemu_img("create", "-f", "qcow2", "-b", "base", "-F", "raw", tmp_path / "top")
    content = (tmp_path / "base").read_bytes()
    assert whole(tmp_path / "top", siblings)[: len(content)] == content
    assert siblings.opened == ["base"]


def test_a_disk_below_itself_is_refused(tmp_path, siblings):
    for name, below in (("one", "two"), ("two", "three"), ("three", "one")):
        qemu_img("create", "-f", "qcow2", "-u", "-b", below, "-F", "qcow2", tmp_path / name, "1M")
    with pytest.raises(FormatError, match="loop"):
        whole(tmp_path / "one", siblings)


def test_a_chain_that_is_too_long_is_refused():
    """Each disk is another file in memory, so that only the length gives it away."""

    def disk(_name: str):
        return io.BytesIO(image)

    image = disk_patterns.qcow2(backing=b"again")
    with pytest.raises(FormatError, match="backing chain has more than 64 files"):
        open_disk(io.BytesIO(image), open_sibling=disk)


@pytest.mark.parametrize("name", ["json:{}", "nbd://host/disk", "ssh://host/disk", "rbd:pool/disk", "https://host/"])
def test_a_backing_file_that_is_not_a_file_is_named(name, siblings):
    with pytest.raises(SourceError, match="not a local file") as caught:
        open_disk(io.BytesIO(disk_patterns.qcow2(backing=name.encode())), open_sibling=siblings)
    assert name in caught.value.message
    assert siblings.opened == []


def test_a_difference_that_comes_alone_names_the_disk_below():
    with pytest.raises(SourceError, match="needs another file, base"):
        open_disk(io.BytesIO(disk_patterns.qcow2(backing=b"base")))


REFUSED = {
    "an encrypted disk": ({"encryption": 1}, "encrypted .AES"),
    "a disk with LUKS in it": ({"encryption": 2}, "encrypted .LUKS"),
    "an external data file": ({"incompatible": 4}, "external data file"),
    "a feature that the disk names": ({"incompatible": 1 << 9, "feature": (9, b"time travel")}, "time travel"),
    "a feature without a name": ({"incompatible": 1 << 9}, "feature 9"),
    "a corrupt disk": ({"incompatible": 2}, "marked as corrupt"),
    "an unknown version": ({"version": 4}, "qcow version 4"),
    "huge clusters": ({"cluster_bits": 30}, "2.30 bytes"),
    "a huge table": ({"size": 1 << 62, "entries": 1 << 31}, "table is too large: 2147483648 entries"),
    "a table that is too small": ({"size": 1 << 50}, "too small"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_qcow2_that_cannot_be_read_says_why(what):
    fields, message = REFUSED[what]
    with pytest.raises((FormatError, SourceError), match=message):
        open_disk(io.BytesIO(disk_patterns.qcow2(**fields)))


def test_a_disk_that_was_not_closed_is_read_with_a_warning():
    disk = open_disk(io.BytesIO(disk_patterns.qcow2(incompatible=1)))
    assert disk.warnings == ("the qcow2 image was not closed cleanly (its dirty bit is set)",)
    assert disk.blocks.read_at(0, MIB) == bytes(MIB)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"raw", "VHD of fixed size"}])
def test_a_truncated_disk_is_damaged(kind, raw, tmp_path, siblings):
    made = tmp_path / "disk"
    qemu_img("convert", "-f", "raw", *KINDS[kind], raw, made)
    biggest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(biggest, biggest.stat().st_size // 2)
    with pytest.raises(FormatError):
        whole(made, siblings)


def test_a_vmdk_names_the_extent_that_is_missing(raw, tmp_path, siblings):
    qemu_img("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat", raw, tmp_path / "disk.vmdk")
    (tmp_path / "disk-flat.vmdk").unlink()
    with pytest.raises(SourceError, match=r"there is no disk-flat\.vmdk"):
        whole(tmp_path / "disk.vmdk", siblings)


DESCRIPTORS = {
    "an extent elsewhere": ('RW 8 FLAT "../../etc/shadow" 0\n', "elsewhere"),
    "an absolute extent": ('RW 8 FLAT "/etc/shadow" 0\n', "elsewhere"),
    "a difference": (
        'parentCID=12345678\nparentFileNameHint="base.vmdk"\nRW 8 SPARSE "x"\n',
        "depends on base.vmdk",
    ),
    "a raw device": ('RW 8 VMFSRDM "x"\n', "ESXi raw device"),
    "a redo log": ('RW 8 SESPARSE "x"\n', "redo log"),
    "no extents": ("CID=fffffffe\n", "no extents"),
    "an extent of no kind": ('RW 8 FLUFFY "x"\n', "an invalid line"),
}


@pytest.mark.parametrize("what", DESCRIPTORS)
def test_a_vmdk_descriptor_that_cannot_be_followed_says_why(what, siblings):
    text, message = DESCRIPTORS[what]
    with pytest.raises(LtspError, match=message):
        open_disk(io.BytesIO(b"# Disk DescriptorFile\nversion=1\n" + text.encode()), open_sibling=siblings)


def test_a_vmdk_of_pieces_and_zeros_is_put_together(tmp_path, siblings):
    (tmp_path / "data").write_bytes(b"a" * 1024 + b"b" * 1024)
    text = '# Disk DescriptorFile\nRW 2 FLAT "data" 2\nRW 3 ZERO\nRW 1 VMFS "data"\n'
    (tmp_path / "disk").write_text(text)
    assert whole(tmp_path / "disk", siblings, 700) == b"b" * 1024 + bytes(1536) + b"a" * 512


@pytest.mark.parametrize(("kind", "at"), [("VDI that grows", 0x4C), ("VHD that grows", None)])
def test_a_snapshot_is_not_a_whole_disk(kind, at, raw, tmp_path):
    made = tmp_path / "disk"
    qemu_img("convert", "-f", "raw", *KINDS[kind], raw, made)
    content = bytearray(made.read_bytes())
    if at:
        content[at] = 4
    else:
        content[-512 + 63] = 4
        content[-512 + 64 : -512 + 68] = bytes(4)
        content[-512 + 64 : -512 + 68] = (~sum(content[-512:]) & 0xFFFFFFFF).to_bytes(4, "big")
    with pytest.raises(SourceError, match="depends on another disk"):
        open_disk(io.BytesIO(content))


def test_a_vhd_without_its_footer_is_read_by_the_copy(raw, tmp_path):
    made = tmp_path / "disk"
    qemu_img("convert", "-f", "raw", *KINDS["VHD that grows"], raw, made)
    disk = open_disk(io.BytesIO(made.read_bytes()[:-512])).blocks
    assert disk.read_at(0, SIZE) == raw.read_bytes()


@pytest.mark.parametrize("magic", [b"QED\0", b"WithoutFreeSpace", b"COWD"])
def test_unsupported_formats_are_named(magic):
    with pytest.raises(SourceError, match=r"it is an? .*(disk|ESXi)"):
        open_disk(io.BytesIO(magic + bytes(4096)))
