"""Parse the maps of sparse members in tar archives. GNU tar manual, "Storing Sparse Files".

There are four forms: GNU's own header (type S, with extension blocks), and pax 0.0 (pairs of records), 0.1 (one record)
and 1.0 (decimal lines before the data).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ltsp.archive.header import BLOCK, parse_number
from ltsp.archive.pax import PaxRecord, get_number, parse_decimal
from ltsp.errors import FormatError
from ltsp.storage.extents import DataRun, add_run

_MAX_FILE_SIZE = 16 << 40
"""Largest sparse file in bytes, as in ext4: a few bytes must not become a file that cannot be written."""
_MAX_RUNS = 1 << 20

Pair = tuple[int, int]
Read = Callable[[int], bytes]
"""Reads exactly this many bytes after the header."""


@dataclass(frozen=True, slots=True)
class SparseMap:
    size: int
    """Size of the file in bytes."""
    pairs: Sequence[Pair]
    """Offset and length of the runs of data."""

    def list_runs(self, stored: int) -> tuple[DataRun, ...]:
        """The runs of the file in `stored` bytes of data.

        Raises FormatError if they overlap, exceed the file, or do not match the stored data.
        """
        if self.size > _MAX_FILE_SIZE:
            raise FormatError(
                f"is damaged: a sparse file of {self.size >> 40} TiB is larger than any file system allows"
            )
        runs: list[DataRun] = []
        end = total = 0
        for offset, length in self.pairs:
            if offset < end or offset + length > self.size:
                raise FormatError("is damaged: the data runs of a sparse file overlap, or extend beyond its end")
            if length:
                add_run(runs, offset, total, length)
            end = offset + length
            total += length
        if total != stored:
            raise FormatError(
                f"is damaged: the map of a sparse file describes {total} bytes of data, but {stored} are stored"
            )
        return tuple(runs)


def parse_gnu_map(block: bytes, read: Read) -> SparseMap:
    """Parse GNU's own form: four pairs in the header, and 21 in each extension block.

    Raises FormatError.
    """
    pairs = _parse_pairs(block[386:482])
    size = parse_number(block[483:495])
    more = block[482]
    while more:
        block = read(BLOCK)
        pairs += _parse_pairs(block[:504])
        more = block[504]
        if len(pairs) > _MAX_RUNS:
            raise FormatError(_TOO_MANY_RUNS)
    if size is None or size < 0:
        raise FormatError("is damaged: a sparse file has no size")
    return SparseMap(size, pairs)


def parse_pax_map(
    records: Sequence[PaxRecord], values: Mapping[bytes, bytes], read: Read
) -> tuple[SparseMap, int] | None:
    """The map in a member's records, and the bytes that it takes before the data; None for a file that is not sparse.

    Raises FormatError.
    """
    if b"GNU.sparse.major" in values:
        version = values[b"GNU.sparse.major"], values.get(b"GNU.sparse.minor", b"0")
        if version != (b"1", b"0"):
            raise FormatError("has a sparse file in an unknown format", "create the archive without --sparse")
        size = get_number(values, b"GNU.sparse.realsize", -1)
        pairs, map_size = _read_decimal_lines(read)
        return _make_map(size, pairs), map_size
    if b"GNU.sparse.map" in values:
        numbers = [_require_decimal(digits) for digits in values[b"GNU.sparse.map"].split(b",")]
        return _make_map(get_number(values, b"GNU.sparse.size", -1), _pair_numbers(numbers)), 0
    if b"GNU.sparse.size" in values:
        wanted = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        found = [(keyword, value) for keyword, value in records if keyword in wanted]
        if any(keyword != wanted[index % 2] for index, (keyword, _) in enumerate(found)):
            raise FormatError(_ODD_COUNT)
        return _make_map(
            get_number(values, b"GNU.sparse.size", -1), _pair_numbers([_require_decimal(value) for _, value in found])
        ), 0
    return None


_TOO_MANY_RUNS = "is damaged: a sparse file has too many runs"
_ODD_COUNT = "is damaged: the map of a sparse file has an odd number of values"


def _make_map(size: int, pairs: Sequence[Pair]) -> SparseMap:
    if size < 0:
        raise FormatError("is damaged: a sparse file has no size")
    return SparseMap(size, pairs)


def _parse_pairs(data: bytes) -> list[Pair]:
    pairs = []
    for at in range(0, len(data), 24):
        if not data[at + 12]:
            break
        offset, length = parse_number(data[at : at + 12]), parse_number(data[at + 12 : at + 24])
        if offset is None or length is None or offset < 0 or length < 0:
            raise FormatError("is damaged: the map of a sparse file has invalid numbers")
        pairs.append((offset, length))
    return pairs


def _read_decimal_lines(read: Read) -> tuple[list[Pair], int]:
    """Read the number of pairs, then offset and length of each, one number a line, padded to a block."""
    rest = b""
    map_size = 0
    wanted = 1
    numbers: list[int] = []
    while len(numbers) < wanted:
        line, newline, after = rest.partition(b"\n")
        if not newline:
            if len(rest) >= BLOCK:
                raise FormatError("is damaged: the map of a sparse file has invalid numbers")
            rest += read(BLOCK)
            map_size += BLOCK
            continue
        rest = after
        numbers.append(_require_decimal(line))
        if len(numbers) == 1:
            wanted = 1 + 2 * numbers[0]
            if numbers[0] > _MAX_RUNS:
                raise FormatError(_TOO_MANY_RUNS)
    return _pair_numbers(numbers[1:]), map_size


def _pair_numbers(numbers: Sequence[int]) -> list[Pair]:
    if len(numbers) % 2:
        raise FormatError(_ODD_COUNT)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _require_decimal(digits: bytes) -> int:
    value = parse_decimal(digits)
    if value is None:
        raise FormatError("is damaged: the map of a sparse file has invalid numbers")
    return value
