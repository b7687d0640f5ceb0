"""How archives and images of containers are named: what something is where its content alone does not tell.

`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]` and `docker://REFERENCE`, as
containers-transports(5) has them, and `-`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from ltsp.tree.name import encode

STANDARD_INPUT: Final = "-"
REGISTRY: Final = "docker://"
LAYOUT: Final = "oci:"
_ARCHIVES: Final = ("oci-archive:", "docker-archive:")


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What an argument of the command line names."""

    prefix: str
    """With its colon; empty for standard input."""
    path: str
    """A file or directory of the host, or the reference of an image in a registry."""
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference | None:
        """None for the name or path of something else.

        A colon divides the path from the tag; one that belongs to the path does not, where there is such a file.
        """
        if text == STANDARD_INPUT:
            return cls("", text)
        if text.startswith(REGISTRY):
            return cls(REGISTRY, text.removeprefix(REGISTRY))
        prefix = next((prefix for prefix in (LAYOUT, *_ARCHIVES) if text.startswith(prefix)), "")
        if not prefix:
            return None
        rest = text.removeprefix(prefix)
        cuts = [len(rest), *(at for at, character in enumerate(rest) if character == ":")]
        cut = next((at for at in cuts if os.path.lexists(encode(rest[:at]))), min(cuts))
        return cls(prefix, rest[:cut], rest[cut + 1 :])

    @property
    def name_path(self) -> str:
        """The path whose last part names the image; empty where nothing does."""
        if self.path == STANDARD_INPUT:
            return ""
        if self.prefix != REGISTRY:
            return self.path
        last = self.path.rpartition("/")[2].partition("@")[0]
        return last.partition(":")[0]

    def make_absolute(self) -> str:
        """The same, in a form that means the same from any directory."""
        path = self.path if self.prefix in ("", REGISTRY) else os.path.abspath(self.path)
        return f"{self.prefix}{path}{':' if self.tag else ''}{self.tag}"
