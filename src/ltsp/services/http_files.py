"""Opening the files that are served by HTTP; no link leads out of the served directories."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LtspError
from ltsp.host.root import RootDirectory
from ltsp.services.http_layout import ServedArea, find_served_path
from ltsp.tree.name import encode, printable


@dataclass(frozen=True, slots=True)
class HttpFiles:
    roots: Mapping[ServedArea, RootDirectory]
    public_only: bool
    """Whether a file must be readable by everyone, as it must be for servers that do not run as root."""

    def open(self, target: str) -> int:
        """A descriptor of the regular file for the target of a request.

        Raises FileNotFoundError if nothing is served there, PermissionError if it is not readable by everyone, and
        OSError as open(2) does.
        """
        wanted = find_served_path(target)
        if wanted is None:
            raise FileNotFoundError(errno.ENOENT, "nothing is served there")
        descriptor = self.roots[wanted.area].follow_file(encode(wanted.path))
        if self.public_only and not os.fstat(descriptor).st_mode & stat.S_IROTH:
            os.close(descriptor)
            raise PermissionError(errno.EACCES, "not readable by everyone")
        return descriptor


@contextmanager
def open_http_files(base_dir: str, tftp_dir: str, *, public_only: bool = True) -> Iterator[HttpFiles]:
    """Raises LtspError if one of the directories is missing."""
    directories = {ServedArea.LTSP: join(tftp_dir, "ltsp"), ServedArea.IMAGES: join(base_dir, "images")}
    with ExitStack() as opened:
        roots: dict[ServedArea, RootDirectory] = {}
        for area, directory in directories.items():
            try:
                roots[area] = opened.enter_context(RootDirectory.open(encode(directory)))
            except OSError as error:
                raise LtspError(
                    f"cannot serve {printable(directory)}: {error.strerror}", "publish an image first: ltsp image NAME"
                ) from error
        yield HttpFiles(roots, public_only)
