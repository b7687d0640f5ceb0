"""Decode the short and long names of FAT. Linux fs/fat/dir.c, namei_vfat.c"""

from __future__ import annotations

from dataclasses import dataclass, field

_LAST = 0x40
_LOWER_BASE, _LOWER_SUFFIX = 0x08, 0x10
_PARTS = (slice(1, 11), slice(14, 26), slice(28, 32))
_MOST_PARTS = 20


@dataclass(slots=True)
class LongName:
    """Collects the entries of a long name, last part first, until the entry to which it belongs."""

    parts: list[bytes] = field(default_factory=list)
    expected: int = 0
    checksum: int = 0

    def add(self, entry: bytes) -> None:
        """Add an entry; one out of sequence starts over, as in the kernel."""
        order = entry[0] & ~_LAST
        if entry[0] & _LAST:
            self.parts, self.expected, self.checksum = [], order, entry[13]
        if not 0 < order <= _MOST_PARTS or order != self.expected or entry[13] != self.checksum:
            self.parts, self.expected = [], 0
            return
        self.parts.insert(0, b"".join(entry[part] for part in _PARTS))
        self.expected -= 1

    def of(self, short: bytes) -> bytes:
        """The name, if it is complete and belongs to this short name; else empty."""
        if not self.parts or self.expected or _checksum(short) != self.checksum:
            return b""
        characters = b"".join(self.parts).decode("utf-16-le", "replace")
        return characters.split("\0", 1)[0].encode("utf-8", "replace")


def short_name(raw: bytes, case: int) -> bytes:
    """`BOOTX64 EFI` as `BOOTX64.EFI`, in lower case if the entry says so."""
    if raw[0] == 0x05:
        raw = b"\xe5" + raw[1:]
    base, suffix = raw[:8].decode("cp437").rstrip(" "), raw[8:].decode("cp437").rstrip(" ")
    if case & _LOWER_BASE:
        base = base.lower()
    if case & _LOWER_SUFFIX:
        suffix = suffix.lower()
    return (f"{base}.{suffix}" if suffix else base).encode()


def _checksum(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total
