"""What follows when clients were given another version: what was made for the one before, and is there, is seen to."""

from __future__ import annotations

import os
from os.path import join

from ltsp.apps.remains import tidy
from ltsp.apps.report import Report
from ltsp.publish.retention import Retention
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.settings.source_options import VersionedOptions
from ltsp.settings.tftp_names import ADD_ON, MENU


def follow(ltsp: LtspOptions, conf: Conf, options: VersionedOptions, report: Report) -> None:
    """Tidy up after images that were deleted by hand, make the add-on of the site again, and see to the menu."""
    tidy(ltsp, Retention.of(options), report)
    place = join(ltsp.tftp_dir, "ltsp")
    if os.path.exists(join(place, ADD_ON)):
        from ltsp.apps.initrd import refresh  # noqa: PLC0415 -- an applet of its own, as is the next

        refresh(ltsp, conf, report)
    if os.path.exists(join(place, MENU)):
        from ltsp.apps.ipxe import remind  # noqa: PLC0415

        remind(ltsp, report)
