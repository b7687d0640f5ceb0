"""Parse ISO 9660 directory records with Rock Ridge. ECMA-119, IEEE P1281 and P1282; Linux rock.c"""

from __future__ import annotations

import calendar
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ltsp.errors import FormatError
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.storage.extents import DataRun

BLOCK_SIZE = 2048
"""Bytes."""
DIRECTORY, ASSOCIATED, CONTINUED = 0x2, 0x4, 0x80
_RECORD = struct.Struct("<BBI4xI4x7sB6xB")
_HEADER_SIZE = 33
_MAX_CONTINUATIONS = 64
_MAX_CONTINUATION_SIZE = 1 << 20
"""Bytes of one continuation, which fits into a few blocks."""
_CURRENT, _PARENT, _ROOT = 0x2, 0x4, 0x8
_LONG_FORM = 0x80
_MODIFIED, _CREATED = 0x2, 0x1
_MAX_TARGET_SIZE = 4096


@dataclass(frozen=True, slots=True)
class IsoRecord:
    """A directory record of a file."""

    volume_offset: int
    """Offset of the record in the volume, in bytes."""
    first_block: int
    """The first block."""
    size: int
    flags: int
    name: bytes
    mtime: int
    system_use: bytes
    """The system use area after the record, for Rock Ridge and others."""

    @classmethod
    def parse(cls, data: bytes, at: int, place: int) -> IsoRecord:
        length, attributes, extent, size, date, flags, name_size = _RECORD.unpack_from(data, at)
        end = at + length
        name_end = at + _HEADER_SIZE + name_size
        if end > len(data) or name_end > end:
            raise FormatError(f"its record at offset {place} is damaged")
        area = data[name_end + (not name_size & 1) : end]
        return cls(
            place, extent + attributes, size, flags, data[at + _HEADER_SIZE : name_end], _parse_short_date(date), area
        )


@dataclass(slots=True)
class RockRidge:
    """The combined Rock Ridge fields of a record."""

    mode: int = 0
    links: int = 1
    uid: int = 0
    gid: int = 0
    serial: int = 0
    """The same for all names of a file; 0 if it is not recorded."""
    device: tuple[int, int] = (0, 0)
    name: bytes = b""
    target: bytes = b""
    mtime: int | None = None
    relocated_block: int = 0
    """Block of a directory that was relocated because it is too deep."""
    is_relocated: bool = False
    """Whether it is a relocated directory, which is shown at its original place."""
    is_compressed: bool = False
    _target_continues: bool = False
    """Whether the last component of the target continues, so that no slash follows it."""

    @classmethod
    def parse(cls, blocks: Blocks, area: bytes, skip_size: int) -> RockRidge:
        """`skip_size` is the number of bytes at the start of each area that belong to others. Raises FormatError."""
        found = cls()
        for kind, data in _read_fields(blocks, area[skip_size:]):
            found._apply_field(kind, data)
        return found

    def _apply_field(self, kind: bytes, data: bytes) -> None:
        match kind:
            case b"PX":
                self.mode, self.links, self.uid, self.gid = (_read_word(data, at) for at in (4, 12, 20, 28))
                self.serial = _read_word(data, 36) if len(data) >= 44 else 0
            case b"PN":
                high, low = _read_word(data, 4), _read_word(data, 12)
                # Old writers put everything into the second word; Linux drops excess bits, too.
                major, minor = (high, low) if high or low < 1 << 8 else (low >> 8, low & 0xFF)
                self.device = major & 0xFFF, minor & 0xFFFFF
            case b"NM":
                if not data[4] & (_CURRENT | _PARENT):
                    self.name += data[5:]
                if len(self.name) > 1024:
                    raise FormatError("a name is too long")
            case b"SL":
                self._add_components(data)
            case b"TF":
                self.mtime = _parse_mtime(data)
            case b"CL":
                self.relocated_block = _read_word(data, 4)
            case b"RE":
                self.is_relocated = True
            case b"ZF":
                self.is_compressed = True

    def _add_components(self, data: bytes) -> None:
        at = 5
        while at + 2 <= len(data):
            flags, size = data[at], data[at + 1]
            content = data[at + 2 : at + 2 + size]
            at += 2 + size
            if flags & _ROOT:
                content = b"/"  # in the middle it adds a slash: Linux fs/isofs/rock.c
            elif flags & _CURRENT:
                content = b"."
            elif flags & _PARENT:
                content = b".."
            self.target += (b"/" if self.target and not self._target_continues else b"") + content
            self._target_continues = bool(flags & (1 | _ROOT))
            if len(self.target) > _MAX_TARGET_SIZE:
                raise FormatError("it is a symbolic link whose target is too long")


def _read_fields(blocks: Blocks, area: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Signature and bytes of each field, including those in continuations."""
    for _ in range(_MAX_CONTINUATIONS):
        following: tuple[int, int, int] | None = None
        at = 0
        while at + 4 <= len(area):
            kind, length = area[at : at + 2], area[at + 2]
            data = area[at : at + length]
            if length < 4 or len(data) < length:
                break
            if kind == b"ST":
                break
            if kind == b"CE":
                following = _read_word(data, 4), _read_word(data, 12), _read_word(data, 20)
            else:
                yield kind, data
            at += length
        if following is None:
            return
        block, offset, size = following
        if size > _MAX_CONTINUATION_SIZE:
            raise FormatError(f"a continuation is too large: {size} bytes")
        area = read_exactly(blocks, block * BLOCK_SIZE + offset, size, "the continuation of a record")
    raise FormatError("a record has too many continuations")


def _read_word(data: bytes, at: int) -> int:
    """A number stored in both byte orders."""
    (number,) = struct.unpack_from("<I", data, at)
    return int(number)


def _parse_mtime(data: bytes) -> int | None:
    flags = data[4]
    if not flags & _MODIFIED:
        return None
    size = 17 if flags & _LONG_FORM else 7
    at = 5 + (size if flags & _CREATED else 0)
    date = data[at : at + size]
    return _parse_long_date(date) if flags & _LONG_FORM else _parse_short_date(date)


def _parse_short_date(date: bytes) -> int:
    """Seconds since 1970 of a seven-byte date; 0 if it is invalid."""
    if len(date) < 7 or not 1 <= date[1] <= 12:
        return 0
    zone = date[6] - 256 if date[6] > 127 else date[6]
    seconds = calendar.timegm((1900 + date[0], date[1], max(1, date[2]), date[3], date[4], date[5]))
    return seconds - 15 * 60 * zone


def _parse_long_date(date: bytes) -> int:
    digits = date[:14]
    if len(date) < 17 or not digits.isdigit():
        return 0
    numbers = [int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, 14, 2))]
    if not 1 <= numbers[1] <= 12 or not numbers[0]:
        return 0
    zone = date[16] - 256 if date[16] > 127 else date[16]
    return calendar.timegm((*numbers,)) - 15 * 60 * zone


def make_run(record: IsoRecord, start: int) -> DataRun:
    return start, record.first_block * BLOCK_SIZE, record.size
