"""Write the table of extended attributes: each set once, and large values once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from struct import pack
from typing import NamedTuple

from ltsp.squashfs.format import (
    MAX_NAME_SIZE,
    MAX_XATTR_VALUE_SIZE,
    NO_TABLE,
    NO_XATTRS,
    XATTR_OUT_OF_LINE,
    XATTR_PREFIXES,
    XattrId,
    XattrKey,
    XattrTable,
    XattrValue,
)
from ltsp.squashfs.meta_writer import Compress, MetadataWriter, write_table
from ltsp.squashfs.output import ImageOutput
from ltsp.tree.name import encode

_MIN_SHARED_VALUE_SIZE = 64
"""Bytes of a value from which a second copy becomes a reference to the first. A reference takes 8 bytes, and nearby
copies compress well anyway; the relevant values are SELinux labels (short) and file signatures (long)."""
_ACL_PREFIX = "system.posix_acl_"

Xattrs = tuple[tuple[str, bytes], ...]


class XattrFate(Enum):
    """Whether an attribute is stored, and why not."""

    KEPT = auto()
    UNWANTED = auto()
    """In a namespace that was not selected."""
    ACL = auto()
    FOREIGN = auto()
    TOO_LARGE = auto()


def classify_xattr(name: str, value: bytes, namespaces: Collection[str] = XATTR_PREFIXES) -> XattrFate:
    """Whether an image with these namespaces (`user.`) stores an attribute, and why not."""
    prefix = name[: name.find(".") + 1]
    if name.startswith(_ACL_PREFIX):
        return XattrFate.ACL
    if prefix not in XATTR_PREFIXES or name == prefix:
        return XattrFate.FOREIGN
    if prefix not in namespaces:
        return XattrFate.UNWANTED
    if len(value) > MAX_XATTR_VALUE_SIZE or len(encode(name)) > MAX_NAME_SIZE:
        return XattrFate.TOO_LARGE
    return XattrFate.KEPT


class _XattrSet(NamedTuple):
    """The stored attributes of one node."""

    number: int
    """Index into the xattr id table, or NO_XATTRS."""
    acls: int
    foreign: int
    too_large: int


@dataclass(slots=True)
class XattrWriter:
    """Numbers the sets of attributes in the order of their inodes, and writes them at the end."""

    namespaces: Collection[str] = XATTR_PREFIXES
    """Prefixes (`user.`) to keep, a subset of XATTR_PREFIXES."""
    acls: int = field(init=False, default=0)
    """POSIX ACL attributes, which squashfs cannot store; like the fields below, counted once per node."""
    foreign: int = field(init=False, default=0)
    """Attributes outside of the namespaces of squashfs."""
    too_large: int = field(init=False, default=0)
    """Attributes whose name or value Linux would reject."""
    _seen: dict[Xattrs, _XattrSet] = field(init=False, default_factory=dict)
    _kept: dict[Xattrs, int] = field(init=False, default_factory=dict)

    def index(self, xattrs: Xattrs) -> int:
        """The index for a node's inode."""
        if not xattrs:
            return NO_XATTRS
        known = self._seen.get(xattrs)
        if known is None:
            known = self._seen[xattrs] = self._classify(xattrs)
        self.acls += known.acls
        self.foreign += known.foreign
        self.too_large += known.too_large
        return known.number

    def _classify(self, xattrs: Xattrs) -> _XattrSet:
        fates = [classify_xattr(name, value, self.namespaces) for name, value in xattrs]
        kept = tuple(pair for pair, fate in zip(xattrs, fates, strict=True) if fate is XattrFate.KEPT)
        index = self._kept.setdefault(kept, len(self._kept)) if kept else NO_XATTRS
        return _XattrSet(
            index, fates.count(XattrFate.ACL), fates.count(XattrFate.FOREIGN), fates.count(XattrFate.TOO_LARGE)
        )

    def write(self, output: ImageOutput, compress: Compress) -> int:
        """Write the table, the last of an image; return its offset, or NO_TABLE if no inode has attributes."""
        if not self._kept:
            return NO_TABLE
        begin = output.position
        ids = b"".join(self._write_sets(MetadataWriter(output.write, compress)))
        block_offsets = write_table(output, ids, compress)
        at = output.position
        output.write(XattrTable(begin, len(self._kept)).pack())
        output.write(pack(f"<{len(block_offsets)}Q", *block_offsets))
        return at

    def _write_sets(self, writer: MetadataWriter) -> Iterator[bytes]:
        first_copies: dict[bytes, int] = {}
        for xattrs in self._kept:
            reference = writer.reference
            size = 0
            for name, value in xattrs:
                prefix, _, rest = name.partition(".")
                namespace, suffix = XATTR_PREFIXES.index(f"{prefix}."), encode(rest)
                copy = first_copies.get(value)
                if copy is not None:
                    namespace |= XATTR_OUT_OF_LINE
                head = XattrKey(namespace, len(suffix)).pack() + suffix
                writer.write(head)
                body = XattrValue(len(value)).pack() + value if copy is None else pack("<IQ", 8, copy)
                at = writer.write(body)
                if copy is None and len(value) >= _MIN_SHARED_VALUE_SIZE:
                    first_copies[value] = at
                size += len(head) + len(body)
            yield XattrId(reference, len(xattrs), size).pack()
        writer.close()
