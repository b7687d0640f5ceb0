"""Decompress LZO1X. Linux Documentation/staging/lzo.rst describes the format.

Each instruction copies bytes from earlier output, then up to three literals or a longer run from the input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ltsp.errors import FormatError

_AFTER_LITERALS = 4
"""The state after a run of literals, as opposed to 0 to 3 literals."""
_FAR_DISTANCE = 16384


def decompress(data: bytes, limit: int) -> bytes:
    """Decompress a block without a header.

    Raises FormatError if it is damaged or decompresses to more than `limit` bytes.
    """
    library = load_native()
    if library is None:
        return decompress_in_python(data, limit)
    try:
        piece = library(data, False, limit)
    except BaseException as error:
        # The library raises its own errors; a Rust panic is a BaseException. Interrupts and the like pass.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise FormatError("the LZO data is damaged") from error
    if len(piece) > limit:
        raise _damage_error("it is too large")
    return piece


@cache
def load_native() -> Callable[[bytes, bool, int], bytes] | None:
    """The native implementation, five times as fast, if it is installed."""
    try:
        from dissect.util.compression import lzo_native  # noqa: PLC0415 - an extra, imported only when needed
    except ImportError:
        return None
    found: Callable[[bytes, bool, int], bytes] | None = getattr(lzo_native, "decompress", None)
    return found


def decompress_in_python(data: bytes, limit: int) -> bytes:
    """Like `decompress`, without a library."""
    try:
        return _decompress_unchecked(data, limit)
    except IndexError:
        raise _damage_error("it is truncated") from None


def _decompress_unchecked(data: bytes, limit: int) -> bytes:
    found = bytearray()
    at = state = 0
    if data[0] > 17:
        count = data[0] - 17
        found += _read_literals(data, 1, count)
        at, state = 1 + count, min(count, _AFTER_LITERALS)
    while True:
        word = data[at]
        at += 1
        if word < 16 and not state:
            count, at = _read_length(data, at, word, 15)
            found += _read_literals(data, at, count + 3)
            at, state = at + count + 3, _AFTER_LITERALS
            if len(found) > limit:
                raise _damage_error("it is too large")
            continue
        if word >= 64:
            following, distance, length = word & 3, (word >> 2 & 7) + (data[at] << 3) + 1, (word >> 5) + 1
            at += 1
        elif word < 16:
            following, distance, length = word & 3, (word >> 2) + (data[at] << 2) + 1, 2
            at += 1
            if state == _AFTER_LITERALS:
                distance, length = distance + 2048, 3
        else:
            mask = 31 if word >= 32 else 7
            length, at = _read_length(data, at, word & mask, mask)
            length += 2
            low = data[at] | data[at + 1] << 8
            at += 2
            following, distance = low & 3, (low >> 2) + 1
            if word < 32:
                distance += ((word & 8) << 11) + _FAR_DISTANCE - 1
                if distance == _FAR_DISTANCE:
                    return bytes(found)
        start = len(found) - distance
        if start < 0 or len(found) + length + following > limit:
            raise _damage_error("it refers to data before its start, or is too large")
        if distance >= length:
            found += found[start : start + length]
        else:
            found += (found[start:] * (length // distance + 1))[:length]
        if following:
            found += _read_literals(data, at, following)
            at += following
        state = following


def _read_length(data: bytes, at: int, count: int, limit: int) -> tuple[int, int]:
    """A length, which continues in the next bytes if it is 0, and the offset after it."""
    if count:
        return count, at
    while not data[at]:
        count += 255
        at += 1
    return count + limit + data[at], at + 1


def _read_literals(data: bytes, at: int, count: int) -> bytes:
    piece = data[at : at + count]
    if len(piece) < count:
        raise _damage_error("it is truncated")
    return piece


def _damage_error(fault: str) -> FormatError:
    return FormatError(f"the LZO data is damaged: {fault}")
