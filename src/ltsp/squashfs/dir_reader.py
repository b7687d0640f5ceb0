"""Read directory listings: names and the locations of their inodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ltsp.errors import FormatError
from ltsp.squashfs.format import MAX_NAME_SIZE, MAX_RUN_ENTRIES, DirectoryEntry, DirectoryHeader

_HEADER, _ENTRY = DirectoryHeader.layout, DirectoryEntry.layout
_MAX_RUN_SIZE = _HEADER.size + MAX_RUN_ENTRIES * (_ENTRY.size + MAX_NAME_SIZE + 1)
"""Bytes."""


class ListingEntry(NamedTuple):
    """A tuple because there is one for each name of the image."""

    name: bytes
    block: int
    """Place of the metadata block in which the inode begins, relative to the inode table."""
    offset: int
    """Of the inode in that block."""
    inode_number: int
    """Inode number."""
    kind: int
    """Basic InodeType."""


def read_entries(pieces: Iterable[bytes]) -> Iterator[ListingEntry]:
    """The entries of a listing that comes in pieces, in the order of the names' bytes.

    Raises FormatError if it is truncated, or a name is invalid on Linux: empty, `.`, `..`, with a slash or NUL, too
    long, or out of order.
    """
    last = b""
    for run in _read_runs(pieces):
        names = [entry.name for entry in run]
        _check_names(names, last)
        last = names[-1]
        yield from run


def _read_runs(pieces: Iterable[bytes]) -> Iterator[list[ListingEntry]]:
    """The runs of entries, each below one header; at most two runs of the listing are in memory."""
    rest = b""
    for piece in pieces:
        rest += piece
        if len(rest) < 2 * _MAX_RUN_SIZE:
            continue
        at = 0
        while len(rest) - at >= _MAX_RUN_SIZE:
            run, at = _parse_run(rest, at)
            yield run
        rest = rest[at:]
    at = 0
    while at < len(rest):
        run, at = _parse_run(rest, at)
        yield run


def _parse_run(listing: bytes, at: int) -> tuple[list[ListingEntry], int]:
    """The entries below the header at an offset, and the offset of the next header."""
    if at + _HEADER.size > len(listing):
        raise _damage_error("it is truncated")
    count, block, inode_number = _HEADER.unpack_from(listing, at)
    if count >= MAX_RUN_ENTRIES:
        raise _damage_error(f"{count + 1} entries below one header; the limit is {MAX_RUN_ENTRIES}")
    at += _HEADER.size
    run = []
    for _ in range(count + 1):
        name = at + _ENTRY.size
        if name > len(listing):
            raise _damage_error("it is truncated")
        offset, difference, kind, size = _ENTRY.unpack_from(listing, at)
        at = name + size + 1
        if size >= MAX_NAME_SIZE:
            raise _damage_error(f"it has a name longer than {MAX_NAME_SIZE} bytes")
        run.append(ListingEntry(listing[name:at], block, offset, inode_number + difference, kind))
    if at > len(listing):
        raise _damage_error("it is truncated")
    return run, at


def _check_names(names: list[bytes], last: bytes) -> None:
    """All names of a run at once: a directory may have a hundred thousand."""
    if names != sorted(set(names)) or names[0] <= last:
        raise _damage_error("its names are out of order")
    joined = b"\0".join(names)
    if b"/" in joined or joined.count(b"\0") >= len(names) or not {b".", b".."}.isdisjoint(names):
        raise _damage_error("it has a name that is `.` or `..`, or that contains a slash or NUL")


def _damage_error(fault: str) -> FormatError:
    return FormatError(f"directory listing is damaged: {fault}")
