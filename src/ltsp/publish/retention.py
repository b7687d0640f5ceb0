"""Which versions may go. Pure: what is in use and what time it is are arguments."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Origin

_DAY = 86400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Retention:
    versions: int = 2
    """How many distinct images: the current one, the one before, then the newest."""
    days: float = 3
    """How long a version stays after it was last current: clients that booted from it read it until they reboot."""


def collectable(
    generations: Sequence[Generation],
    keep: Retention,
    *,
    current: Collection[str],
    before: str | None,
    waiting: str | None = None,
    in_use: Collection[str],
    now: float,
    dropped: str | None = None,
) -> list[Generation]:
    """The generations that no rule keeps, oldest first.

    `current`, `before`, `waiting` and `in_use` name versions, `now` in seconds since 1970. `waiting` is staged, and a
    person may still choose it; other staged ones, on which no client ever ran, and `dropped` are wanted no more, so
    that neither their age nor their being one of the newest keeps them.
    """
    images: set[tuple[int, int]] = set()
    kept: set[str] = set()
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
        young = wanted and now - generation.last_current < keep.days * _DAY
        foreign = generation.manifest.origin is Origin.FOREIGN
        if chosen or young or foreign or generation.pinned or generation.version in in_use:
            kept.add(generation.version)
    return [generation for generation in generations if generation.version not in kept]
