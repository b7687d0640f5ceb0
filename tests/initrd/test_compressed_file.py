from __future__ import annotations

import gzip
import lzma
import subprocess

import pytest

from corpus.dict_tree import make_tree
from corpus.tree_strategies import text
from ltsp.errors import FormatError
from ltsp.initrd.compressed_file import read_decompressed, strip_suffix

DATA = text(100_000)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout


PACKED = {"": DATA, ".gz": gzip.compress(DATA), ".xz": lzma.compress(DATA), ".zst": zstd(DATA)}


@pytest.mark.parametrize("suffix", PACKED)
def test_files_are_decompressed_with_any_codec(suffix):
    tree = make_tree({f"usr/lib/a.ko{suffix}": PACKED[suffix], "lib": "-> usr/lib"})
    assert read_decompressed(tree, "lib/a.ko", 100_000) == DATA


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_that_decompresses_to_too_much_is_refused(suffix):
    with pytest.raises(FormatError, match=r"/a\.ko.* larger than .* when decompressed"):
        read_decompressed(make_tree({f"a.ko{suffix}": PACKED[suffix]}), "a.ko", 99_999)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_truncated_or_damaged_file_is_refused(suffix):
    packed = PACKED[suffix]
    with pytest.raises(FormatError, match="is truncated"):
        read_decompressed(make_tree({f"a.ko{suffix}": packed[:-20]}), "a.ko", 1 << 20)
    with pytest.raises(FormatError, match="is damaged"):
        read_decompressed(make_tree({f"a.ko{suffix}": packed[:9] + b"\xff" * 30 + packed[39:]}), "a.ko", 1 << 20)


def test_a_missing_file_is_none():
    assert read_decompressed(make_tree({"a.ko": None}), "a.ko", 1) is None


def test_suffixes_of_compression_are_distinguished_from_others():
    assert [strip_suffix(name) for name in ("a.ko.xz", "a.ko", "a.zst.bin")] == ["a.ko", "a.ko", "a.zst.bin"]
