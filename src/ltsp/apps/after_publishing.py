"""What follows when clients were given another version: what was made for the one before, and is there, is seen to."""

from __future__ import annotations

import os
from os.path import join

from ltsp.apps.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.settings.tftp_names import ADD_ON, MENU


def follow(ltsp: LtspOptions, conf: Conf, report: Report) -> None:
    """Make the add-on of the site again, and say what the menu has no entry for."""
    place = join(ltsp.tftp_dir, "ltsp")
    if os.path.exists(join(place, ADD_ON)):
        from ltsp.apps.initrd import refresh  # noqa: PLC0415 -- an applet of its own, as is the next

        refresh(ltsp, conf, report)
    if os.path.exists(join(place, MENU)):
        from ltsp.apps.ipxe import remind  # noqa: PLC0415

        remind(ltsp, report)
