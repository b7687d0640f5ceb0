"""An image while it is being written: an unnamed file until it is complete and flushed."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ltsp.host import files
from ltsp.publish.manifest import FileFacts

_PIECE = 1 << 20
"""Bytes read at a time."""

_T = TypeVar("_T")


class StagedFile:
    """The image while it is being written: `image` is its raw file, open for reading and writing."""

    def __init__(self, new: files.UnnamedFile, pool: ThreadPoolExecutor) -> None:
        self.seconds: dict[str, float] = {}
        """Seconds spent after the image was written, by step; fsync and sha256 run in parallel."""
        self._new = new
        self._pool = pool
        self._flushed: Future[None] | None = None
        self._hashed: Future[str] | None = None

    @property
    def image(self) -> io.FileIO:
        return self._new.file

    def flush_in_background(self, compute_hash: Callable[[int], str]) -> None:
        """Start flushing the image to disk and hashing it, as `compute_sha256` does.

        Nothing may be written afterwards.
        """
        if self._flushed is None:
            descriptor = self.image.fileno()
            self._flushed = self._pool.submit(self._run_timed, "fsync", lambda: os.fsync(descriptor))
            self._hashed = self._pool.submit(self._run_timed, "sha256", lambda: compute_hash(descriptor))

    def finish(self) -> FileFacts:
        """Wait until the image is flushed; its size and sha256.

        Raises OSError if it could not be written, and whatever hashing raised.
        """
        self.flush_in_background(compute_sha256)
        assert self._flushed is not None
        assert self._hashed is not None
        self._flushed.result()
        return FileFacts(os.fstat(self.image.fileno()).st_size, self._hashed.result())

    def link(self, path: str, mode: int, group: int | None) -> None:
        self._new.link(path, mode, group)

    def _run_timed(self, step: str, work: Callable[[], _T]) -> _T:
        begin = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[step] = time.monotonic() - begin


@contextmanager
def open_staged_file(directory: str) -> Iterator[StagedFile]:
    """A new image on the file system of this directory; discarded at the end unless it was linked."""
    with files.create_unnamed(directory) as new, ThreadPoolExecutor(2, "publish") as pool:
        yield StagedFile(new, pool)


def compute_sha256(descriptor: int) -> str:
    """The sha256 of a whole file, read with pread(2), so that the descriptor's own position does not move."""
    digest = hashlib.sha256()
    at = 0
    while piece := os.pread(descriptor, _PIECE, at):
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()
