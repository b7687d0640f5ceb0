"""Compressed archives with any name, and those that unpack to far too much."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random

import pytest

from archive.raw_tar import Opened, file, layout, packed, shown, tar
from ltsp.archive.archive import ArchiveReader, is_archive
from ltsp.archive.spool import Spool
from ltsp.errors import FormatError, LtspError
from ltsp.storage.blocks import FileBlocks
from ltsp.storage.compressed import zstd

ARCHIVE = tar(file(b"a", b"text" * 1000), file(b"zeros", bytes(300_000)))
FORMS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


@pytest.fixture
def read(tmp_path):
    opened = Opened(tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("form", FORMS)
def test_archives_are_unpacked_by_content(read, form):
    assert shown(read(FORMS[form](ARCHIVE)))["a"] == "text" * 1000


@pytest.mark.parametrize("form", FORMS)
def test_what_was_compressed_in_parts_is_one(read, form):
    compress = FORMS[form]
    assert shown(read(compress(ARCHIVE[:700]) + compress(b"") + compress(ARCHIVE[700:])))["a"] == "text" * 1000
    assert shown(read(compress(ARCHIVE) + bytes(4096)))["a"] == "text" * 1000


def test_tables_of_contents_between_frames_are_passed_over(read):
    table = (0x184D2A50).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"table"
    whole = zstd.compress(ARCHIVE[:700]) + table + zstd.compress(ARCHIVE[700:]) + table
    assert shown(read(whole))["a"] == "text" * 1000
    assert shown(read(table + whole))["a"] == "text" * 1000


@pytest.mark.parametrize("form", FORMS)
def test_damage_and_cuts_are_named(read, form):
    whole = FORMS[form](ARCHIVE + random.Random(0).randbytes(5000))
    with pytest.raises(FormatError, match="truncated"):
        read(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="truncated"):
        read(whole[:-3])
    with pytest.raises(FormatError, match="trailing data"):
        read(whole + b"rubbish")
    damaged = bytearray(whole)
    damaged[-30] ^= 0xFF
    with pytest.raises(FormatError, match=r"damaged|truncated"):
        read(bytes(damaged))


@pytest.mark.parametrize("form", FORMS)
def test_a_bomb_is_refused_soon(tmp_path, form):
    zeros = FORMS[form](bytes(32 << 20))
    head = FORMS[form](file(b"zeros", b"", length=b"\x80" + (1 << 62).to_bytes(11, "big")))
    with ArchiveReader(str(tmp_path)) as reader, pytest.raises(FormatError, match="unpacks to more than") as caught:
        reader.read_stream(iter([head, *[zeros] * 50]))
    assert "unpack it yourself" in caught.value.hint


def test_what_is_read_once_takes_no_room_for_its_zeros(tmp_path):
    with ArchiveReader(str(tmp_path)) as reader:
        tree = reader.read_stream(iter([tar(file(b"a", bytes(8 << 20)), file(b"b", b"end"))]))
        assert shown(tree)["b"] == "end"
        assert shown(tree)["a"] == "\0" * (8 << 20)
        assert os.fstat(reader._spool._file.fileno()).st_blocks * 512 < 1 << 20
    assert list(tmp_path.iterdir()) == []


def test_missing_space_is_reported_with_the_directory(tmp_path, monkeypatch):
    class Full:
        f_bavail, f_frsize = 1, 4096

    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: Full)
    with Spool(str(tmp_path)) as spool, pytest.raises(LtspError, match="not enough free space") as caught:
        spool.append(b"x")
    assert "TMPDIR" in caught.value.hint


def test_seekable_data_is_not_copied(read):
    read(tar(file(b"a", b"x" * 100_000)))
    read(layout(tar(file(b"a", b"x" * 100_000))).archive())
    assert read.reader._spool.size == 0
    read(layout(packed(tar(file(b"a", b"x" * 100_000)))).archive())
    assert read.reader._spool.size == 100_000


def test_a_program_that_writes_on_behind_the_end_is_waited_for(tmp_path):
    rest = iter([tar(file(b"a", b"x")), bytes(10_000), b"more"])
    with ArchiveReader(str(tmp_path)) as reader:
        assert shown(reader.read_stream(rest)) == {"a": "x"}
    assert list(rest) == []


def test_there_is_an_end_of_what_follows_the_end(tmp_path):
    def endless():
        yield tar(file(b"a"))
        while True:
            yield bytes(1 << 20)

    with ArchiveReader(str(tmp_path)) as reader, pytest.raises(FormatError, match="of trailing data"):
        reader.read_stream(endless())


@pytest.mark.parametrize(
    ("data", "expected"),
    {
        "a tar": (ARCHIVE, True),
        "a packed tar": (packed(ARCHIVE), True),
        "nothing": (b"", False),
        "zeros": (bytes(1024), False),
        "noise": (random.Random(1).randbytes(4096), False),
        "packed noise": (packed(random.Random(1).randbytes(4096)), False),
        "a cut gzip": (packed(ARCHIVE)[:20], False),
        "no gzip": (b"\x1f\x8b" + b"x" * 100, False),
    }.values(),
)
def test_what_is_an_archive(tmp_path, data, expected):
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as opened:
        assert is_archive(FileBlocks.of(opened)) is expected
