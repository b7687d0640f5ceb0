"""Read extended attributes: sets of names and values, to which inodes refer by number."""

from __future__ import annotations

from dataclasses import dataclass, field

from ltsp.errors import FormatError
from ltsp.squashfs.format import (
    MAX_NAME_SIZE,
    MAX_XATTR_VALUE_SIZE,
    METADATA_SIZE,
    XATTR_OUT_OF_LINE,
    XATTR_PREFIXES,
    XattrId,
    XattrKey,
    XattrTable,
    XattrValue,
    unpack_reference,
)
from ltsp.squashfs.meta_reader import Decompress, ImageFile, LookupTable, MemoryBudget, MetadataTable
from ltsp.tree.name import byte_sort_key, decode

Xattrs = tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class _Cursor:
    """The position in the table of the next bytes."""

    table: MetadataTable
    block_start: int
    offset: int

    def take(self, size: int) -> bytes:
        if not size:
            return b""
        data, at = self.table.view(self.block_start, self.offset, size)
        self.offset += size
        while self.offset >= METADATA_SIZE:
            self.block_start = self.table.block(self.block_start)[1]
            self.offset -= METADATA_SIZE
        return data[at : at + size]


@dataclass(slots=True)
class XattrReader:
    ids: LookupTable
    table: MetadataTable
    _sets: dict[int, Xattrs] = field(default_factory=dict)

    @classmethod
    def of(cls, file: ImageFile, decompress: Decompress, table_start: int, limits: range) -> XattrReader:
        """The reader of the table whose XattrTable record is at `block_start`; all of it must be within `limits`."""
        head = XattrTable.unpack(file.read(table_start, XattrTable.layout.size))
        ids = LookupTable(
            file,
            decompress,
            "xattr id table",
            list_offset=table_start + XattrTable.layout.size,
            count=head.count,
            entry_size=XattrId.layout.size,
            limits=limits,
        )
        if not limits.start <= head.start <= ids.start:
            raise FormatError(
                f"xattr table is damaged: it is at {head.start}, outside of {limits.start} to {ids.start}"
            )
        return cls(ids, MetadataTable(file, decompress, "xattr table", head.start, min(ids.start, table_start)))

    def read(self, number: int, budget: MemoryBudget) -> Xattrs:
        """The set with that number, in the order of the names' bytes."""
        known = self._sets.get(number)
        if known is None:
            known = self._sets[number] = self._read(XattrId.unpack(*self.ids.view_record(number)), budget)
        return known

    def _read(self, head: XattrId, budget: MemoryBudget) -> Xattrs:
        cursor = _Cursor(self.table, *unpack_reference(head.reference))
        found: dict[str, bytes] = {}
        for _ in range(head.count):
            key = XattrKey.unpack(cursor.take(XattrKey.layout.size))
            budget.take(200 + key.name_size)
            raw = cursor.take(key.name_size)
            namespace = key.namespace & ~XATTR_OUT_OF_LINE
            if namespace >= len(XATTR_PREFIXES) or not 0 < len(raw) <= MAX_NAME_SIZE or b"\0" in raw:
                raise self.table.damage_error(
                    cursor.block_start, f"invalid attribute name: namespace {namespace}, {len(raw)} bytes"
                )
            value = self._read_value(cursor, budget)
            if key.namespace & XATTR_OUT_OF_LINE:
                if len(value) != 8:
                    raise self.table.damage_error(
                        cursor.block_start, f"invalid value reference: {len(value)} bytes, not 8"
                    )
                elsewhere = _Cursor(self.table, *unpack_reference(int.from_bytes(value, "little")))
                value = self._read_value(elsewhere, budget)
            name = XATTR_PREFIXES[namespace] + decode(raw)
            if name in found:
                raise self.table.damage_error(cursor.block_start, "an extended attribute occurs twice")
            found[name] = value
        return tuple((name, found[name]) for name in sorted(found, key=byte_sort_key))

    def _read_value(self, cursor: _Cursor, budget: MemoryBudget) -> bytes:
        size = XattrValue.unpack(cursor.take(XattrValue.layout.size)).value_size
        if size > MAX_XATTR_VALUE_SIZE:
            raise self.table.damage_error(
                cursor.block_start, f"extended attribute of {size} bytes; the limit is {MAX_XATTR_VALUE_SIZE}"
            )
        budget.take(size)
        return cursor.take(size)
