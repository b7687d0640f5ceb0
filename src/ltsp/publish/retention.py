"""Which versions may go. Pure: what is in use and what time it is are arguments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Origin
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


class Reason(Enum):
    """Why a version went."""

    UNWANTED = "replaced without a backup, or staged and never booted"
    AGE = "KEEP_VERSIONS and KEEP_DAYS do not keep it"
    SHARE = "what KEEP_DAYS keeps would take more of the disk than KEEP_SHARE"


@dataclass(frozen=True, slots=True)
class Collected:
    version: str
    reason: Reason
    bytes: int
    """Of its image."""


def collectable(
    generations: Sequence[Generation],
    keep: Retention,
    *,
    current: Collection[str],
    before: str | None,
    waiting: str | None = None,
    in_use: Collection[str],
    now: float,
    disk: int,
    dropped: str | None = None,
) -> list[Collected]:
    """The generations that no rule keeps, oldest first.

    `current`, `before`, `waiting` and `in_use` name versions, `now` in seconds since 1970, `disk` the bytes of the file
    system that the images lie on. `waiting` is staged, and a person may still choose it; other staged ones, on which no
    client ever ran, and `dropped` are wanted no more, so that neither their age nor their being one of the newest keeps
    them.
    """
    images: set[tuple[int, int]] = set()
    kept: set[str] = set()
    young: list[Generation] = []
    reasons: dict[str, Reason] = {}
    held: set[tuple[int, int] | None] = {None}
    """Images that something else than their age keeps."""
    for generation in sorted(
        generations,
        key=lambda each: (each.version in current, each.version == before, not each.staged, each.version),
        reverse=True,
    ):
        chosen = generation.version in current or generation.version in (before, waiting)
        wanted = generation.version != dropped and (chosen or not generation.staged)
        if (
            generation.image_id is not None
            and wanted
            and (len(images) < keep.versions or generation.image_id in images)
        ):
            images.add(generation.image_id)
            chosen = True
        foreign = generation.manifest.origin is Origin.FOREIGN
        reasons[generation.version] = Reason.AGE if wanted else Reason.UNWANTED
        if chosen or foreign or generation.pinned or generation.version in in_use:
            kept.add(generation.version)
            held.add(generation.image_id)
        elif wanted and now - generation.last_current < keep.days * _DAY:
            young.append(generation)
    room = int(disk * keep.share / 100)
    for generation in sorted(young, key=lambda each: (each.last_current, each.version), reverse=True):
        if generation.image_id not in held:
            room -= _size(generation)
            held.add(generation.image_id)
            if room < 0:
                reasons.update((each.version, Reason.SHARE) for each in young if each.version not in kept)
                break
        kept.add(generation.version)
    gone = [generation for generation in generations if generation.version not in kept]
    return [Collected(each.version, reasons[each.version], _size(each)) for each in gone]


def _size(generation: Generation) -> int:
    return generation.manifest.image.size if generation.manifest.image else 0
