"""Parse the header block of a tar member: ustar, its GNU and star dialects, and that of Unix v7.

POSIX.1-2017 pax(1), "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; tar(5) of libarchive.
"""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.errors import FormatError

BLOCK = 512
_OCTAL = b"01234567"
_CHECKSUM_FIELD = slice(148, 156)


@dataclass(frozen=True, slots=True)
class TarHeader:
    flag: bytes
    """The type flag, one byte."""
    path: bytes
    mode: int
    """Mode with any type bits that the writer added."""
    uid: int
    gid: int
    size: int
    """Bytes of the data that follows, padded to blocks, if the type has any."""
    mtime: int
    target: bytes
    major: int
    minor: int

    @classmethod
    def parse(cls, block: bytes, offset: int) -> TarHeader | None:
        """The header in a block; None if that is all zeros, which ends an archive.

        `offset` is for messages. Raises FormatError.
        """
        if not block.strip(b"\0"):
            return None
        if not _has_valid_checksum(block):
            what = f"is damaged: no valid header at offset {offset}" if offset else "is not a tar archive"
            raise FormatError(what)
        flag = block[156:157]
        has_device_numbers = flag in b"34" and block[257:262] == b"ustar"
        return cls(
            flag=flag,
            path=_parse_path(block),
            mode=_require_number(block[100:108], "mode", offset),
            uid=_require_number(block[108:116], "owner", offset),
            gid=_require_number(block[116:124], "group", offset),
            size=_require_number(block[124:136], "size", offset),
            mtime=_require_number(block[136:148], "time", offset, negative=True),
            target=_parse_text(block[157:257]),
            major=_require_number(block[329:337], "device number", offset) if has_device_numbers else 0,
            minor=_require_number(block[337:345], "device number", offset) if has_device_numbers else 0,
        )


def is_tar_header(block: bytes) -> bool:
    """Whether this may be the first block of an archive."""
    return len(block) == BLOCK and any(block) and _has_valid_checksum(block)


def parse_number(field: bytes) -> int | None:
    """A number in octal digits, or in base 256 if the first bit is set (GNU, star); None if it is invalid."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") - (1 << bits)
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.translate(None, _OCTAL):
        return None
    return int(digits, 8) if digits else 0


def _has_valid_checksum(block: bytes) -> bool:
    """Whether the checksum is right: of unsigned bytes, or of signed ones, as some old writers computed it."""
    stored = parse_number(block[_CHECKSUM_FIELD])
    plain = sum(block) - sum(block[_CHECKSUM_FIELD]) + 8 * ord(" ")
    if stored == plain:
        return True
    high = sum(byte > 127 for byte in block) - sum(byte > 127 for byte in block[_CHECKSUM_FIELD])
    return stored == plain - 256 * high


def _parse_path(block: bytes) -> bytes:
    name = _parse_text(block[:100])
    if block[257:263] != b"ustar\0":
        return name  # GNU uses the prefix field for other data
    prefix = _parse_text(block[345 : 476 if block[508:512] == b"tar\0" else 500])
    return prefix + b"/" + name if prefix else name


def _parse_text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _require_number(field: bytes, what: str, offset: int, *, negative: bool = False) -> int:
    value = parse_number(field)
    if value is None or not (-(1 << 63) if negative else 0) <= value < 1 << 63:
        raise FormatError(f"is damaged: the {what} in the header at {offset} is invalid")
    return value
