"""Write the inodes and directories of a tree from its leaves to its root, and the export table.

Inodes of one directory have consecutive numbers and are adjacent, so that its entries need few headers and a listing
with attributes reads few blocks. Nothing here recurses: a tree may nest deeper than the interpreter's stack.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ltsp.squashfs.dir_writer import DirectoryWriter, NewEntry, WrittenListing
from ltsp.squashfs.file_table import FileTable
from ltsp.squashfs.format import InodeType, basic_inode_type
from ltsp.squashfs.inode_writer import InodeWriter
from ltsp.tree.name import encode, sort_names
from ltsp.tree.node import Directory, File, Node

_ROOT_NUMBER = 1
_UNWRITTEN = 0xFFFF_FFFF_FFFF_FFFF
"""Placeholder for the reference of an inode; no inode is there."""


@dataclass(slots=True)
class _OpenDirectory:
    """A directory with subdirectories that are not written yet."""

    directory: Directory
    number: int
    entries: list[tuple[str, Node, int]]
    """Name, node and inode number, in the order of the names' bytes."""
    subdirectories: Iterator[tuple[str, Node, int]]
    listings: list[WrittenListing] = field(default_factory=list)
    """Results of the written subdirectories, in the order of `entries`."""


@dataclass(slots=True)
class TreeWriter:
    """Writes the inode and directory tables."""

    inodes: InodeWriter
    directories: DirectoryWriter
    file_table: FileTable
    content_numbers: Mapping[int, int]
    """Numbers of the contents in `file_table` by the `id` of the file; other files are excluded."""
    mtimes: Mapping[int, int]
    """Times by the `id` of files that changed between the scan and reading."""
    link_counts: Mapping[int, int]
    """Number of names by the `id` of each node that has several."""
    exports: array[int] = field(init=False, default_factory=lambda: array("Q"))
    """References of the inodes by number, from 1."""
    _number_by_node: dict[int, int] = field(init=False, default_factory=dict)
    """Inode number by the `id` of a node with several names."""

    def write(self, root: Directory) -> int:
        """Write the tree; return the reference of the root inode."""
        self.exports.append(_UNWRITTEN)
        stack = [self._begin_directory(root, _ROOT_NUMBER)]
        while True:
            directory = stack[-1]
            for _, node, number in directory.subdirectories:
                assert isinstance(node, Directory)
                stack.append(self._begin_directory(node, number))
                break
            else:
                listing = self.directories.add(self._write_inodes(directory))
                stack.pop()
                if not stack:
                    # The root has no parent; readers expect an unused inode number.
                    unused_number = len(self.exports) + 1
                    reference = self.inodes.add_directory(root, _ROOT_NUMBER, unused_number, listing)
                    self.inodes.table.close()
                    self.directories.table.close()
                    return self._record_reference(_ROOT_NUMBER, reference)
                stack[-1].listings.append(listing)

    def _begin_directory(self, directory: Directory, number: int) -> _OpenDirectory:
        """Number the entries that are kept."""
        entries = []
        for name in sort_names(list(directory.entries)):
            node = directory.entries[name]
            if isinstance(node, File) and id(node) not in self.content_numbers:
                continue
            entries.append((name, node, self._assign_number(node)))
        subdirectories = iter([entry for entry in entries if isinstance(entry[1], Directory)])
        return _OpenDirectory(directory, number, entries, subdirectories)

    def _assign_number(self, node: Node) -> int:
        key = id(node)
        number = self._number_by_node.get(key)
        if number is None:
            self.exports.append(_UNWRITTEN)
            number = len(self.exports)
            if key in self.link_counts:
                self._number_by_node[key] = number
        return number

    def _write_inodes(self, directory: _OpenDirectory) -> Iterator[NewEntry]:
        """Write the inodes of a directory's entries, after the listings of all its subdirectories."""
        listings = iter(directory.listings)
        for name, node, number in directory.entries:
            reference = self.exports[number - 1]
            if isinstance(node, Directory):
                reference = self.inodes.add_directory(node, number, directory.number, next(listings))
                kind = InodeType.DIRECTORY
            elif isinstance(node, File):
                kind = InodeType.FILE
                if reference == _UNWRITTEN:
                    reference = self._add_file(node, number)
            else:
                kind = basic_inode_type(node)
                if reference == _UNWRITTEN:
                    reference = self.inodes.add_other(node, number, self.link_counts.get(id(node), 1))
            yield NewEntry(encode(name), self._record_reference(number, reference), number, kind)

    def _add_file(self, file: File, number: int) -> int:
        key = id(file)
        location = self.file_table.get(self.content_numbers[key])
        return self.inodes.add_file(file, number, self.link_counts.get(key, 1), location, self.mtimes.get(key))

    def _record_reference(self, number: int, reference: int) -> int:
        self.exports[number - 1] = reference
        return reference
