"""Which files are served by HTTP, and their paths: `/ltsp/…` is TFTP_DIR/ltsp, `/images/…` is BASE_DIR/images.

Boot files have the same paths as by TFTP. Named images and those of versions are served, but not the locks, manifests
and indexes next to them. There are no directory listings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote_to_bytes

from ltsp.tree.name import decode

_LONGEST = 4096
"""Maximum bytes of a path. limits.h, PATH_MAX"""


class ServedArea(Enum):
    """The first component of a path."""

    LTSP = "ltsp"
    IMAGES = "images"


# Names have no backslashes or spaces; a name that begins with a dot is hidden.
_NAME = r"[^/.\\\s\x00-\x1f\x7f][^/\\\s\x00-\x1f\x7f]*"

SERVED = {
    ServedArea.LTSP: rf"(?:{_NAME}/)*{_NAME}",
    ServedArea.IMAGES: rf"{_NAME}|\.versions/{_NAME}/{_NAME}/image\.img",
}
"""Regular expressions of the served paths in each area, valid in both Python and PCRE."""

_PATTERNS = {area: re.compile(pattern) for area, pattern in SERVED.items()}


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
        if path.startswith("/") and first == area.value and len(path) < _LONGEST and pattern.fullmatch(rest):
            return ServedPath(area, rest)
    return None
