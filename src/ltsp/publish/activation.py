"""Activating a version: displaced images are adopted, the switch is made, and superfluous versions are removed."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ltsp.errors import LtspError
from ltsp.publish import state as states
from ltsp.publish.adopt import adopt_foreign_image
from ltsp.publish.assembly import VersionParts, assemble_version, record_source
from ltsp.publish.boot_files import has_intact_boot_files, has_intact_image
from ltsp.publish.disk_errors import unfinished_error
from ltsp.publish.gc import Retention, collect_garbage, collect_staged
from ltsp.publish.paths import ImagePaths
from ltsp.publish.pointer import FOREIGN
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.switch import remove_version, switch_to
from ltsp.publish.version import Version
from ltsp.publish.version_contents import PublishedVersion, StagedVersion

DEFAULT_RETENTION = Retention()


@dataclass(frozen=True, slots=True)
class SwitchOptions:
    """What happens to other versions when one becomes current."""

    keep: Retention
    backup: bool = True
    """Whether NAME.img.old keeps the replaced version; if not, that version may be removed."""


@dataclass(frozen=True, slots=True)
class PreparedVersion:
    """A version that is ready to be assembled: all of its bytes are flushed."""

    paths: ImagePaths
    parts: VersionParts
    twin: Version | None
    """A waiting version with the same content."""
    replaces_damaged: bool
    """Whether the current version had the same content and is damaged now, so that nobody should revert to it."""

    def publish(self, options: SwitchOptions) -> PublishedVersion:
        options = replace(options, backup=options.backup and not self.replaces_damaged)
        return (
            activate_version(twin, options)
            if (twin := self._twin())
            else publish_version(self.paths, self.parts, options)
        )

    def publish_later(self) -> StagedVersion:
        return StagedVersion(self._twin() or stage_version(self.paths, self.parts), self.replaces_damaged)

    def _twin(self) -> Version | None:
        return record_source(self.twin, self.parts.manifest.source) if self.twin else None


def publish_version(paths: ImagePaths, parts: VersionParts, options: SwitchOptions) -> PublishedVersion:
    """Assemble a version and switch to it; if that fails before the switch, nothing of it stays."""
    if parts.image:
        _adopt_displaced_images(paths, options)
    version = assemble_version(paths, parts)
    try:
        return _switch(version, options)
    except BaseException:
        pointer = states.read_pointer(paths)
        if pointer is None or pointer.version != version.id:
            remove_version(paths, version.id)
        raise


def stage_version(paths: ImagePaths, parts: VersionParts) -> Version:
    """Assemble a waiting version, which replaces those that were waiting before."""
    version = assemble_version(paths, parts, staged=True)
    collect_staged(paths)
    return version


def find_waiting_twin(now: ImageState, parts: VersionParts) -> Version | None:
    """An intact waiting version with the same content. Reads its files completely."""
    waiting = now.waiting
    if waiting and waiting.has_content(parts.manifest.image, parts.manifest.files):
        return waiting if has_intact_boot_files(waiting) and has_intact_image(waiting) else None
    return None


def activate_version(version: Version, options: SwitchOptions) -> PublishedVersion:
    """Switch to a complete version, then remove the versions that no rule keeps."""
    if version.image_id:
        _adopt_displaced_images(version.paths, options)
    return _switch(version, options)


def _switch(version: Version, options: SwitchOptions) -> PublishedVersion:
    paths = version.paths
    now = states.read_state(paths)
    leaving = now.current
    if isinstance(now.image, Version) and not (leaving and leaving.is_image_of(now.image)):
        # Somebody put another version there by hand, and clients run on that one.
        leaving = now.image
    if leaving and leaving.id == version.id:
        leaving = now.current if now.current and now.current.id != version.id else None
    before = leaving.id if leaving else None
    dropped = None
    if version.image_id and isinstance(now.image, ForeignImage):
        # This file has no other name, so it becomes NAME.img.old even if no backup is wanted.
        before = FOREIGN
    elif not options.backup:
        dropped, before = before, now.pointer.before if now.pointer else None
    if leaving:
        # The manifest's mtime records until when the version was current; its clients may run on for days.
        os.utime(paths.manifest(leaving.id))
    try:
        switch_to(version, before)
        collected = collect_garbage(paths, options.keep, dropped=dropped)
    except (OSError, LtspError) as error:
        pointer = states.read_pointer(paths)
        if pointer is None or pointer.version != version.id:
            raise
        raise unfinished_error(paths, version.id, error) from error
    return PublishedVersion(version, leaving, collected)


def _adopt_displaced_images(paths: ImagePaths, options: SwitchOptions) -> None:
    """Make versions of the foreign images that are about to lose their names, if they can be linked."""
    now = states.read_state(paths)
    displaced = isinstance(now.image, ForeignImage) and adopt_foreign_image(now, now.image) is None
    if (options.backup or displaced) and isinstance(now.old, ForeignImage):
        adopt_foreign_image(now, now.old)
