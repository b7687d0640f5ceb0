"""Write the directory table: the sorted entries of each directory in runs, with an index if there are many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ltsp.squashfs.format import (
    LISTING_EXTRA,
    MAX_RUN_ENTRIES,
    METADATA_SIZE,
    DirectoryEntry,
    DirectoryHeader,
    DirectoryIndex,
    InodeType,
)
from ltsp.squashfs.meta_writer import MetadataWriter

_MAX_NUMBER_DIFFERENCE = 0x7FFF
"""Largest difference between the inode number of an entry and that of its run."""
_HEADER_SIZE = DirectoryHeader.layout.size
_pack_entry = DirectoryEntry.layout.pack


class NewEntry(NamedTuple):
    name: bytes
    reference: int
    """Of the inode."""
    inode_number: int
    kind: InodeType
    """The basic one."""


class WrittenListing(NamedTuple):
    """Location of a directory's entries, for its inode."""

    block: int
    offset: int
    size: int
    """Bytes, plus LISTING_EXTRA."""
    directory_count: int
    """Number of entries that are directories."""
    indexes: list[bytes]
    """DirectoryIndex records with their names."""


@dataclass(slots=True)
class _DirectoryRun:
    """Entries below one header, which start in one metadata block of the directory table."""

    inode_block: int
    """Offset of the metadata block in the inode table."""
    base_inode_number: int
    """Base of the entries' inode numbers."""
    first_name: bytes
    """Name."""
    end: int
    """Bytes of the listing before the next metadata block of the directory table."""
    entries: bytearray = field(default_factory=bytearray)
    count: int = 0


@dataclass(slots=True)
class DirectoryWriter:
    table: MetadataWriter

    def add(self, entries: Iterable[NewEntry]) -> WrittenListing:
        """Append the entries of a directory, in the order of their names' bytes."""
        table = self.table
        begin = table.reference
        position = directory_count = 0
        index: list[bytes] = []
        run: _DirectoryRun | None = None
        for name, reference, inode_number, kind in entries:
            block = reference >> 16
            if (
                run is None
                or run.count == MAX_RUN_ENTRIES
                or run.inode_block != block
                or not -_MAX_NUMBER_DIFFERENCE <= inode_number - run.base_inode_number <= _MAX_NUMBER_DIFFERENCE
                or position + _HEADER_SIZE + len(run.entries) >= run.end
            ):
                if run is not None:
                    position += self._write_run(run, position, begin, index)
                end = position + METADATA_SIZE - table.offset
                run = _DirectoryRun(block, inode_number, name, end)
            run.entries += _pack_entry(reference & 0xFFFF, inode_number - run.base_inode_number, kind, len(name) - 1)
            run.entries += name
            run.count += 1
            directory_count += kind is InodeType.DIRECTORY
        if run is not None:
            position += self._write_run(run, position, begin, index)
        return WrittenListing(begin >> 16, begin & 0xFFFF, position + LISTING_EXTRA, directory_count, index)

    def _write_run(self, run: _DirectoryRun, position: int, begin: int, index: list[bytes]) -> int:
        """Write a run at `position` bytes in the listing, and index it; return its size in bytes.

        The first run of each metadata block is indexed, so that a lookup reads one or two of them. The runs of the
        first block need no index: lookups begin there.
        """
        header = DirectoryHeader(run.count - 1, run.inode_block, run.base_inode_number).pack()
        before = self.table.block
        self.table.write(header + run.entries)
        if before != begin >> 16 and (not index or DirectoryIndex.unpack(index[-1]).block != before):
            index.append(DirectoryIndex(position, before, len(run.first_name) - 1).pack() + run.first_name)
        return len(header) + len(run.entries)
