"""What the options of a run allow with disks."""

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
    """What the user allows."""

    backing: tuple[str, ...] = ()
    """Directories, below which a disk may name other files too."""
    force: bool = False
    """Whether disks that others write to are taken."""
    reader: str = "auto"
    """Who reads file systems: `user`, `kernel`, or `auto`, the one and, what that cannot read, the other."""
    key_file: str = ""
    """What opens encrypted volumes; empty where they stay closed."""

    @classmethod
    def of(cls, options: SourceOptions) -> Self:
        """Raises UsageError for a directory that is not there, or would be another one in another working directory,
        and SourceError for a file that cannot be a key.
        """
        for directory in options.allow_backing:
            if not is_path(directory):
                raise UsageError(f"--allow-backing: {printable(directory)} is not a path", "a path begins with / or .")
            if not os.path.isdir(encode(directory)):
                raise UsageError(f"--allow-backing: there is no directory {printable(directory)}")
        if options.key_file:
            from ltsp.source.disk.volume_key import check_key_file  # noqa: PLC0415 -- few sources are encrypted

            check_key_file(options.key_file)
        return cls(options.allow_backing, options.force, options.reader, options.key_file or "")


DEFAULT_OPTIONS = DiskOptions()
"""Nothing beyond the ordinary."""
