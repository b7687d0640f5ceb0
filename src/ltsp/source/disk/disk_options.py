"""The options of a run that concern disks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from ltsp.errors import UsageError
from ltsp.settings.source_options import SourceOptions
from ltsp.source.location import is_path
from ltsp.tree.name import encode, printable


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """How disks may be read."""

    backing: tuple[str, ...] = ()
    """Directories below which a disk may also refer to files."""
    force: bool = False
    """Whether to read disks that others write to."""
    reader: str = "auto"
    """What reads file systems: `user`, `kernel`, or `auto`, which tries the former first."""
    key_file: str = ""
    """The key file for encrypted volumes; empty if they stay locked."""

    @classmethod
    def of(cls, options: SourceOptions) -> Self:
        """Raises UsageError for a directory that does not exist, or is not given as a path."""
        for directory in options.allow_backing:
            if not is_path(directory):
                raise UsageError(f"--allow-backing: {printable(directory)} is not a path", "a path begins with / or .")
            if not os.path.isdir(encode(directory)):
                raise UsageError(f"--allow-backing: no such directory: {printable(directory)}")
        return cls(options.allow_backing, options.force, options.reader, options.key_file or "")


DEFAULT_OPTIONS = DiskOptions()
"""The defaults, which allow nothing special."""
