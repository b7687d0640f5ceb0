"""A small LRU cache, for tables and decompressed clusters of an image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Values by number; keeps at most `most`, and at least one. Two threads may make the same value."""

    __slots__ = ("_kept", "_lock", "_make", "_most")

    def __init__(self, make: Callable[[int], Value], most: int) -> None:
        self._make = make
        self._most = max(most, 1)
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
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value
