"""The images of a run, one after another, and what follows publishing: deleted images, the add-on and the menu."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from os.path import join

from ltsp.boot.menu import remove_entries
from ltsp.build.server_files import write_config
from ltsp.build.version_facts import deleted_image_warning, removed_version_lines
from ltsp.errors import LockHeld, LtspError
from ltsp.publish.gc import Retention
from ltsp.publish.store import Store
from ltsp.report.internal_error import to_ltsp_error
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.naming import ADD_ON, MENU
from ltsp.settings.version_options import VersionedOptions

_STATUSES_BY_SEVERITY = (0, 3, 75, 1, 2)
"""Exit statuses, the worst last."""


def run_each(arguments: Sequence[str], report: Report, action: Callable[[str], int]) -> int:
    """Process each argument, report each failure, and return the worst exit status.

    With a single argument, its error is raised instead.
    """
    worst = 0
    for argument in arguments:
        try:
            status = action(argument)
        except Exception as error:  # an internal error with one image does not concern the others
            if len(arguments) == 1:
                raise
            failure = to_ltsp_error(error)
            report.failure(failure)
            status = failure.exit_status
        worst = max(worst, status, key=_STATUSES_BY_SEVERITY.index)
    return worst


def update_after_publish(ltsp: LtspOptions, conf: Conf, options: VersionedOptions, report: Report) -> None:
    """Clean up after images that were deleted by hand, and update the site's add-on and the menu if they exist."""
    clean_up_deleted_images(ltsp, Retention.of(options), report)
    place = join(ltsp.tftp_dir, "ltsp")
    if os.path.exists(join(place, ADD_ON)):
        from ltsp.build.add_on import refresh_add_on  # noqa: PLC0415 -- accounts and archives: only if there is an add-on

        refresh_add_on(ltsp, conf, report)
    if os.path.exists(join(place, MENU)):
        update_menu(ltsp, report)


def clean_up_deleted_images(ltsp: LtspOptions, retention: Retention, report: Report) -> None:
    """Stop offering images whose NAME.img was deleted by hand, and remove their versions as retention says."""
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    for name in store.names():
        if not store.state(name).is_image_deleted:
            continue
        try:
            with store.locked(name) as locked:
                removed = locked.remove_deleted_image(retention)
                remaining = locked.state()
        except LockHeld:
            continue  # the process that holds the lock does it
        except LtspError as error:
            report.warn(f"{name}.img was deleted by hand, but its versions cannot be removed: {error}")
            continue
        for line in removed_version_lines(removed):
            report.note(f"{name}: {line}")
        if remaining.versions:
            report.warn(deleted_image_warning(remaining))
        else:
            report.note(f"{name}.img was deleted by hand; its remaining files have been removed")


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
        write_config(path, kept, report, overwrite=ltsp.overwrite, dry_run=False)
    if missing := sorted(images - labels):
        report.note(f"the menu has no entry for {', '.join(missing)} yet: run ltsp ipxe to update it")
