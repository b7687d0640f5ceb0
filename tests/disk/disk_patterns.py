"""Disk contents that reveal misplaced reads, and headers that qemu-img does not write."""

from __future__ import annotations

import random
import struct

MIB = 1 << 20


def disk(chance: random.Random, size: int) -> bytes:
    """Data that compresses and data that does not, zeros and holes, at borders and off them; no sector twice."""
    content = bytearray(size)
    at = 0
    while at < size:
        length = chance.choice((512, 4096, 65536, 200_000, MIB, chance.randrange(1, MIB)))
        match chance.randrange(4):
            case 0:
                piece = chance.randbytes(length)
            case 1:
                piece = b"".join(b"sector %9d\n" % number for number in range(at // 17, (at + length) // 17 + 1))[
                    :length
                ]
            case _:
                piece = b""
        content[at : at + len(piece)] = piece
        at += length
    return bytes(content[:size])


def qcow2(
    *,
    version: int = 3,
    backing: bytes = b"",
    cluster_bits: int = 16,
    size: int = MIB,
    encryption: int = 0,
    entries: int = 1,
    incompatible: int = 0,
    feature: tuple[int, bytes] | None = None,
) -> bytes:
    """A disk without any data."""
    extensions = b""
    if feature:
        extensions = struct.pack(">IIBB46s", 0x6803F857, 48, 0, *feature)
    extensions += bytes(8)
    header = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", version, 112 + len(extensions) if backing else 0, len(backing), cluster_bits,
        size, encryption, entries, 3 << 16, 1 << 16, 1, 0, 0,
    ) + struct.pack(">QQQII", incompatible, 0, 0, 4, 112) + bytes(8)  # fmt: skip
    content = header + extensions + backing
    return content + bytes((4 << 16) - len(content))
