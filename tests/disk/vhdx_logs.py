"""The logs of a VHDX whose writer was killed. [MS-VHDX] 2.3"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ltsp.storage.checksum import crc32c_inverted

IDENTITY = bytes(range(1, 17))
PAGE = 4096


@dataclass
class Entry:
    sequence: int
    sectors: dict[int, bytes] = field(default_factory=dict)
    zeros: list[tuple[int, int]] = field(default_factory=list)
    """Offset and size."""

    def pack(self, tail: int, file_size: int) -> bytes:
        descriptors = b"".join(
            struct.pack("<4s4sQQQ", b"desc", data[-4:], int.from_bytes(data[:8], "little"), place, self.sequence)
            for place, data in self.sectors.items()
        )
        descriptors += b"".join(
            struct.pack("<4s4xQQQ", b"zero", size, place, self.sequence) for place, size in self.zeros
        )
        body = (bytes(64) + descriptors).ljust(-(-(64 + len(descriptors)) // PAGE) * PAGE, b"\0")
        high, low = self.sequence >> 32, self.sequence & 0xFFFFFFFF
        for data in self.sectors.values():
            body += struct.pack("<4sI", b"data", high) + data[8:-4] + struct.pack("<I", low)
        count = len(self.sectors) + len(self.zeros)
        header = struct.pack(
            "<4sIIIQII16sQQ", b"loge", 0, len(body), tail, self.sequence, count, 0, IDENTITY, file_size, file_size
        )
        entry = header + body[64:]
        return entry[:4] + struct.pack("<I", crc32c_inverted(entry)) + entry[8:]


def logged(disk: bytes, entries: list[Entry], start: int = 0) -> bytes:
    """The disk with these in its log, the oldest at a place in it; they may go round its end."""
    content = bytearray(disk)
    headers = [at for at in (64 << 10, 128 << 10) if content.startswith(b"head", at)]
    newest = max(headers, key=lambda at: content[at + 8 : at + 16][::-1])
    size, place = struct.unpack_from("<IQ", content, newest + 68)
    log = bytearray(size)
    at = start
    for entry in entries:
        data = entry.pack(start, len(disk))
        first = min(len(data), size - at)
        log[at : at + first] = data[:first]
        log[: len(data) - first] = data[first:]
        at = (at + len(data)) % size
    content[place : place + size] = log
    for header in headers:
        content[header + 48 : header + 64] = IDENTITY
        content[header + 4 : header + 8] = bytes(4)
        content[header + 4 : header + 8] = struct.pack("<I", crc32c_inverted(bytes(content[header : header + PAGE])))
    return bytes(content)
