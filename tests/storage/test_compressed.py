"""Compressed streams as the programs write them, and concatenated ones."""

from __future__ import annotations

import bz2
import gzip
import random
import subprocess

import pytest

from ltsp.errors import FormatError
from ltsp.storage.compressed import decompress_stream, detect_compression


@pytest.mark.oracle
@pytest.mark.parametrize("program", [["gzip", "-c"], ["bzip2", "-c"], ["xz", "-c", "-T2"], ["zstd", "-c", "--long=27"]])
def test_what_the_programs_write(program):
    data = random.Random(2).randbytes(3 << 20) + bytes(3 << 20)
    done = subprocess.run(program, input=data, capture_output=True, check=True)
    assert b"".join(decompress_stream(iter([done.stdout[:1], done.stdout[1:]]))) == data


def test_streams_of_other_kinds_behind_each_other_are_one_and_both_sides_are_counted():
    packed = [gzip.compress(b"one"), bz2.compress(b"two"), bytes(512)]
    counts = []
    assert b"".join(decompress_stream(iter(packed), lambda *both: counts.append(both))) == b"onetwo"
    assert sum(taken for taken, _ in counts) >= len(packed[0] + packed[1])
    assert sum(given for _, given in counts) == 6


def test_who_counts_may_end_it():
    def counted(_packed, unpacked):
        if unpacked:
            raise FormatError("is a bomb")

    with pytest.raises(FormatError, match="is a bomb"):
        list(decompress_stream(iter([gzip.compress(b"x")]), counted))


def test_kinds_are_detected_by_their_first_bytes():
    assert detect_compression(gzip.compress(b"")) == "gzip"
    assert detect_compression((0x184D2A5F).to_bytes(4, "little")) == "zstd"
    assert detect_compression(b"B") == detect_compression(b"") == ""
