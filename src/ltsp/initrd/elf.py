"""What the header tables of an ELF file say: for which machine it is, what starts it, which libraries it wants.

System V ABI, "Object Files" and "Program Loading and Dynamic Linking"; elf(5). Files are read, never run. They come
from images, so that every offset is checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from ltsp.errors import FormatError

MACHINES: Final = {3: "i386", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86-64", 183: "arm64", 243: "riscv"}
"""e_machine of what Linux runs on, by the names that people use."""

_PT_DYNAMIC, _PT_INTERP, _PT_LOAD = 2, 3, 1
_DT_NEEDED, _DT_STRTAB = 1, 5
_SHT_NOBITS: Final = 8
_MOST_HEADERS: Final = 4096
"""Sections or segments; a kernel module has some 60."""
_LONGEST_NAME: Final = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """What a program or module is made for."""

    bits: int
    little_endian: bool
    machine: int

    def __str__(self) -> str:
        name = MACHINES.get(self.machine, f"ELF machine {self.machine}")
        return f"{name}, {self.bits} bit" if name in {"mips", "riscv"} else name


@dataclass(frozen=True, slots=True)
class Segment:
    kind: int
    offset: int
    address: int
    size: int
    """Bytes in the file."""


@dataclass(frozen=True, slots=True)
class Elf:
    """The bytes of an ELF file with its tables."""

    data: bytes
    target: Target
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, data: bytes) -> Elf:
        """Raises FormatError where it is none, or damaged."""
        if data[:4] != b"\x7fELF" or len(data) < 52 or data[4] not in {1, 2} or data[5] not in {1, 2}:
            raise FormatError("it is no ELF file")
        order = "<" if data[5] == 1 else ">"
        target = Target(32 * data[4], data[5] == 1, _numbers(data, 18, order + "H")[0])
        layout = "Q" if target.bits == 64 else "I"
        (start,) = _numbers(data, 32 if target.bits == 64 else 28, order + layout)
        size, count = _numbers(data, 54 if target.bits == 64 else 42, order + "HH")
        return cls(data, target, tuple(_segment(data, start + size * n, order, target.bits) for n in range(count)))

    @property
    def is_static(self) -> bool:
        """Whether it runs without a loader and libraries; position-independent or not."""
        return self.interpreter() is None and not self.needed()

    def interpreter(self) -> str | None:
        """The path of the loader that the kernel starts in its stead."""
        for segment in self.segments:
            if segment.kind == _PT_INTERP:
                return _text(self.data, segment.offset)
        return None

    def needed(self) -> tuple[str, ...]:
        """Names of the libraries that the loader is to find."""
        order = "<" if self.target.little_endian else ">"
        layout, step = (order + "qQ", 16) if self.target.bits == 64 else (order + "iI", 8)
        dynamic: list[tuple[int, int]] = []
        for segment in self.segments:
            if segment.kind == _PT_DYNAMIC:
                for at in range(segment.offset, segment.offset + segment.size - step + 1, step):
                    tag, value = _numbers(self.data, at, layout)
                    if tag == 0:
                        break
                    dynamic.append((tag, value))
        strings = next((value for tag, value in dynamic if tag == _DT_STRTAB), None)
        names = [value for tag, value in dynamic if tag == _DT_NEEDED]
        if strings is None or not names:
            return ()
        base = self._offset(strings)
        return tuple(_text(self.data, base + name) for name in names)

    def section(self, name: str) -> bytes | None:
        """The bytes of the section with that name; None where there is none. Raises FormatError."""
        order = "<" if self.target.little_endian else ">"
        wide = self.target.bits == 64
        (start,) = _numbers(self.data, 40 if wide else 32, order + ("Q" if wide else "I"))
        size, count, names = _numbers(self.data, 58 if wide else 46, order + "HHH")
        if not start or count > _MOST_HEADERS or names >= count:
            return None
        _, _, base, _ = _section(self.data, start + size * names, order, wide=wide)
        for n in range(count):
            called, kind, offset, length = _section(self.data, start + size * n, order, wide=wide)
            if kind != _SHT_NOBITS and _text(self.data, base + called) == name:
                if offset + length > len(self.data):
                    raise FormatError(f"its section {name} lies beyond its end")
                return self.data[offset : offset + length]
        return None

    def _offset(self, address: int) -> int:
        """The place in the file of what is loaded at an address."""
        for segment in self.segments:
            if segment.kind == _PT_LOAD and segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        raise FormatError("its dynamic section points nowhere")


def _segment(data: bytes, at: int, order: str, bits: int) -> Segment:
    if bits == 64:
        kind, _, offset, address, _, size = _numbers(data, at, order + "IIQQQQ")
    else:
        kind, offset, address, _, size = _numbers(data, at, order + "IIIII")
    return Segment(kind, offset, address, size)


def _section(data: bytes, at: int, order: str, *, wide: bool) -> tuple[int, int, int, int]:
    """Place of the name, type, offset and size."""
    if wide:
        name, kind, _, _, offset, size = _numbers(data, at, order + "IIQQQQ")
    else:
        name, kind, _, _, offset, size = _numbers(data, at, order + "IIIIII")
    return name, kind, offset, size


def _numbers(data: bytes, at: int, layout: str) -> tuple[int, ...]:
    if at + struct.calcsize(layout) > len(data):
        raise FormatError("it is cut off")
    return struct.unpack_from(layout, data, at)


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at, at + _LONGEST_NAME)
    if not 0 <= at < len(data) or end < 0:
        raise FormatError("a name in it lies beyond its end")
    return data[at:end].decode("utf-8", "surrogateescape")
