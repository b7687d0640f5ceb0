"""The header tables of an ELF file: its machine, its loader, the libraries it needs.

System V ABI, "Object Files" and "Program Loading and Dynamic Linking"; elf(5). Files are read, never executed. They
come from images, so every offset is checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FormatError

MACHINES: Final = {3: "i386", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "arm64", 243: "riscv"}
"""Common names of machines that Linux runs on, by e_machine."""

_PT_DYNAMIC, _PT_INTERP, _PT_LOAD = 2, 3, 1
_DT_NEEDED, _DT_STRTAB = 1, 5
_SHT_SYMTAB, _SHT_NOBITS = 2, 8
_MAX_SECTIONS: Final = 4096
"""Maximum number of sections; a kernel module has some 60."""
_MAX_NAME_SIZE: Final = 4096
_MAX_SYMBOL_SIZE: Final = 512
"""KSYM_NAME_LEN of Linux, include/linux/kallsyms.h."""
_MAX_SYMBOL_TABLE_SIZE: Final = 4 << 20
"""Maximum bytes of a symbol table; the largest modules of distributions have some 1 MiB."""
_SHN_UNDEF: Final = 0
"""The section number of symbols that are defined in another file."""


@dataclass(frozen=True, slots=True)
class ElfTarget:
    """The architecture that a program or module is built for."""

    bits: int
    little_endian: bool
    machine: int

    def __str__(self) -> str:
        name = MACHINES.get(self.machine, f"ELF machine {self.machine}")
        return f"{name}, {self.bits} bit" if name in {"mips", "riscv"} else name


@dataclass(frozen=True, slots=True)
class ElfSegment:
    kind: int
    offset: int
    address: int
    size: int
    """Bytes in the file."""


@dataclass(frozen=True, slots=True)
class _SectionHeader:
    name: int
    """Its offset in the table of names."""
    kind: int
    offset: int
    size: int
    """Bytes in the file."""
    link: int
    """Number of a related section; for a symbol table, the section with its names."""


@dataclass(frozen=True, slots=True)
class Elf:
    """The bytes of an ELF file with its tables."""

    data: bytes
    target: ElfTarget
    segments: tuple[ElfSegment, ...]

    @classmethod
    def parse(cls, data: bytes) -> Elf:
        """Raises FormatError if the file is not ELF, or damaged."""
        if data[:4] != b"\x7fELF" or len(data) < 52 or data[4] not in {1, 2} or data[5] not in {1, 2}:
            raise FormatError("it is not an ELF file")
        byte_order = "<" if data[5] == 1 else ">"
        target = ElfTarget(32 * data[4], data[5] == 1, _unpack(data, 18, byte_order + "H")[0])
        layout = "Q" if target.bits == 64 else "I"
        (start,) = _unpack(data, 32 if target.bits == 64 else 28, byte_order + layout)
        size, count = _unpack(data, 54 if target.bits == 64 else 42, byte_order + "HH")
        return cls(
            data, target, tuple(_parse_segment(data, start + size * n, byte_order, target.bits) for n in range(count))
        )

    @property
    def is_static(self) -> bool:
        """Whether it runs without a loader and libraries, position-independent or not."""
        return self.interpreter() is None and not self.needed_libraries()

    def interpreter(self) -> str | None:
        """The path of the loader that the kernel starts instead."""
        for segment in self.segments:
            if segment.kind == _PT_INTERP:
                return _read_string(self.data, segment.offset)
        return None

    def needed_libraries(self) -> tuple[str, ...]:
        """Names of the libraries that the loader must find."""
        byte_order = "<" if self.target.little_endian else ">"
        layout, step = (byte_order + "qQ", 16) if self.target.bits == 64 else (byte_order + "iI", 8)
        dynamic: list[tuple[int, int]] = []
        for segment in self.segments:
            if segment.kind == _PT_DYNAMIC:
                for at in range(segment.offset, segment.offset + segment.size - step + 1, step):
                    tag, value = _unpack(self.data, at, layout)
                    if tag == 0:
                        break
                    dynamic.append((tag, value))
        strings = next((value for tag, value in dynamic if tag == _DT_STRTAB), None)
        names = [value for tag, value in dynamic if tag == _DT_NEEDED]
        if strings is None or not names:
            return ()
        base = self._file_offset(strings)
        return tuple(_read_string(self.data, base + name) for name in names)

    def section(self, name: str) -> bytes | None:
        """The bytes of the section with that name; None if there is none. Raises FormatError."""
        headers, names = self._sections()
        for header in headers:
            if header.kind != _SHT_NOBITS and _read_string(self.data, names + header.name) == name:
                return self._section_bytes(header)
        return None

    def undefined_symbols(self) -> frozenset[str] | None:
        """Names that a relocatable file imports; None if it has no symbol table. Raises FormatError.

        System V ABI, "Symbol Table"; elf(5).
        """
        headers, _ = self._sections()
        table = next((header for header in headers if header.kind == _SHT_SYMTAB), None)
        if table is None or table.link >= len(headers) or table.size > _MAX_SYMBOL_TABLE_SIZE:
            return None
        byte_order = "<" if self.target.little_endian else ">"
        layout = struct.Struct(byte_order + ("IxxH16x" if self.target.bits == 64 else "I10xH"))
        symbols = self._section_bytes(table)
        usable_size = len(symbols) - len(symbols) % layout.size
        names = headers[table.link].offset
        return frozenset(
            _read_string(self.data, names + name, _MAX_SYMBOL_SIZE)
            for name, section in layout.iter_unpack(symbols[:usable_size])
            if section == _SHN_UNDEF and name
        )

    def _sections(self) -> tuple[list[_SectionHeader], int]:
        """The headers of all sections, and the offset of their names in the file; empty if there are too many."""
        byte_order = "<" if self.target.little_endian else ">"
        is_64_bit = self.target.bits == 64
        (start,) = _unpack(self.data, 40 if is_64_bit else 32, byte_order + ("Q" if is_64_bit else "I"))
        size, count, names = _unpack(self.data, 58 if is_64_bit else 46, byte_order + "HHH")
        if not start or count > _MAX_SECTIONS or names >= count:
            return [], 0
        headers = [
            _parse_section_header(self.data, start + size * n, byte_order, is_64_bit=is_64_bit) for n in range(count)
        ]
        return headers, headers[names].offset

    def _section_bytes(self, header: _SectionHeader) -> bytes:
        if header.offset + header.size > len(self.data):
            raise FormatError("a section extends beyond the end of the file")
        return self.data[header.offset : header.offset + header.size]

    def _file_offset(self, address: int) -> int:
        """The offset in the file of a virtual address."""
        for segment in self.segments:
            if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        raise FormatError("an address in the dynamic section is outside all segments")


def _parse_segment(data: bytes, at: int, byte_order: str, bits: int) -> ElfSegment:
    if bits == 64:
        kind, _, offset, address, _, size = _unpack(data, at, byte_order + "IIQQQQ")
    else:
        kind, offset, address, _, size = _unpack(data, at, byte_order + "IIIII")
    return ElfSegment(kind, offset, address, size)


def _parse_section_header(data: bytes, at: int, byte_order: str, *, is_64_bit: bool) -> _SectionHeader:
    if is_64_bit:
        name, kind, _, _, offset, size, link = _unpack(data, at, byte_order + "IIQQQQI")
    else:
        name, kind, _, _, offset, size, link = _unpack(data, at, byte_order + "IIIIIII")
    return _SectionHeader(name, kind, offset, size, link)


def _unpack(data: bytes, at: int, layout: str) -> tuple[int, ...]:
    if at + struct.calcsize(layout) > len(data):
        raise FormatError("it is truncated")
    return struct.unpack_from(layout, data, at)


def _read_string(data: bytes, at: int, limit: int = _MAX_NAME_SIZE) -> str:
    end = data.find(b"\0", at, at + limit)
    if not 0 <= at < len(data) or end < 0:
        raise FormatError("a name extends beyond the end of the file")
    return data[at:end].decode("utf-8", "surrogateescape")
