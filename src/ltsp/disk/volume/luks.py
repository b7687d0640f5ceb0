"""Parse LUKS 1 and 2 headers: where the encrypted data is, and its cipher. Finding the key is left to cryptsetup.

"LUKS1 On-Disk Format Specification" 1.2.3, "LUKS2 On-Disk Format Specification" 1.1.1.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from ltsp.disk.volume.sector_cipher import Decrypt, make_decryptor
from ltsp.errors import FormatError, SourceError
from ltsp.storage.blocks import Blocks, read_exactly
from ltsp.tree.name import decode, printable

MAGIC: Final = b"LUKS\xba\xbe"
REENCRYPT_MAGIC: Final = b"LUKS\xde\xad"
"""Written by old versions of cryptsetup-reencrypt(8) while they work on a volume."""
_SECONDARY_MAGIC: Final = b"SKUL\xba\xbe"
_LUKS1: Final = struct.Struct(">6sH32s32s32sII20s32sI40s")
_LUKS2: Final = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
_BINARY_HEADER_SIZE: Final = 4096
"""Bytes of a binary header; the JSON area follows it."""
_HEADER_SIZES: Final = tuple(1 << bits for bits in range(14, 23))
"""Bytes of a header with its JSON area; the second copy follows the first."""
_SECTOR_SIZES: Final = (512, 1024, 2048, 4096)
_MAX_HEADER_SIZE: Final = 136 << 20
"""Bytes of two headers and of all key slots, at most."""
_PIECE_SIZE: Final = 1 << 20
_UNLOCK_HINT: Final = "unlock it, mount it, and run ltsp image on the mount point"


@dataclass(frozen=True, slots=True)
class LuksHeader:
    """The parts of a LUKS header that are needed for reading."""

    uuid: str
    cipher: str
    """In dm-crypt's notation: `aes-xts-plain64`."""
    offset: int
    """Offset of the encrypted data in bytes."""
    size: int | None = None
    """Size of the encrypted data in bytes; None for the rest of the volume."""
    sector_size: int = 512
    iv_offset: int = 0
    """The number of the first sector, in units of 512 bytes."""
    key_size: int | None = None
    """Size of the volume key in bytes, if the header records it."""

    @classmethod
    def parse(cls, blocks: Blocks) -> LuksHeader:
        """The header of a volume that begins with MAGIC or REENCRYPT_MAGIC.

        Raises FormatError if it is damaged, SourceError if it is of an unsupported kind.
        """
        head = read_exactly(blocks, 0, _BINARY_HEADER_SIZE, "the LUKS header")
        if head.startswith(REENCRYPT_MAGIC):
            raise _unsupported_error("its re-encryption is unfinished")
        version = int.from_bytes(head[6:8], "big")
        found = _parse_luks1(head) if version == 1 else _parse_luks2(blocks) if version == 2 else None
        if found is None:
            raise _unsupported_error(f"its version is {version}")
        if not found.offset:
            raise _unsupported_error("its header is detached: the encrypted data is elsewhere")
        if found.offset >= blocks.size:
            raise FormatError("its encrypted data starts beyond the end of the volume")
        return found

    def read_header_area(self, blocks: Blocks) -> bytes:
        """The area that cryptsetup(8) needs to find the key."""
        return blocks.read_at(0, min(self.offset, _MAX_HEADER_SIZE))

    def open_decrypted(self, blocks: Blocks, key: bytes) -> DecryptedBlocks:
        """The decrypted content. Raises SourceError if the cipher is not supported."""
        if self.key_size not in (None, len(key)):
            raise FormatError(f"the key has {len(key)} bytes, but the LUKS header specifies {self.key_size}")
        try:
            decrypt = make_decryptor(self.cipher, key, self.sector_size)
        except SourceError as error:
            raise SourceError(printable(error.message), error.hint or _UNLOCK_HINT) from error
        room = blocks.size - self.offset
        size = room if self.size is None else min(self.size, room)
        return DecryptedBlocks(
            blocks, self.offset, size // self.sector_size * self.sector_size, self.sector_size, self.iv_offset, decrypt
        )


@dataclass(frozen=True, slots=True, eq=False)
class DecryptedBlocks:
    """The content of an encrypted volume, decrypted in whole sectors when it is read."""

    blocks: Blocks
    offset: int
    size: int
    sector_size: int
    iv_offset: int
    decrypt: Decrypt

    def read_at(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        start = offset // self.sector_size * self.sector_size
        end = -(-(offset + size) // self.sector_size) * self.sector_size
        pieces = []
        for at in range(start, end, _PIECE_SIZE):
            stored = self.blocks.read_at(self.offset + at, min(_PIECE_SIZE, end - at))
            stored = stored[: len(stored) // self.sector_size * self.sector_size]
            if stored:
                pieces.append(self.decrypt(stored, self.iv_offset + at // 512))
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return data[offset - start : offset - start + size]


def _parse_luks1(head: bytes) -> LuksHeader:
    fields = _LUKS1.unpack_from(head)
    name, mode, payload, key, uuid = fields[2], fields[3], fields[5], fields[6], fields[10]
    return LuksHeader(_decode_text(uuid), f"{_decode_text(name)}-{_decode_text(mode)}", payload * 512, key_size=key)


def _parse_luks2(blocks: Blocks) -> LuksHeader:
    uuid, text = _read_newest_copy(blocks)
    try:
        document = json.loads(text)
        return _parse_document(document, uuid)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("the LUKS header is invalid") from error


def _parse_document(document: Any, uuid: str) -> LuksHeader:
    """Raises Python's own errors if the document does not follow the specification."""
    requirements = document["config"].get("requirements", {}).get("mandatory", [])
    if any(str(each).startswith("online-reencrypt") for each in requirements):
        raise _unsupported_error("its re-encryption is unfinished")
    if requirements:
        raise _unsupported_error(f"it requires {', '.join(printable(str(each)) for each in requirements[:4])}")
    segments = document["segments"]
    if len(segments) != 1:
        raise _unsupported_error(f"it has {len(segments)} segments")
    (segment,) = segments.values()
    if segment["type"] != "crypt":
        raise _unsupported_error(f"its segment type is {printable(str(segment['type']))}")
    if "integrity" in segment:
        raise _unsupported_error("it is authenticated (dm-integrity)")
    sector_size = segment["sector_size"]
    if type(sector_size) is not int or sector_size not in _SECTOR_SIZES:
        raise FormatError(f"the LUKS header has an invalid sector size: {printable(str(sector_size)[:20])}")
    size = None if segment["size"] == "dynamic" else _parse_number(segment["size"])
    cipher = str(segment["encryption"])
    return LuksHeader(
        uuid, cipher, _parse_number(segment["offset"]), size, sector_size, _parse_number(segment["iv_tweak"])
    )


def _parse_number(text: Any) -> int:
    """LUKS2 stores 64-bit numbers as strings, since a JSON number may be limited to 53 bits."""
    if not isinstance(text, str) or not text.isdecimal() or not text.isascii() or len(text) > 19:
        raise ValueError(text)
    return int(text)


def _read_newest_copy(blocks: Blocks) -> tuple[str, bytes]:
    """UUID and JSON of the newer valid header.

    Raises FormatError if both are damaged.
    """
    found = [
        copy
        for place, magic in ((0, MAGIC), *((size, _SECONDARY_MAGIC) for size in _HEADER_SIZES))
        if (copy := _read_copy(blocks, place, magic)) is not None
    ]
    if not found:
        raise FormatError("the LUKS header is damaged", "run cryptsetup repair, or restore a backup of the header")
    _, uuid, text = max(found, key=lambda copy: copy[0])
    return uuid, text


def _read_copy(blocks: Blocks, place: int, magic: bytes) -> tuple[int, str, bytes] | None:
    """Its sequence number, UUID and JSON; None if it is damaged."""
    head = blocks.read_at(place, _BINARY_HEADER_SIZE)
    if len(head) < _BINARY_HEADER_SIZE or not head.startswith(magic):
        return None
    fields = _LUKS2.unpack_from(head)
    version, size, number = fields[1:4]
    algorithm, uuid, own_offset, total = _decode_text(fields[5]), fields[7], fields[9], fields[11]
    if version != 2 or size not in _HEADER_SIZES or own_offset != place or algorithm not in {"sha256", "sha512"}:
        return None
    data = blocks.read_at(place, size)
    zeroed = data[:448] + bytes(64) + data[512:]
    if len(data) < size or not total.startswith(hashlib.new(algorithm, zeroed).digest()):
        return None
    return number, _decode_text(uuid), data[_BINARY_HEADER_SIZE:].rstrip(b"\0")


def _decode_text(field: bytes) -> str:
    return decode(field.partition(b"\0")[0])


def _unsupported_error(why: str) -> SourceError:
    return SourceError(f"this encrypted volume (LUKS) is not supported: {why}", _UNLOCK_HINT)
