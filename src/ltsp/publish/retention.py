"""Which versions may go. Pure: what is in use and what time it is are arguments."""

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
    """How many distinct images: the current one, the one before, then the newest."""
    days: float = 3
    """How long a version stays after it was last current: clients that booted from it read it until they reboot."""
    share: float = 25
    """Percent of the file system that images which nothing but their age keeps may take."""

    @classmethod
    def of(cls, options: VersionedOptions) -> Retention:
        return cls(options.keep_versions, options.keep_days, options.keep_share)


class RemovalReason(Enum):
    """Why a version went."""

    UNWANTED = "replaced without a backup, or staged and never booted"
    AGE = "KEEP_VERSIONS and KEEP_DAYS do not keep it"
    SHARE = "what KEEP_DAYS keeps would take more of the disk than KEEP_SHARE"


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
    """The generations that no rule keeps, oldest first.

    `current`, `before`, `waiting` and `in_use` name versions, `now` in seconds since 1970, `disk` the bytes of the file
    system that the images lie on. `waiting` is staged, and a person may still choose it; other staged ones, on which no
    client ever ran, and `dropped` are wanted no more, so that neither their age nor their being one of the newest keeps
    them.
    """
    images: set[tuple[int, int]] = set()
    kept: set[str] = set()
    young: list[Version] = []
    reasons: dict[str, RemovalReason] = {}
    held: set[tuple[int, int] | None] = {None}
    """Images that something else than their age keeps."""
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
