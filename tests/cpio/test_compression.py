from __future__ import annotations

import gzip
import subprocess

import pytest

from corpus.tree_strategies import noise, text
from ltsp.cpio.compression import CODECS, compress, matches_archive
from ltsp.errors import UsageError

ARCHIVE = text(300_000) + noise(100_000) + text(300_000, 2)


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
@pytest.mark.oracle
def test_the_programs_of_the_codecs_read_what_was_compressed(codec):
    done = subprocess.run([codec, "-dc"], input=compress(ARCHIVE, codec), capture_output=True, check=True)
    assert done.stdout == ARCHIVE


@pytest.mark.parametrize("codec", ["zstd", "gzip", "none"])
def test_compression_gives_the_same_bytes_each_time(codec):
    assert compress(ARCHIVE, codec) == compress(ARCHIVE, codec)


def test_gzip_records_neither_name_nor_time():
    packed = compress(ARCHIVE, "gzip")
    assert packed[3] == 0
    assert packed[4:8] == bytes(4)
    assert gzip.decompress(packed) == ARCHIVE


def test_an_archive_may_stay_as_it_is():
    assert compress(ARCHIVE, "none") == ARCHIVE


def test_a_codec_that_kernels_may_lack_is_refused():
    with pytest.raises(UsageError, match="unsupported initrd compression 'lz4'"):
        compress(ARCHIVE, "lz4")


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_packed_already_is_known_again(codec):
    packed = compress(ARCHIVE, codec)
    assert matches_archive(packed, codec, ARCHIVE)
    for other in (ARCHIVE[:-1], ARCHIVE + b"x", b"x" + ARCHIVE[1:]):
        assert not matches_archive(packed, codec, other)
    for damaged in (b"", packed[:100], packed[: len(packed) // 2], b"damaged" + packed):
        assert not matches_archive(damaged, codec, ARCHIVE)
    for another in set(CODECS) - {codec}:
        assert not matches_archive(packed, another, ARCHIVE)
