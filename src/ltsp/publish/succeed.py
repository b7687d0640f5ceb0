"""From one current version to the next: what was there before is kept, the switch is made, the rest is collected."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ltsp.errors import LtspError
from ltsp.publish import state as states
from ltsp.publish.adopt import adopt
from ltsp.publish.assembly import Parts, assemble, record_source
from ltsp.publish.boot_files import has_its_boot_files, has_its_image
from ltsp.publish.contents import Published, Staged
from ltsp.publish.disk_errors import unfinished
from ltsp.publish.gc import retain, retain_staged
from ltsp.publish.generation import Generation
from ltsp.publish.paths import Places
from ltsp.publish.pointer import FOREIGN
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign, State
from ltsp.publish.switch import remove, switch

DEFAULT = Retention()


@dataclass(frozen=True, slots=True)
class Succession:
    """How one version follows another."""

    keep: Retention
    backup: bool = True
    """Whether NAME.img.old is to name the version that is replaced. If not, that version is wanted no more."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A version that can be made: all of its bytes are on the disk."""

    places: Places
    parts: Parts
    twin: Generation | None
    """One that waits already and is made of the same."""
    replaces_damaged: bool
    """Whether the current one was of just these bytes once: nobody is to go back to what it is now."""

    def publish(self, succession: Succession) -> Published:
        succession = replace(succession, backup=succession.backup and not self.replaces_damaged)
        return succeed(twin, succession) if (twin := self._twin()) else add(self.places, self.parts, succession)

    def publish_later(self) -> Staged:
        return Staged(self._twin() or stage(self.places, self.parts), self.replaces_damaged)

    def _twin(self) -> Generation | None:
        return record_source(self.twin, self.parts.manifest.source) if self.twin else None


def add(places: Places, parts: Parts, succession: Succession) -> Published:
    """Assemble a version and switch to it; where that fails before the switch, nothing of it stays."""
    if parts.image:
        _adopt_foreign(places, succession)
    generation = assemble(places, parts)
    try:
        return _switched(generation, succession)
    except BaseException:
        pointer = states.read_pointer(places)
        if pointer is None or pointer.version != generation.version:
            remove(places, generation.version)
        raise


def stage(places: Places, parts: Parts) -> Generation:
    """Assemble a version that waits, in the place of those that waited before it."""
    generation = assemble(places, parts, staged=True)
    retain_staged(places)
    return generation


def waiting_twin(now: State, parts: Parts) -> Generation | None:
    """A version that waits already and is made of the same bytes. They are read for that."""
    waiting = now.waiting
    if waiting and waiting.holds(parts.manifest.image, parts.manifest.files):
        return waiting if has_its_boot_files(waiting) and has_its_image(waiting) else None
    return None


def succeed(generation: Generation, succession: Succession) -> Published:
    """Switch to a complete version, then collect what no rule keeps."""
    if generation.image_id:
        _adopt_foreign(generation.places, succession)
    return _switched(generation, succession)


def _switched(generation: Generation, succession: Succession) -> Published:
    places = generation.places
    now = states.read(places)
    leaving = now.current
    if isinstance(now.image, Generation) and not (leaving and leaving.is_image_of(now.image)):
        # Another version was put there by hand, and its clients run on that.
        leaving = now.image
    if leaving and leaving.version == generation.version:
        leaving = now.current if now.current and now.current.version != generation.version else None
    before = leaving.version if leaving else None
    dropped = None
    if generation.image_id and isinstance(now.image, Foreign):
        # Nothing else has this file, so that it becomes NAME.img.old where no backup is wanted, too.
        before = FOREIGN
    elif not succession.backup:
        dropped, before = before, now.pointer.before if now.pointer else None
    if leaving:
        # The time of the manifest tells until when the version was current: its clients may run on for days.
        os.utime(places.manifest(leaving.version))
    try:
        switch(generation, before)
        collected = retain(places, succession.keep, dropped=dropped)
    except (OSError, LtspError) as error:
        pointer = states.read_pointer(places)
        if pointer is None or pointer.version != generation.version:
            raise
        raise unfinished(places, generation.version, error) from error
    return Published(generation, leaving, collected)


def _adopt_foreign(places: Places, succession: Succession) -> None:
    """Make versions of the files of others that are about to lose their names, where they can be linked."""
    now = states.read(places)
    displaced = isinstance(now.image, Foreign) and adopt(now, now.image) is None
    if (succession.backup or displaced) and isinstance(now.old, Foreign):
        adopt(now, now.old)
