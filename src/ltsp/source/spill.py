"""Images that lie in a source, as files of the host: those who read images read them here and there."""

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
    """A path for the content: of the file itself, or of a nameless copy. Raises SourceError where there is no room."""
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
                f"a file in it cannot be copied: {error.strerror}", "set TMPDIR to where room is"
            ) from error
        yield f"/proc/self/fd/{copy.fileno()}"


def _copy(content: Content, target: int) -> None:
    """With holes where there are only zeros."""
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
