"""Encodes trees as batches of JSON records, and decodes them from the sandboxed process, which is not trusted.

A record follows all that it refers to, and its number is its position, from 0; the last one is the root. Files are
records without contents, which are requested by number.

This is not the codec of messages: a tree may have millions of nodes, which would be objects twice, and each record is
checked against those before it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from ltsp.errors import ReaderFailed
from ltsp.tree.content import Content
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Socket, Symlink
from ltsp.tree.tree import Tree

_NodeRecord = list[Any]
FileExtents = tuple[tuple[int, int, int], ...]
"""The extents of a file: for each the number of an open file (or -1 for zeros), offset and size. Both sides number the
files in the same way. Empty if the content has to be requested.
"""
FindExtents = Callable[[Content], FileExtents]
MakeContent = Callable[[int, int, int, FileExtents], Content]
"""Makes a content from the number, size, stored bytes and extents of a file."""

_BATCH_SIZE: Final = 512
"""Records per batch."""
_MAX_INT64: Final = (1 << 63) - 1
_MAX_NAME_SIZE: Final = 255
"""Bytes. limits.h, NAME_MAX"""
_MAX_TARGET_SIZE: Final = 65535
"""Bytes; the limit of squashfs. That of Linux is 4,095."""
_RESERVED_NAMES: Final = frozenset({"", ".", ".."})


def encode_tree(tree: Tree, found: list[Content], find_extents: FindExtents = lambda _content: ()) -> Iterator[bytes]:
    """The records of a tree, in batches; contents are appended to `found`, which `["f", …]` records number."""
    records = _encode_nodes(tree, found, find_extents)
    while batch := list(islice(records, _BATCH_SIZE)):
        yield json.dumps(batch).encode("ascii")


def _encode_nodes(tree: Tree, found: list[Content], find_extents: FindExtents) -> Iterator[_NodeRecord]:
    numbers: dict[int, int] = {}
    count = 0
    pending: list[tuple[Node, Iterator[Node]]] = [(tree.root, iter(tree.root.entries.values()))]
    while pending:
        node, below = pending[-1]
        child = next((each for each in below if id(each) not in numbers), None)
        if isinstance(child, Directory):
            pending.append((child, iter(child.entries.values())))
            continue
        if child is None:
            pending.pop()
            child = node
        yield _encode_node(child, numbers, found, find_extents)
        numbers[id(child)] = count
        count += 1


def _encode_node(node: Node, numbers: dict[int, int], found: list[Content], find_extents: FindExtents) -> _NodeRecord:
    metadata = node.metadata
    xattrs = [[name, base64.b64encode(value).decode("ascii")] for name, value in metadata.xattrs]
    common = [metadata.mode, metadata.uid, metadata.gid, metadata.mtime, xattrs]
    match node:
        case Directory(entries=entries):
            return ["d", *common, list(entries), [numbers[id(each)] for each in entries.values()]]
        case File(content=content):
            found.append(content)
            return ["f", *common, len(found) - 1, content.size, content.stored_size, find_extents(content)]
        case Symlink(target=target):
            return ["l", *common, target]
        case Device():
            return [node.kind.value, *common, node.major, node.minor]
        case Fifo():
            return ["p", *common]
        case Socket():
            return ["s", *common]


def decode_tree(batches: Iterable[bytes], make_content: MakeContent) -> Tree:
    """The tree of these batches of records.

    Raises ReaderFailed if they are invalid.
    """
    nodes: list[Node] = []
    placed_directories: set[int] = set()
    for batch in batches:
        try:
            for record in json.loads(batch):
                nodes.append(_decode_node(record, nodes, placed_directories, make_content))
        except (ValueError, TypeError, IndexError, RecursionError, binascii.Error) as error:
            raise ReaderFailed("the sandbox worker returned an invalid reply", "please report this") from error
    if not nodes or not isinstance(nodes[-1], Directory):
        raise ReaderFailed("the sandbox worker returned an invalid reply", "please report this")
    return Tree(nodes[-1])


def _decode_node(
    record: _NodeRecord, nodes: list[Node], placed_directories: set[int], make_content: MakeContent
) -> Node:
    """Raises ValueError, TypeError or IndexError for an invalid record."""
    kind, mode, uid, gid, mtime, xattrs, *rest = record
    metadata = Metadata(
        _check_number(mode, 0o7777),
        _check_number(uid, 0xFFFFFFFF),
        _check_number(gid, 0xFFFFFFFF),
        _check_number(mtime, _MAX_INT64, -_MAX_INT64),
        tuple((_check_text(name, _MAX_NAME_SIZE), base64.b64decode(value, validate=True)) for name, value in xattrs),
    )
    match kind, rest:
        case "d", [names, numbers]:
            return Directory(metadata, dict(_decode_entries(names, numbers, nodes, placed_directories)))
        case "f", [number, size, stored, extents]:
            found = tuple(map(_decode_extent, extents))
            if found and sum(length for _, _, length in found) != size:
                raise ValueError(extents)
            return File(
                metadata, make_content(_check_number(number), _check_number(size), _check_number(stored), found)
            )
        case "l", [target]:
            return Symlink(metadata, _check_text(target, _MAX_TARGET_SIZE))
        case "b" | "c", [major, minor]:
            return Device(metadata, DeviceKind(kind), _check_number(major, 0xFFF), _check_number(minor, 0xFFFFF))
        case "p", []:
            return Fifo(metadata)
        case "s", []:
            return Socket(metadata)
        case _:
            raise ValueError(kind)


def _decode_entries(
    names: list[Any], numbers: list[Any], nodes: list[Node], placed_directories: set[int]
) -> Iterator[tuple[str, Node]]:
    """Each directory may appear only once, so that there are no cycles."""
    if len(set(names)) != len(names):
        raise ValueError
    for name, number in zip(names, numbers, strict=True):
        checked = _check_text(name, _MAX_NAME_SIZE)
        if checked in _RESERVED_NAMES or "/" in checked:
            raise ValueError(name)
        node = nodes[_check_number(number)]
        if isinstance(node, Directory):
            if number in placed_directories:
                raise ValueError(number)
            placed_directories.add(number)
        yield checked, node


def _decode_extent(place: list[Any]) -> tuple[int, int, int]:
    number, offset, size = place
    return _check_number(number, minimum=-1), _check_number(offset), _check_number(size, minimum=1)


def _check_number(value: object, maximum: int = _MAX_INT64, minimum: int = 0) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        raise ValueError(value)
    return value


def _check_text(value: object, maximum: int) -> str:
    """A name or target. Surrogates that do not stand for bytes raise UnicodeEncodeError, a ValueError."""
    if type(value) is not str or "\0" in value or len(value.encode("utf-8", "surrogateescape")) > maximum:
        raise ValueError(value)
    return value
