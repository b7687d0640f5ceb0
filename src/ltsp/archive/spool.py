"""Where bytes that can be read only once are kept while the tree is: a file without a name.

Nothing of it is left when we are killed. Runs of zeros take no room.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import LtspError
from ltsp.storage.extents import Extent
from ltsp.storage.sparse import free_bytes, write_sparse
from ltsp.tree.name import printable

_RESERVE = 64 << 20
"""Bytes that stay free for others."""
_BETWEEN_LOOKS = 32 << 20
"""Bytes written between two looks at how much is free."""


def open_unnamed_file(directory: str) -> BinaryIO:
    return TemporaryFile(dir=directory)


class Spool:
    """Made when the first bytes come."""

    def __init__(
        self,
        directory: str,
        make: Callable[[str], BinaryIO] = open_unnamed_file,
        working: Callable[[], None] = lambda: None,
    ) -> None:
        """`make` gives a file for that directory; `working` is called for each piece that is written or read."""
        self._directory = directory
        self._make = make
        self._working = working
        self._file: BinaryIO | None = None
        self._looked = 0
        self.size = 0

    def append(self, data: bytes | memoryview) -> None:
        """Raises LtspError where there is no room."""
        self._working()
        try:
            if self._file is None:
                self._file = self._make(self._directory)
                self._check_free_space(self._file.fileno())
            write_sparse(self._file.fileno(), data, self.size)
            self.size += len(data)
            if self.size - self._looked > _BETWEEN_LOOKS:
                self._check_free_space(self._file.fileno())
        except OSError as error:
            reason = "there is no room" if error.errno == errno.ENOSPC else error.strerror
            raise LtspError(
                f"cannot keep what is unpacked in {printable(self._directory)}: {reason}",
                "make room there, or set TMPDIR to a directory that has it",
            ) from error

    def read_at(self, offset: int, size: int) -> bytes:
        """As many bytes as there are, at most `size`."""
        self._working()
        size = max(0, min(size, self.size - offset))
        if not size or self._file is None:
            return b""
        data = os.pread(self._file.fileno(), size, offset)
        # Zeros at the end were never written.
        return data if len(data) == size else data + bytes(size - len(data))

    def extents(self, offset: int, size: int) -> Iterator[Extent]:
        """Where these bytes lie; asked when all are here."""
        if size and self._file is not None:
            if os.fstat(self._file.fileno()).st_size < self.size:
                os.truncate(self._file.fileno(), self.size)
            yield Extent(self._file.fileno(), offset, size)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_free_space(self, file: int) -> None:
        self._looked = self.size
        if free_bytes(file) < _RESERVE:
            raise OSError(errno.ENOSPC, "")
