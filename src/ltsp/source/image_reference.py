"""References to archives and container images, whose kind cannot be detected from their content alone.

`oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:TAG]` and `docker://REFERENCE`, as
in containers-transports(5), and `-`.
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
    """A parsed command line argument."""

    prefix: str
    """With its colon; empty for standard input."""
    path: str
    """A file or directory of the host, or the reference of an image in a registry."""
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> ImageReference | None:
        """None if the text is an ordinary name or path.

        A colon separates the path from the tag, unless a file exists whose name contains it.
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
        """The path whose last part names the image; empty if there is none."""
        if self.path == STANDARD_INPUT:
            return ""
        if self.prefix != REGISTRY:
            return self.path
        last = self.path.rpartition("/")[2].partition("@")[0]
        return last.partition(":")[0]

    def make_absolute(self) -> str:
        """The reference in a form that does not depend on the working directory."""
        path = self.path if self.prefix in ("", REGISTRY) else os.path.abspath(self.path)
        return f"{self.prefix}{path}{':' if self.tag else ''}{self.tag}"
