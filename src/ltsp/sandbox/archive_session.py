"""The sandboxed process for archives: from an open file, or the parts of a layout, to a tree."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ltsp.archive.archive import ArchiveFormat, ArchiveReader, is_archive
from ltsp.archive.content import DescriptorBlocks
from ltsp.sandbox.worker import Caller, main
from ltsp.storage.blocks import Blocks
from ltsp.storage.extents import Extent
from ltsp.tree.selection import DirectoryFilter
from ltsp.tree.tree import Tree

SCRATCH = ""
"""Requested in place of a part of the layout: an unnamed file to unpack into."""
_PIECE = 1 << 20
_WAIT = 3_000
"""Milliseconds between heartbeats while waiting for data from a pipe."""


@dataclass(frozen=True, slots=True)
class ArchiveSession:
    reader: ArchiveReader
    caller: Caller
    files: list[BinaryIO]
    """The archive, or for a layout, each part that was requested; they stay open."""
    form: ArchiveFormat
    tag: str
    is_layout: bool

    def query(self, _question: dict[str, object]) -> object:
        """Whether it is an archive at all."""
        return is_archive(DescriptorBlocks.of(self.files[0].fileno()))

    def tree(self, _question: dict[str, object], _entered: DirectoryFilter) -> Tree:
        """The whole tree: a pipe can be read only once."""
        if self.is_layout:
            return self.reader.layout(self._open_part, self.tag)
        descriptor = self.files[0].fileno()
        # A pipe can be read only once.
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and not os.lseek(descriptor, 0, os.SEEK_CUR):
            return self.reader.file(self._with_heartbeat(descriptor), self.form, self.tag)
        return self.reader.stream(_read_pipe(descriptor, self.caller.working), self.form, self.tag)

    def _open_part(self, path: str) -> Blocks:
        self.files.append(self.caller(path))
        return self._with_heartbeat(self.files[-1].fileno())

    def _with_heartbeat(self, descriptor: int) -> Blocks:
        return _HeartbeatFile(DescriptorBlocks.of(descriptor), self.caller.working)


@dataclass(frozen=True, slots=True)
class _HeartbeatFile:
    """A file that sends a heartbeat on each read."""

    file: DescriptorBlocks
    working: Callable[[], None]

    @property
    def size(self) -> int:
        return self.file.size

    def read_at(self, offset: int, size: int) -> bytes:
        self.working()
        return self.file.read_at(offset, size)

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        return self.file.extents(offset, size)


def _read_pipe(descriptor: int, working: Callable[[], None]) -> Iterator[bytes]:
    """The data from a pipe, whose writer may take any time."""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while True:
        while not ready.poll(_WAIT):
            working()
        working()
        piece = os.read(descriptor, _PIECE)
        if not piece:
            return
        yield piece


def begin(files: list[BinaryIO], caller: Caller, options: dict[str, object]) -> ArchiveSession:
    """`options`: `form`, `tag`, `layout` if there is no file, and `scratch`, the directory to unpack in."""
    reader = ArchiveReader(str(options["scratch"]), lambda _directory: caller(SCRATCH), caller.working)
    form, tag = ArchiveFormat(options.get("form", ArchiveFormat.ANY.value)), str(options.get("tag", ""))
    return ArchiveSession(reader, caller, files, form, tag, bool(options.get("layout")))


if __name__ == "__main__":
    main(begin)
