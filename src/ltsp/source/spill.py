"""Makes images that are inside a source available as files of the host, for random access."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.errors import SourceError
from ltsp.source.directory.host_file import HostFile
from ltsp.storage.sparse import write_sparse
from ltsp.tree.content import Content

_PIECE = 1 << 20


@contextmanager
def spill_to_host(content: Content) -> Iterator[str]:
    """A path for the content: that of the file itself, or of an unnamed copy. Raises SourceError if it does not fit."""
    if isinstance(content, HostFile):
        with content.open() as stream:
            yield stream.path
        return
    from ltsp.disk.image import make_scratch_file  # noqa: PLC0415 -- a part of its own, which files of the host do without

    with make_scratch_file() as copy:
        try:
            _copy(content, copy.fileno())
        except OSError as error:
            raise SourceError(
                f"cannot copy a file in it: {error.strerror}", "set TMPDIR to a directory with enough free space"
            ) from error
        yield f"/proc/self/fd/{copy.fileno()}"


def _copy(content: Content, target: int) -> None:
    """Copy the content, with holes for ranges of zeros."""
    with content.open() as stream:
        at = 0
        while at < stream.size:
            if hole := min(stream.hole_size(), stream.size - at):
                stream.skip(hole)
                at += hole
                continue
            piece = stream.read(min(stream.size - at, _PIECE))
            if not piece:
                break
            write_sparse(target, piece, at)
            at += len(piece)
        os.ftruncate(target, stream.size)
