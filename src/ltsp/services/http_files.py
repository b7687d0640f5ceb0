"""Which files are served by HTTP: `/ltsp/…` is TFTP_DIR/ltsp, `/images/…` is BASE_DIR/images, and no link leads out.

Boot files have the same paths as by TFTP. Named images and those of versions are served, but not the locks, manifests
and indexes next to them. There are no directory listings.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from os.path import join
from urllib.parse import unquote_to_bytes

from ltsp.errors import LtspError
from ltsp.host.root import RootDirectory
from ltsp.tree.name import decode, encode, printable


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
        descriptor = self.roots[wanted.area].open_file_following_links(encode(wanted.path))
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
                    f"cannot serve {printable(directory)}: {error.strerror}",
                    "publish an image first: ltsp image NAME"
                    if error.errno == errno.ENOENT
                    else "make it a directory that this user can read",
                ) from error
        yield HttpFiles(roots, public_only)


_MAX_PATH_SIZE = 4096
"""Maximum bytes of a path. limits.h, PATH_MAX"""


class ServedArea(Enum):
    """The first component of a path."""

    LTSP = "ltsp"
    IMAGES = "images"


# Names have no backslashes or spaces; a name that begins with a dot is hidden.
_NAME = r"[^/.\\\s\x00-\x1f\x7f][^/\\\s\x00-\x1f\x7f]*"

SERVED_PATTERNS = {
    ServedArea.LTSP: rf"(?:{_NAME}/)*{_NAME}",
    ServedArea.IMAGES: rf"{_NAME}|\.versions/{_NAME}/{_NAME}/image\.img",
}
"""Regular expressions of the served paths in each area, valid in both Python and PCRE."""

_PATTERNS = {area: re.compile(pattern) for area, pattern in SERVED_PATTERNS.items()}


@dataclass(frozen=True, slots=True)
class ServedPath:
    area: ServedArea
    path: str
    """Below the area's directory; without `..`, empty parts or a slash at either end."""


def find_served_path(target: str) -> ServedPath | None:
    """The path for the target of a request; None if nothing is served there.

    The target is as in the request: `/images/lab.img?x`, percent-encoded. RFC 9112, 3.2.1
    """
    path = decode(unquote_to_bytes(target.partition("?")[0].partition("#")[0]))
    first, _, rest = path.removeprefix("/").partition("/")
    for area, pattern in _PATTERNS.items():
        if path.startswith("/") and first == area.value and len(path) < _MAX_PATH_SIZE and pattern.fullmatch(rest):
            return ServedPath(area, rest)
    return None
