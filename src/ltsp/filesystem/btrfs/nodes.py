"""Look up items in the trees of btrfs. Linux fs/btrfs/ctree.h, tree-checker.c"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

from ltsp.errors import FormatError
from ltsp.filesystem.btrfs.superblock import CHECKSUM_SIZE, BtrfsSuperblock, ChunkMap
from ltsp.storage.blocks import Blocks

Key = tuple[int, int, int]
"""Object, type and offset; items are sorted by key."""

_HEADER = struct.Struct("<32s16sQQ16sQQIB")
_ITEM = struct.Struct("<QBQII")
_POINTER = struct.Struct("<QBQQQ")
_MAX_LEVELS = 8
_CACHED_NODES = 512
"""Cached nodes: 8 MiB at the usual node size, and three times that for their keys."""


@dataclass(frozen=True, slots=True)
class TreeRoot:
    """The root node of a tree."""

    address: int
    level: int
    generation: int


@dataclass(frozen=True, slots=True)
class BtrfsNode:
    level: int
    keys: list[Key]
    children: list[TreeRoot]
    """For each key of an inner node, its child."""
    items: list[tuple[int, int]]
    """For each key of a leaf, offset and size in the data."""
    data: bytes


@dataclass(slots=True)
class NodeReader:
    """Reads the nodes of a file system. Several threads may use it."""

    blocks: Blocks
    superblock: BtrfsSuperblock
    chunks: ChunkMap
    _cache: OrderedDict[int, tuple[int, BtrfsNode]] = field(default_factory=OrderedDict)
    """Nodes by address, with their generation."""
    _lock: Lock = field(default_factory=Lock)

    def items(self, root: TreeRoot, start: Key, end: Key) -> Iterator[tuple[Key, bytes]]:
        """The items of a tree whose keys lie from `start` up to, but not including, `end`.

        Raises FormatError. Keys must ascend from item to item, so that a looping tree ends.
        """
        if root.level >= _MAX_LEVELS:
            raise FormatError(f"a btrfs tree is damaged: it has {root.level} levels")
        node = self._read_node(root)
        path: list[tuple[BtrfsNode, int]] = []
        last: Key = (-1, 0, 0)
        while True:
            if node.level:
                if path or node.keys:
                    path.append((node, max(0, bisect_right(node.keys, start) - 1)))
            else:
                for index in range(bisect_left(node.keys, start), len(node.keys)):
                    key = node.keys[index]
                    if key >= end:
                        return
                    if key <= last:
                        raise FormatError("a btrfs tree is damaged: its keys are out of order")
                    last = key
                    place, size = node.items[index]
                    yield key, node.data[place : place + size]
                while path:
                    above, index = path.pop()
                    if index + 1 < len(above.keys):
                        if above.keys[index + 1] >= end:
                            return
                        path.append((above, index + 1))
                        break
            if not path:
                return
            above, index = path[-1]
            if above.keys[index] < last:
                raise FormatError("a btrfs tree is damaged: its keys are out of order")
            node = self._read_node(above.children[index])

    def find_floor(self, root: TreeRoot, key: Key) -> Key | None:
        """The greatest key in a tree up to this one. Raises FormatError."""
        if root.level >= _MAX_LEVELS:
            raise FormatError(f"a btrfs tree is damaged: it has {root.level} levels")
        node = self._read_node(root)
        while True:
            index = bisect_right(node.keys, key) - 1
            if index < 0:
                return None
            if not node.level:
                return node.keys[index]
            node = self._read_node(node.children[index])

    def find_item(self, root: TreeRoot, key: Key) -> bytes | None:
        """The item with this key, or None."""
        for _, data in self.items(root, key, (key[0], key[1], key[2] + 1)):
            return data
        return None

    def _read_node(self, wanted: TreeRoot) -> BtrfsNode:
        with self._lock:
            known = self._cache.get(wanted.address)
            if known is not None:
                self._cache.move_to_end(wanted.address)
        if known is None:
            generation, node = self._read_first_valid_copy(wanted)
            with self._lock:
                self._cache[wanted.address] = generation, node
                if len(self._cache) > _CACHED_NODES:
                    self._cache.popitem(last=False)
        else:
            generation, node = known
        if node.level != wanted.level or generation != wanted.generation:
            raise FormatError(f"the node at address {wanted.address} is damaged: wrong generation or level")
        return node

    def _read_first_valid_copy(self, wanted: TreeRoot) -> tuple[int, BtrfsNode]:
        """The first valid copy."""
        size = self.superblock.node_size
        fault = FormatError(f"the node at address {wanted.address} is not mapped")
        for place in self.chunks.locate_copies(wanted.address, size):
            data = self.blocks.read_at(place, size)
            if len(data) < size or not data.startswith(self.superblock.checksum(data[CHECKSUM_SIZE:])):
                fault = FormatError(f"the node at address {wanted.address} is damaged: wrong checksum")
                continue
            try:
                return _parse_node(data, wanted.address)
            except FormatError as error:
                fault = error
        raise fault


def _parse_node(data: bytes, address: int) -> tuple[int, BtrfsNode]:
    """Generation and content."""
    _, _, own, _, _, generation, _, count, level = _HEADER.unpack_from(data)
    start = _HEADER.size
    record = _POINTER if level else _ITEM
    end = start + count * record.size
    if own != address or end > len(data) or level >= _MAX_LEVELS or (level and not count):
        raise FormatError(f"the node at address {address} is damaged")
    keys: list[Key] = []
    children: list[TreeRoot] = []
    items: list[tuple[int, int]] = []
    if level:
        for object_id, kind, offset, pointer, child_generation in _POINTER.iter_unpack(data[start:end]):
            keys.append((object_id, kind, offset))
            children.append(TreeRoot(pointer, level - 1, child_generation))
    else:
        for object_id, kind, offset, place, size in _ITEM.iter_unpack(data[start:end]):
            keys.append((object_id, kind, offset))
            items.append((start + place, size))
            if start + place + size > len(data):
                raise FormatError(f"the node at address {address} is damaged: an item is outside of it")
    return generation, BtrfsNode(level, keys, children, items, data)
