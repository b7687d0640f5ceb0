"""Images whose NAME.img was deleted by hand, and versions that retention removed: both are always reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ltsp.errors import LockHeld, LtspError
from ltsp.publish.gc import RemovedVersion, Retention
from ltsp.publish.state import ImageState
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions


def removed_version_lines(collected: Iterable[RemovedVersion]) -> Iterator[str]:
    """A line for each version that retention removed."""
    for each in collected:
        yield f"removed   version {each.id}, {units.size(each.bytes)}: {each.reason.value}"


def deleted_image_warning(state: ImageState) -> str:
    """The warning about an image whose NAME.img is gone; empty if it is not."""
    if not state.is_image_deleted:
        return ""
    name = state.paths.name
    images = {each.image_id: each for each in state.versions if each.image_id}.values()
    size = sum(each.manifest.image.size for each in images if each.manifest.image)
    return (
        f"{name}.img was deleted by hand, but {units.plural(len(state.versions), 'version')} of {name} "
        f"({units.size(size)}) remain: ltsp versions {name} --remove-all removes them, "
        f"ltsp versions {name} --use={state.versions[-1].id} brings {name} back"
    )


def clean_up_deleted_images(ltsp: LtspOptions, keep: Retention, report: Report) -> None:
    """Stop offering images whose NAME.img was deleted by hand, and remove their versions as retention says."""
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    for name in store.names():
        if not store.state(name).is_image_deleted:
            continue
        try:
            with store.locked(name) as locked:
                collected = locked.remove_deleted(keep)
                left = locked.state()
        except LockHeld:
            continue  # the process that holds the lock does it
        except LtspError as error:
            report.warn(f"{name}.img was deleted by hand, but its versions cannot be removed: {error}")
            continue
        for line in removed_version_lines(collected):
            report.note(f"{name}: {line}")
        if left.versions:
            report.warn(deleted_image_warning(left))
        else:
            report.note(f"{name}.img was deleted by hand; its remaining files have been removed")
