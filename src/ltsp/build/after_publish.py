"""What follows publishing: clean up deleted images, and refresh the add-on and the menu."""

from __future__ import annotations

import os
from os.path import join

from ltsp.boot.menu import remove_entries
from ltsp.build import config_file
from ltsp.build.leftovers import clean_up_deleted_images
from ltsp.publish.gc import Retention
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.settings.naming import ADD_ON, MENU
from ltsp.settings.source_options import VersionedOptions


def update_after_publish(ltsp: LtspOptions, conf: Conf, options: VersionedOptions, report: Report) -> None:
    """Clean up after images that were deleted by hand, and update the site's add-on and the menu if they exist."""
    clean_up_deleted_images(ltsp, Retention.of(options), report)
    place = join(ltsp.tftp_dir, "ltsp")
    if os.path.exists(join(place, ADD_ON)):
        from ltsp.build.add_on import refresh_add_on  # noqa: PLC0415 -- accounts and archives: only if there is an add-on

        refresh_add_on(ltsp, conf, report)
    if os.path.exists(join(place, MENU)):
        update_menu(ltsp, report)


def update_menu(ltsp: LtspOptions, report: Report) -> None:
    """Remove the entries of deleted images from the existing menu, and note images that have no entry."""
    path = join(ltsp.tftp_dir, "ltsp", MENU)
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        return
    labels = {line[1:].strip() for line in text.splitlines() if line.startswith(":")}
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    images = {name for name in store.names() if (state := store.state(name)).image is not None and state.pointer}
    if kept := remove_entries(text, labels - images):
        config_file.write(path, kept, report, overwrite=ltsp.overwrite, dry_run=False)
    if missing := sorted(images - labels):
        report.note(f"the menu has no entry for {', '.join(missing)} yet: run ltsp ipxe to update it")
