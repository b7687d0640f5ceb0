"""The version that a kernel's file itself states.

bzImage: Documentation/arch/x86/boot.rst of Linux. Others (arm64 Image, also compressed, and the self-extracting EFI
"zboot" form of drivers/firmware/efi/libstub/zboot-header.S) hold the banner of init/version.c.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from ltsp.tree.content import Content, Stream

_BANNER = re.compile(rb"Linux version ([0-9][^\s\0]{0,127}) ")
_WORD = re.compile(r"[0-9][!-~]{0,127}")
_PIECE = 1 << 20
_OVERLAP = 256
_MOST = 256 << 20
"""Bytes that are looked through, after unpacking."""


def stated_version(kernel: Content) -> str | None:
    """The version, or None where the file does not say it in a form known here. Raises OSError as reading does."""
    with kernel.open() as stream:
        head = stream.read(_PIECE)
        if head[0x202:0x206] == b"HdrS":
            return _of_bzimage(head)
        return _of_banner(head, stream)


def _of_bzimage(head: bytes) -> str | None:
    (offset,) = struct.unpack_from("<H", head, 0x20E)
    text = head[offset + 0x200 : offset + 0x200 + 256].split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    return text if offset and _WORD.fullmatch(text) else None


def _of_banner(head: bytes, stream: Stream) -> str | None:
    tail = b""
    for piece in _unpacked(head, stream):
        found = _BANNER.search(tail + piece)
        if found is not None:
            text = found[1].decode("ascii", "replace")
            return text if _WORD.fullmatch(text) else None
        tail = (tail + piece)[-_OVERLAP:]
    return None


def _unpacked(head: bytes, stream: Stream) -> Iterator[bytes]:
    """The bytes of the kernel proper, as far as they can be had and are worth looking through."""
    start = 0
    if head[4:8] == b"zimg":
        start, kind = int.from_bytes(head[8:12], "little"), head[24:56].split(b"\0")[0]
        if kind != b"gzip":
            return
    inflate = zlib.decompressobj(31) if head[start : start + 2] == b"\x1f\x8b" else None
    piece = head[start:]
    given = 0
    while piece and given < _MOST:
        if inflate is None:
            given += len(piece)
            yield piece
        else:
            try:
                while piece and given < _MOST:
                    data = inflate.decompress(piece, 4 * _PIECE)
                    piece = inflate.unconsumed_tail
                    given += len(data)
                    yield data
            except zlib.error:
                return
            if inflate.eof:
                return
        piece = stream.read(_PIECE)
