"""What the options of a run allow with disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ltsp.settings.source_options import SourceOptions


@dataclass(frozen=True, slots=True)
class Wishes:
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
        return cls(options.allow_backing, options.force, options.reader, options.key_file or "")


ANY = Wishes()
"""Nothing beyond the ordinary."""
