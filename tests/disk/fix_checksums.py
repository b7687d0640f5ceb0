"""Fix the checksums of headers, so that a mutant is parsed and not just refused for its checksum."""

from __future__ import annotations

import hashlib
import struct
import zlib
from contextlib import suppress

from disk.tables import lvm_sum
from ltsp.storage.checksum import crc32c_inverted


def fix_checksums(disk: bytearray) -> None:
    """Fix all checksums found at their usual offsets."""
    for each in (_vhd, _vhdx, _gpt, _lvm, _md, _luks):
        with suppress(struct.error):  # a truncated header stays as it is
            each(disk)


def _put(disk: bytearray, at: int, value: int) -> None:
    disk[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")


def _vhd(disk: bytearray) -> None:
    for at, magic, place, size in (
        (0, b"conectix", 64, 512),
        (len(disk) - 512, b"conectix", 64, 512),
        (512, b"cxsparse", 36, 1024),
    ):
        if at >= 0 and disk.startswith(magic, at) and len(disk) >= at + size:
            disk[at + place : at + place + 4] = bytes(4)
            disk[at + place : at + place + 4] = (~sum(disk[at : at + size]) & 0xFFFFFFFF).to_bytes(4, "big")


def _vhdx(disk: bytearray) -> None:
    if not disk.startswith(b"vhdxfile"):
        return
    for at, magic, size in ((64, b"head", 4), (128, b"head", 4), (192, b"regi", 64)):
        if disk.startswith(magic, at << 10) and len(disk) >= at + size << 10:
            _put(disk, (at << 10) + 4, 0)
            _put(disk, (at << 10) + 4, crc32c_inverted(bytes(disk[at << 10 : at + size << 10])))
    at = disk.find(b"loge")
    if at >= 0:
        (length,) = struct.unpack_from("<I", disk, at + 8)
        if length <= 1 << 20:
            _put(disk, at + 4, 0)
            _put(disk, at + 4, crc32c_inverted(bytes(disk[at : at + length])))


def _gpt(disk: bytearray) -> None:
    for at in (512, len(disk) - 512):
        if at < 0 or not disk.startswith(b"EFI PART", at) or len(disk) < at + 512:
            continue
        (length,) = struct.unpack_from("<I", disk, at + 12)
        place, count, size = struct.unpack_from("<QII", disk, at + 72)
        if count * size <= len(disk):
            _put(disk, at + 88, zlib.crc32(disk[place * 512 : place * 512 + count * size]))
        _put(disk, at + 16, 0)
        _put(disk, at + 16, zlib.crc32(disk[at : at + min(length, 512)]))


def _lvm(disk: bytearray) -> None:
    if disk.startswith(b" LVM2 x", 4100) and len(disk) >= 4096 + 512:
        start, size = struct.unpack_from("<QQ", disk, 4096 + 40)
        end = 1 << 20
        first = disk[4096 + start : min(4096 + start + size, end)]
        text = first + disk[4608 : 4608 + max(size - len(first), 0)]
        _put(disk, 4096 + 56, lvm_sum(bytes(text)))
        _put(disk, 4096, lvm_sum(bytes(disk[4100 : 4096 + 512])))
    if disk.startswith(b"LABELONE", 512) and len(disk) >= 1024:
        _put(disk, 528, lvm_sum(bytes(disk[532:1024])))


def _luks(disk: bytearray) -> None:
    for at, magic in ((0, b"LUKS"), (16384, b"SKUL")):
        (size,) = struct.unpack_from(">Q", disk, at + 8)
        if disk.startswith(magic, at) and 512 <= size <= 1 << 22 and len(disk) >= at + size:
            disk[at + 448 : at + 512] = bytes(64)
            disk[at + 448 : at + 480] = hashlib.sha256(disk[at : at + size]).digest()


def _md(disk: bytearray) -> None:
    end = len(disk) // 512
    for place in (0, 8, (end - 16) & ~7):
        at = place * 512
        if at >= 0 and disk.startswith(b"\xfc\x4e\x2b\xa9\1", at):
            size = 256 + 2 * (int.from_bytes(disk[at + 220 : at + 224], "little") & 0xFFFE)
            _put(disk, at + 216, 0)
            if len(disk) >= at + size:
                total = sum(struct.unpack_from(f"<{size // 4}I", disk, at))
                _put(disk, at + 216, (total & 0xFFFFFFFF) + (total >> 32))
    at = len(disk) // 65536 * 65536 - 65536
    if at >= 0 and disk.startswith(b"\xfc\x4e\x2b\xa9\0", at):
        _put(disk, at + 152, 0)
        total = sum(struct.unpack_from("<1024I", disk, at))
        _put(disk, at + 152, (total & 0xFFFFFFFF) + (total >> 32))
