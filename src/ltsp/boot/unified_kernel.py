"""Unified kernel images: EFI programs whose sections are a kernel, its initrd and its version.

uapi-group.org, specifications/specs/unified_kernel_image; the sections are those of PE/COFF, learn.microsoft.com,
"PE Format". Files are untrusted: no number is used before it is compared with the file's size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from ltsp.errors import FormatError
from ltsp.tree.content import Content, ContentSlice

_MAX_HEADERS_SIZE: Final = 64 << 10
"""Bytes from the start that contain all headers; those of a stub end below 4 KiB."""
_MAX_SECTIONS: Final = 96
"""The limit of Windows."""
_MAX_UNAME_SIZE: Final = 256
_SECTION_HEADER: Final = struct.Struct("<8sIIII16x")
"""Name, VirtualSize, VirtualAddress, SizeOfRawData, PointerToRawData."""


@dataclass(frozen=True, slots=True)
class UnifiedKernel:
    kernel: Content
    initrd: Content | None
    version: str | None
    """The text of `.uname`, not validated; None if the file has no such section."""

    @classmethod
    def parse(cls, file: Content) -> Self | None:
        """None for another program, or an addon of a unified kernel.

        Raises FormatError if a section is not within the file, and OSError.
        """
        with file.open() as stream:
            sections = dict(_parse_sections(stream.read(_MAX_HEADERS_SIZE)))
        if ".linux" not in sections:
            return None
        names = [name for name in (".linux", ".initrd", ".uname") if name in sections]
        parts = {name: _open_section(file, name, *sections[name]) for name in names}
        return cls(parts[".linux"], parts.get(".initrd"), _read_text(parts.get(".uname")))


def _parse_sections(head: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name, offset and size of each section of the default profile; later sections of a name override earlier ones.

    The default profile is the first, `@0`, which overrides the sections before it. ("Multi-Profile UKIs")
    """
    if len(head) < 0x40 or not head.startswith(b"MZ"):
        return
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if head[at : at + 4] != b"PE\0\0" or at + 24 > len(head):
        return
    count, optional = struct.unpack_from("<H12xH", head, at + 6)
    table = at + 24 + optional
    profiles = 0
    for number in range(min(count, _MAX_SECTIONS)):
        if table + (number + 1) * _SECTION_HEADER.size > len(head):
            return
        name, virtual, _, raw, offset = _SECTION_HEADER.unpack_from(head, table + number * _SECTION_HEADER.size)
        if name.rstrip(b"\0") == b".profile":
            profiles += 1
        if profiles > 1:
            return
        # Sections are padded in the file; some tools leave VirtualSize 0.
        yield name.rstrip(b"\0").decode("ascii", "replace"), (offset, min(virtual, raw) if virtual else raw)


def _open_section(file: Content, name: str, offset: int, size: int) -> Content:
    if not size or offset + size > file.size:
        raise FormatError(f"section {name} extends beyond the end of the file")
    return ContentSlice(file, offset, size)


def _read_text(part: Content | None) -> str | None:
    if part is None:
        return None
    with part.open() as stream:
        return stream.read(_MAX_UNAME_SIZE).split(b"\0")[0].decode("ascii", "replace").strip()
