"""Unified kernel images as ukify makes them, without the stub: an EFI program with a section for each part."""

from __future__ import annotations

import struct

_ALIGNMENT = 512


def unified(*sections: tuple[str, bytes]) -> bytes:
    """A PE32+ file for x86-64 with these sections. learn.microsoft.com, "PE Format" """
    headers = 0x80 + 24 + 240 + 40 * (len(sections) + 1)
    at = _aligned(headers)
    table, body = [], bytearray()
    address = 0x1000
    for name, data in ((".text", b"\xc3"), *sections):
        table.append(
            struct.pack(
                "<8sIIII12xI", name.encode(), len(data), address, _aligned(len(data)), at + len(body), 0x60000020
            )
        )
        body += data + bytes(_aligned(len(data)) - len(data))
        address += (len(data) + 0xFFF) // 0x1000 * 0x1000
    head = bytearray(0x80)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x80)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(table), 0, 0, 0, 240, 0x22E)
    optional = bytearray(240)
    struct.pack_into("<HBBIIIII", optional, 0, 0x20B, 2, 40, _ALIGNMENT, 0, 0, 0x1000, 0x1000)
    struct.pack_into("<QII", optional, 24, 0x10000, 0x1000, _ALIGNMENT)
    struct.pack_into("<II", optional, 56, address, _aligned(headers))
    struct.pack_into("<H", optional, 68, 10)  # an EFI application
    struct.pack_into("<I", optional, 108, 16)
    whole = bytes(head) + coff + bytes(optional) + b"".join(table)
    return whole + bytes(_aligned(headers) - len(whole)) + bytes(body)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
