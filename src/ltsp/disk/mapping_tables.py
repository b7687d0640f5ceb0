"""What the formats of disks and volumes share: tables of integers, a cache for parts of them, compressed clusters."""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final, Generic, TypeVar

import deflate

from ltsp.errors import FormatError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SECTOR_SIZE: Final = 512
"""Bytes: the unit of most tables, regardless of the disk's own sector size."""
_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
"""8 MiB: a cluster has 2 MiB at most."""

Value = TypeVar("Value")


def unpack_integers(layout: str, data: bytes) -> array[int]:
    """Integers in a struct layout: `<I` is little-endian, four bytes; `>Q` is big-endian, eight bytes."""
    found = array(layout[1], data)
    if layout[0] != ("<" if sys.byteorder == "little" else ">"):
        found.byteswap()
    return found


class LruCache(Generic[Value]):
    """Values by number; keeps at most `limit`, and at least one. Two threads may make the same value."""

    __slots__ = ("_kept", "_limit", "_lock", "_make")

    def __init__(self, make: Callable[[int], Value], limit: int) -> None:
        self._make = make
        self._limit = max(limit, 1)
        self._kept: OrderedDict[int, Value] = OrderedDict()
        self._lock = Lock()

    def __call__(self, key: int) -> Value:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = self._make(key)
        with self._lock:
            self._kept[key] = value
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return value


def decompress_cluster(kind: str, stored: bytes, limit: int) -> bytes:
    """The content of a cluster or grain, at most `limit` bytes; trailing data is ignored.

    `kind` is `deflate`, `zlib` or `zstd`. Raises FormatError.
    """
    try:
        match kind:
            case "deflate":
                return bytes(deflate.deflate_decompress(stored, limit))
            case "zlib":
                return bytes(deflate.zlib_decompress(stored, limit))
            case _:
                return zstd.ZstdDecompressor(options=_WINDOW).decompress(stored, limit)
    except (deflate.DeflateError, ValueError, zstd.ZstdError) as error:
        raise FormatError(f"its {kind} data is damaged") from error
