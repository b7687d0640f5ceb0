"""The sandboxed process for archives: from an open file, or the parts of a layout, to a tree."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ltsp.archive.archive import ArchiveFormat, ArchiveReader, is_archive
from ltsp.sandbox.messages import SCRATCH, ArchiveCheck, CheckArchive, OpenArchive, ReadArchive
from ltsp.sandbox.session import Caller, SessionKind
from ltsp.storage.blocks import Blocks, FileBlocks
from ltsp.storage.extents import Extent, MappedBlocks
from ltsp.tree.selection import DirectoryFilter
from ltsp.tree.tree import Tree

_PIECE_SIZE = 1 << 20
_HEARTBEAT_INTERVAL_MS = 3_000
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

    def answer(self, _request: CheckArchive) -> ArchiveCheck:
        """Whether it is an archive at all."""
        return ArchiveCheck(is_archive(FileBlocks.of(self.files[0])))

    def tree(self, _request: ReadArchive, _entered: DirectoryFilter) -> Tree:
        """The whole tree: a pipe can be read only once."""
        if self.is_layout:
            return self.reader.read_layout(self._open_part, self.tag)
        descriptor = self.files[0].fileno()
        # A pipe can be read only once.
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and not os.lseek(descriptor, 0, os.SEEK_CUR):
            return self.reader.read_file(
                _open_with_heartbeat(self.files[0], self.caller.heartbeat), self.form, self.tag
            )
        return self.reader.read_stream(_read_pipe(descriptor, self.caller.heartbeat), self.form, self.tag)

    def _open_part(self, path: str) -> Blocks:
        self.files.append(self.caller(path))
        return _open_with_heartbeat(self.files[-1], self.caller.heartbeat)


def _open_with_heartbeat(file: BinaryIO, heartbeat: Callable[[], None]) -> Blocks:
    """A file that sends a heartbeat on each read."""
    blocks = FileBlocks.of(file)

    def locate(offset: int, size: int) -> Extent:
        heartbeat()
        return Extent(size, blocks, offset)

    return MappedBlocks(blocks.size, locate, padded=False)


def _read_pipe(descriptor: int, heartbeat: Callable[[], None]) -> Iterator[bytes]:
    """The data from a pipe, whose writer may take any time."""
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while True:
        while not ready.poll(_HEARTBEAT_INTERVAL_MS):
            heartbeat()
        heartbeat()
        piece = os.read(descriptor, _PIECE_SIZE)
        if not piece:
            return
        yield piece


def _begin(request: OpenArchive, files: list[BinaryIO], caller: Caller) -> ArchiveSession:
    reader = ArchiveReader(request.scratch, lambda _directory: caller(SCRATCH), caller.heartbeat)
    return ArchiveSession(reader, caller, files, ArchiveFormat(request.form), request.tag, request.is_layout)


SESSION = SessionKind(OpenArchive, _begin, (CheckArchive, ReadArchive))
