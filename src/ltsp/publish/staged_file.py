"""An image in the making: without a name until it is whole and on the disk."""

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
    """The image while it is written: `image` is its raw file, open for reading and writing."""

    def __init__(self, new: files.UnnamedFile, pool: ThreadPoolExecutor) -> None:
        self.seconds: dict[str, float] = {}
        """What was spent once the image was written, by step; fsync and sha256 run beside each other."""
        self._new = new
        self._pool = pool
        self._flushed: Future[None] | None = None
        self._hashed: Future[str] | None = None

    @property
    def image(self) -> io.FileIO:
        return self._new.file

    def flush_in_background(self, compute_hash: Callable[[int], str]) -> None:
        """Start flushing the image to disk and hashing it, as `compute_sha256` does.

        Nothing may be written after that.
        """
        if self._flushed is None:
            descriptor = self.image.fileno()
            self._flushed = self._pool.submit(self._run_timed, "fsync", lambda: os.fsync(descriptor))
            self._hashed = self._pool.submit(self._run_timed, "sha256", lambda: compute_hash(descriptor))

    def finish(self) -> FileFacts:
        """Size and sha256 of the image, which is on the disk now.

        Raises OSError where it could not be written, and what hashing it raised.
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
    """An image for this directory; gone at the end unless it was linked."""
    with files.create_unnamed(directory) as new, ThreadPoolExecutor(2, "publish") as pool:
        yield StagedFile(new, pool)


def compute_sha256(descriptor: int) -> str:
    """Of a whole file, by pread(2): the descriptor's own position belongs to somebody else."""
    digest = hashlib.sha256()
    at = 0
    while piece := os.pread(descriptor, _PIECE, at):
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()
