"""Which versions may be removed. Pure: the versions in use and the time are arguments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from ltsp.publish.manifest import Origin
from ltsp.publish.version import Version
from ltsp.settings.source_options import VersionedOptions

_DAY = 86400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Retention:
    versions: int = 2
    """How many distinct images to keep: the current one, the previous one, then the newest."""
    days: float = 3
    """How long a version stays after it was last current: clients that booted from it read it until they reboot."""
    share: float = 25
    """Percent of the file system that images may take which are kept only for their age."""

    @classmethod
    def of(cls, options: VersionedOptions) -> Retention:
        return cls(options.keep_versions, options.keep_days, options.keep_share)


class RemovalReason(Enum):
    """Why a version was removed."""

    UNWANTED = "replaced without a backup, or staged and never booted"
    AGE = "beyond KEEP_VERSIONS and older than KEEP_DAYS"
    SHARE = "versions kept by KEEP_DAYS would exceed KEEP_SHARE of the disk"


@dataclass(frozen=True, slots=True)
class RemovedVersion:
    id: str
    reason: RemovalReason
    bytes: int
    """Of its image."""


def find_collectable(
    versions: Sequence[Version],
    keep: Retention,
    *,
    current: Collection[str],
    before: str | None,
    waiting: str | None = None,
    in_use: Collection[str],
    now: float,
    disk: int,
    dropped: str | None = None,
) -> list[RemovedVersion]:
    """The versions that no rule keeps, oldest first.

    `current`, `before`, `waiting` and `in_use` name versions; `now` is in seconds since 1970; `disk` is the size in
    bytes of the file system that holds the images. `waiting` is staged, and a person may still choose it. Other staged
    versions, which no client ever ran, and `dropped` are not wanted any more: neither their age nor their rank keeps
    them.
    """
    images: set[tuple[int, int]] = set()
    kept: set[str] = set()
    young: list[Version] = []
    reasons: dict[str, RemovalReason] = {}
    held: set[tuple[int, int] | None] = {None}
    """Images that are kept for another reason than their age."""
    for version in sorted(
        versions,
        key=lambda each: (each.id in current, each.id == before, not each.staged, each.id),
        reverse=True,
    ):
        chosen = version.id in current or version.id in (before, waiting)
        wanted = version.id != dropped and (chosen or not version.staged)
        if version.image_id is not None and wanted and (len(images) < keep.versions or version.image_id in images):
            images.add(version.image_id)
            chosen = True
        foreign = version.manifest.origin is Origin.FOREIGN
        reasons[version.id] = RemovalReason.AGE if wanted else RemovalReason.UNWANTED
        if chosen or foreign or version.pinned or version.id in in_use:
            kept.add(version.id)
            held.add(version.image_id)
        elif wanted and now - version.last_current < keep.days * _DAY:
            young.append(version)
    room = int(disk * keep.share / 100)
    for version in sorted(young, key=lambda each: (each.last_current, each.id), reverse=True):
        if version.image_id not in held:
            room -= _image_size(version)
            held.add(version.image_id)
            if room < 0:
                reasons.update((each.id, RemovalReason.SHARE) for each in young if each.id not in kept)
                break
        kept.add(version.id)
    gone = [version for version in versions if version.id not in kept]
    return [RemovedVersion(each.id, reasons[each.id], _image_size(each)) for each in gone]


def _image_size(version: Version) -> int:
    return version.manifest.image.size if version.manifest.image else 0
