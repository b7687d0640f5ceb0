"""ELF files that contain only headers: programs with a loader and libraries, and kernel modules."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

X86_64, ARM64, I386 = (64, 62), (64, 183), (32, 3)
_BASE = 0x400000


def program(
    target: tuple[int, int] = X86_64, interpreter: str = "", needed: Sequence[str] = (), applets: Sequence[str] = ()
) -> bytes:
    """An executable; `applets` are laid into it as busybox has their names."""
    bits, _ = target
    wide = bits == 64
    header, entry = (64, 56) if wide else (52, 32)
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    places = [names.index(b"\0" + name.encode() + b"\0") + 1 for name in needed]
    loader = interpreter.encode() + b"\0"
    count = 1 + bool(interpreter) + bool(needed)
    at_loader = header + entry * count
    at_names = at_loader + len(loader)
    at_dynamic = at_names + len(names)
    tags = [*((1, place) for place in places), (5, _BASE + at_names), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ" if wide else "<iI", *tag) for tag in tags)
    tail = b"\0" + b"".join(name.encode() + b"\0" for name in applets)
    size = at_dynamic + len(dynamic) + len(tail)
    segments = [(1, 0, _BASE, size)]
    if interpreter:
        segments.append((3, at_loader, _BASE + at_loader, len(loader)))
    if needed:
        segments.append((2, at_dynamic, _BASE + at_dynamic, len(dynamic)))
    table = b"".join(_segment(*segment, wide=wide) for segment in segments)
    return _header(target, 2, segments=count) + table + loader + names + dynamic + tail


def module(records: Sequence[str] = (), target: tuple[int, int] = X86_64, wants: Sequence[str] | None = None) -> bytes:
    """A kernel module with these records, `KEY=VALUE`, in its .modinfo; `wants` are symbols that others have, None is
    a file that was stripped of them.
    """
    sections = {".text": b"\xc3" * 40, ".modinfo": b"".join(r.encode() + b"\0" for r in records)}
    return relocatable(sections, target, wants)


def relocatable(
    sections: Mapping[str, bytes], target: tuple[int, int] = X86_64, wants: Sequence[str] | None = None
) -> bytes:
    wide = target[0] == 64
    titles = b"\0" + b"".join(name.encode() + b"\0" for name in (*sections, ".symtab", ".strtab", ".shstrtab"))
    named = {".symtab": _symbols(wants, wide=wide), ".strtab": _strings(wants)} if wants is not None else {}
    everything = {**sections, **named, ".shstrtab": titles}
    kinds = {".symtab": 2, ".strtab": 3, ".shstrtab": 3}
    start = 64 if wide else 52
    body = b""
    table = bytes(64 if wide else 40)
    for name, data in everything.items():
        title = titles.index(b"\0" + name.encode() + b"\0") + 1
        link = len(everything) - 1 if name == ".symtab" else 0
        layout = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
        table += struct.pack(layout, title, kinds.get(name, 1), 0, 0, start + len(body), len(data), link, 0, 1, 0)
        body += data
    return _header(target, 1, sections=(start + len(body), len(everything) + 1)) + body + table


def _strings(wants: Sequence[str]) -> bytes:
    return b"\0init_module\0" + b"".join(name.encode() + b"\0" for name in wants)


def _symbols(wants: Sequence[str], *, wide: bool) -> bytes:
    """One that the file has itself, and those that it wants."""
    strings = _strings(wants)
    places = [strings.index(b"\0" + name.encode() + b"\0") + 1 for name in wants]
    rows = [(0, 0), (1, 1), *((place, 0) for place in places)]
    if wide:
        return b"".join(struct.pack("<IBBHQQ", name, 0x10, 0, section, 0, 0) for name, section in rows)
    return b"".join(struct.pack("<IIIBBH", name, 0, 0, 0x10, 0, section) for name, section in rows)


def _header(target: tuple[int, int], kind: int, segments: int = 0, sections: tuple[int, int] = (0, 0)) -> bytes:
    bits, machine = target
    wide = bits == 64
    start, count = sections
    header, program_entry, section_entry = (64, 56, 64) if wide else (52, 32, 40)
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    layout = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    place = header if segments else 0
    return identity + struct.pack(
        layout, kind, machine, 1, 0, place, start, 0, header, program_entry, segments, section_entry, count,
        max(0, count - 1),
    )  # fmt: skip


def _segment(kind: int, offset: int, address: int, size: int, *, wide: bool) -> bytes:
    if wide:
        return struct.pack("<IIQQQQQQ", kind, 5, offset, address, address, size, size, 1)
    return struct.pack("<IIIIIIII", kind, offset, address, address, size, size, 5, 1)
