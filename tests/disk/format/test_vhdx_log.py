"""A VHDX whose writer was killed is read as if its log had been written out, and is not changed."""

from __future__ import annotations

import io
import random
import subprocess

import pytest

from disk import disk_patterns, vhdx_logs
from disk.vhdx_logs import PAGE, Entry, logged
from ltsp.disk.image import open_disk
from ltsp.errors import FormatError
from ltsp.storage.checksum import crc32c_inverted

MIB = 1 << 20
SIZE = 3 * MIB


def qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> bytes:
    directory = tmp_path_factory.mktemp("vhdx")
    (directory / "raw").write_bytes(disk_patterns.disk(random.Random(5), SIZE) + random.Random(6).randbytes(MIB))
    qemu_img("convert", "-f", "raw", "-O", "vhdx", "-o", "block_size=1M", directory / "raw", directory / "disk")
    return (directory / "disk").read_bytes()


def whole(disk: bytes) -> bytes:
    blocks = open_disk(io.BytesIO(disk)).blocks
    return blocks.read_at(0, blocks.size)


def data_at(disk: bytes) -> int:
    """The offset of some payload in the file."""
    content = whole(disk)
    return disk.index(content[SIZE : SIZE + PAGE])


def entries(disk: bytes, chance: random.Random) -> list[Entry]:
    place = data_at(disk)
    return [
        Entry(7, {place + PAGE: chance.randbytes(PAGE), place + 3 * PAGE: chance.randbytes(PAGE)}),
        Entry(8, {place + PAGE: chance.randbytes(PAGE)}, [(place + 8 * PAGE, 4 * PAGE)]),
        Entry(9, {place + 9 * PAGE: chance.randbytes(PAGE)}),
    ]


@pytest.mark.oracle
@pytest.mark.parametrize("start", [0, 40 * PAGE, MIB - 8 * PAGE])
def test_a_log_is_replayed_as_qemu_replays_it(start, disk, chance, tmp_path):
    """Later entries override earlier ones."""
    open_one = logged(disk, entries(disk, chance), start)
    (tmp_path / "disk").write_bytes(open_one)
    qemu_img("check", "-r", "all", tmp_path / "disk")
    qemu_img("convert", "-O", "raw", tmp_path / "disk", tmp_path / "expected")
    expected = (tmp_path / "expected").read_bytes()
    assert expected != whole(disk)
    blocks = open_disk(io.BytesIO(open_one)).blocks
    assert blocks.read_at(0, blocks.size) == expected
    for _ in range(100):
        at, size = chance.randrange(len(expected)), chance.choice((1, 512, PAGE, 20_000, 300_000))
        assert blocks.read_at(at, size) == expected[at : at + size]


@pytest.mark.oracle
@pytest.mark.parametrize("before_its_end", [1, 2, 3, 4, 5, 6])
def test_a_log_that_wraps_around_is_the_same(before_its_end, disk, chance):
    """QEMU 7.2 loses sectors of it."""
    written = entries(disk, chance)
    assert whole(logged(disk, written, MIB - before_its_end * PAGE)) == whole(logged(disk, written))


@pytest.mark.oracle
def test_a_log_without_a_complete_sequence_changes_nothing(disk, chance):
    broken = entries(disk, chance)
    broken[1].sequence = 20
    broken[2].sequence = 40
    open_one = bytearray(logged(disk, broken))
    at = open_one.index(b"loge")
    open_one[at + 100] ^= 1
    assert whole(bytes(open_one)) == whole(disk)


@pytest.mark.oracle
def test_a_log_of_another_identity_is_ignored(disk, chance, monkeypatch):
    monkeypatch.setattr(vhdx_logs, "IDENTITY", bytes(16))
    assert whole(logged(disk, entries(disk, chance))) == whole(disk)


@pytest.mark.oracle
@pytest.mark.parametrize("zeros", [(1 << 50, PAGE), (0, 1 << 50), (PAGE, 1 << 62)])
def test_a_log_that_zeroes_more_than_the_file_is_refused(zeros, disk):
    with pytest.raises(FormatError, match="zeroes more"):
        whole(logged(disk, [Entry(7, zeros=[zeros])]))


@pytest.mark.oracle
def test_a_log_of_a_longer_file_is_refused(disk, chance):
    open_one = logged(disk + bytes(MIB), entries(disk, chance))
    with pytest.raises(FormatError, match="truncated"):
        whole(open_one[:-MIB])


def test_the_sum_is_that_of_the_standard():
    """RFC 3720, appendix B.4"""
    assert crc32c_inverted(bytes(32)) == 0x8A9136AA
    assert crc32c_inverted(b"\xff" * 32) == 0x62A8AB43
    assert crc32c_inverted(bytes(range(32))) == 0x46DD794E
