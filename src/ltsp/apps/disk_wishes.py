"""What the options of a run allow with disks."""

from __future__ import annotations

from ltsp.settings.source_options import SourceOptions
from ltsp.source.disk import Wishes


def disk_wishes(options: SourceOptions) -> Wishes:
    return Wishes(options.allow_backing, options.force, options.reader, options.key_file or "")
