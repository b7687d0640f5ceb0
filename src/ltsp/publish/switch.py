"""Making a version the current one, and repairing what a killed run left unfinished.

Foreign images that would lose their names are adopted first: they become versions of their own. Then the pointer is
replaced, by one rename; everything derived from it (NAME.img.old, NAME.img, the links that older menus use) is updated
afterwards. `current` comes last: if it differs from the pointer, the switch is unfinished.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os.path import basename, join

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import disk_errors, state
from ltsp.publish.assembly import NewVersion, make_hard_linker, record_source, remove_version
from ltsp.publish.disk_errors import unfinished_error
from ltsp.publish.gc import RemovedVersion, Retention, collect_garbage
from ltsp.publish.manifest import ImageFacts, KernelFacts, Manifest, Origin, SourceFacts
from ltsp.publish.paths import DIRECTORY_MODE, DISTRO_INITRD, KERNEL, PUBLIC_MODE, ImagePaths
from ltsp.publish.pointer import FOREIGN, Pointer
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.version import Version, is_version_id, read_file_facts

_UNLINKABLE = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP}
"""Another owner's file (protected_hardlinks), too many links, a mount point, or no hard links. link(2)"""


@dataclass(frozen=True, slots=True)
class SwitchOptions:
    """What happens to other versions when one becomes current."""

    retention: Retention
    backup: bool = True
    """Whether NAME.img.old keeps the replaced version; if not, that version may be removed."""


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """The result of a durable switch."""

    version: Version
    previous: Version | None
    """The version that was current before, for a report of changes."""
    removed_versions: tuple[RemovedVersion, ...] = ()
    """Versions that retention removed."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The same image and boot files are published already; nothing was done."""

    version: Version


def publish_version(new: NewVersion, options: SwitchOptions) -> PublishedVersion:
    """Assemble a version, or take its twin, and switch to it; if that fails before the switch, nothing new stays."""
    paths = new.paths
    options = replace(options, backup=options.backup and not new.replaces_damaged)
    if new.staged_duplicate:
        return switch_version(record_source(new.staged_duplicate, new.manifest.source), options)
    if new.image:
        _adopt_displaced_images(paths, options)
    version = new.assemble()
    try:
        return _switch(version, options)
    except BaseException:
        pointer = state.read_pointer(paths)
        if pointer is None or pointer.version != version.id:
            remove_version(paths, version.id)
        raise


def switch_version(version: Version, options: SwitchOptions) -> PublishedVersion:
    """Switch to a complete version, then remove the versions that no rule keeps."""
    if version.image_id:
        _adopt_displaced_images(version.paths, options)
    return _switch(version, options)


def _switch(version: Version, options: SwitchOptions) -> PublishedVersion:
    paths = version.paths
    now = state.read_state(paths)
    replaced = now.current
    if isinstance(now.image, Version) and not (replaced and replaced.is_image_of(now.image)):
        # Somebody put another version there by hand, and clients run on that one.
        replaced = now.image
    if replaced and replaced.id == version.id:
        replaced = now.current if now.current and now.current.id != version.id else None
    previous = replaced.id if replaced else None
    dropped = None
    if version.image_id and isinstance(now.image, ForeignImage):
        # This file has no other name, so it becomes NAME.img.old even if no backup is wanted.
        previous = FOREIGN
    elif not options.backup:
        dropped, previous = previous, now.pointer.previous if now.pointer else None
    if replaced:
        # The manifest's mtime records until when the version was current; its clients may run on for days.
        os.utime(paths.manifest(replaced.id))
    try:
        commit_pointer(version, previous)
        collected = collect_garbage(paths, options.retention, dropped=dropped)
    except (OSError, LtspError) as error:
        pointer = state.read_pointer(paths)
        if pointer is None or pointer.version != version.id:
            raise
        raise unfinished_error(paths, version.id, error) from error
    return PublishedVersion(version, replaced, collected)


def _adopt_displaced_images(paths: ImagePaths, options: SwitchOptions) -> None:
    """Make versions of the foreign images that are about to lose their names, if they can be linked."""
    now = state.read_state(paths)
    displaced = isinstance(now.image, ForeignImage) and adopt_foreign_image(now, now.image) is None
    if (options.backup or displaced) and isinstance(now.old, ForeignImage):
        adopt_foreign_image(now, now.old)


def adopt_foreign_image(now: ImageState, foreign: ForeignImage) -> Version | None:
    """A version with the foreign file and, if it was NAME.img, its kernel; None if it cannot be hard-linked."""
    is_current = foreign == now.image
    boot_files, kernel = _find_boot_files(now) if is_current else ({}, None)
    facts = ImageFacts(foreign.size, sha256="", codec="", is_symlink=foreign.is_symlink)
    manifest = Manifest(
        now.paths.name,
        version="",
        created="",
        origin=Origin.FOREIGN,
        source=SourceFacts("", "foreign"),
        image=facts,
        kernel=kernel,
        files={name: read_file_facts(path) for name, path in boot_files.items()},
    )
    # Do not read many gigabytes only for the digits of an ID.
    digits = hashlib.sha256(f"{foreign.size} {foreign.mtime}".encode()).hexdigest()
    links = {name: make_hard_linker(path) for name, path in boot_files.items()}
    try:
        return NewVersion(now.paths, manifest, digits, make_hard_linker(foreign.path), links).assemble()
    except OSError as error:
        if error.errno in _UNLINKABLE:
            return None
        raise


def _find_boot_files(now: ImageState) -> tuple[dict[str, str], KernelFacts | None]:
    """The boot files for NAME.img: those of a version published for it, or plain files, as on older servers."""
    current = now.current
    if current is not None and current.manifest.image is None:
        return {name: current.file(name) for name in current.manifest.files}, current.manifest.kernel
    plain = {name: join(now.paths.boot, name) for name in (KERNEL, DISTRO_INITRD)}
    return {name: path for name, path in plain.items() if files.is_regular(path)}, None


def commit_pointer(version: Version, previous: str | None) -> None:
    """Make the version the current one, durably. `previous` is the previous version that the pointer names.

    Everything that needs space or may fail is done before the pointer moves; then only renames are left, onto names
    that were checked to be replaceable.

    Raises OSError, and LtspError if a name cannot be replaced; read the pointer to see whether it moved.
    """
    paths = version.paths
    files.make_directories(paths.boot, DIRECTORY_MODE)
    pointer = Pointer(
        paths.name,
        version.id,
        previous,
        image=_served_image_path(version),
        files=tuple(version.manifest.files),
        sha256=_stable_sha256(version),
    )
    with _prepare_links(paths, pointer) as prepared:
        disk_errors.check_replaceable(paths.name, [paths.pointer, *prepared.names])
        pointer_file = files.prepare_file(paths.pointer, pointer.to_script().encode("ascii"), PUBLIC_MODE)
        try:
            pointer_file.commit()
        finally:
            pointer_file.discard()
        files.sync_directory(paths.boot)
        prepared.commit()


def apply_pointer(paths: ImagePaths, pointer: Pointer) -> None:
    """Make everything else agree with the pointer; idempotent."""
    with _prepare_links(paths, pointer) as prepared:
        disk_errors.check_replaceable(paths.name, prepared.names)
        prepared.commit()


@dataclass(frozen=True, slots=True)
class _PreparedLinks:
    """The names derived from a pointer, prepared unless they are already correct."""

    paths: ImagePaths
    version_id: str
    displaces_foreign: bool
    """Whether NAME.img is a foreign file without another name, which becomes NAME.img.old."""
    renames_foreign_old: bool
    """Whether NAME.img.old is a foreign file, which is renamed before it is replaced."""
    old: files.Replacement | None
    image: files.Replacement | None
    removes_old: bool
    """Whether NAME.img.old would be another name of NAME.img, and is removed."""
    links: tuple[files.Replacement, ...]
    current: files.Replacement | None
    """Replaced last: if it differs from the pointer, the switch is unfinished."""

    @property
    def names(self) -> list[str]:
        """Names that are replaced or removed."""
        paths = self.paths
        kept = [paths.old] if self.renames_foreign_old or self.displaces_foreign or self.removes_old else []
        replaced = [each.path for each in (self.old, self.image, *self.links, self.current) if each]
        marker = paths.staged(self.version_id)
        return [*kept, *replaced, *([marker] if os.path.lexists(marker) else [])]

    def commit(self) -> None:
        paths = self.paths
        if self.renames_foreign_old:
            os.rename(paths.old, f"{paths.old}-{int(time.time())}")
        if self.old:
            self.old.commit()
        if not self.displaces_foreign or not self._exchange():
            if self.image:
                self.image.commit()
            if self.removes_old:
                os.unlink(paths.old)
        files.sync_directory(paths.images)
        for link in self.links:
            link.commit()
        if os.path.lexists(paths.staged(self.version_id)):
            os.unlink(paths.staged(self.version_id))
            files.sync_directory(paths.version(self.version_id))
        if self.current:
            self.current.commit()
        files.sync_directory(paths.boot)

    def _exchange(self) -> bool:
        """Swap NAME.img with NAME.img.old, which already is the new image; if unsupported, move it there."""
        try:
            files.exchange(self.paths.image, self.paths.old)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
            os.rename(self.paths.image, self.paths.old)
            return False
        return True


@contextmanager
def _prepare_links(paths: ImagePaths, pointer: Pointer) -> Iterator[_PreparedLinks]:
    """Discards at the end what was prepared but not committed."""
    now = state.read_state(paths)
    image = paths.version_image(pointer.version)
    has_image = files.file_id(image) is not None
    displaces_foreign = has_image and pointer.previous == FOREIGN and isinstance(now.image, ForeignImage)
    previous = image if displaces_foreign else _find_previous_image(paths, pointer)
    with ExitStack() as prepared:

        def discard_unless_committed(replacement: files.Replacement | None) -> files.Replacement | None:
            if replacement:
                prepared.callback(replacement.discard)
            return replacement

        old = discard_unless_committed(files.prepare_hard_link(paths.old, previous)) if previous else None
        yield _PreparedLinks(
            paths,
            pointer.version,
            displaces_foreign,
            renames_foreign_old=old is not None and isinstance(now.old, ForeignImage),
            old=old,
            image=discard_unless_committed(files.prepare_hard_link(paths.image, image)) if has_image else None,
            removes_old=has_image and pointer.previous is None and files.is_same_file(image, paths.old),
            links=tuple(
                link
                for path in paths.links
                if (link := discard_unless_committed(files.prepare_symlink(path, join("current", basename(path)))))
            ),
            current=discard_unless_committed(files.prepare_symlink(paths.current, pointer.version)),
        )


def _find_previous_image(paths: ImagePaths, pointer: Pointer) -> str | None:
    """The file that NAME.img.old shall be, if the pointer names one."""
    if pointer.previous in {None, FOREIGN, pointer.version}:
        return None
    assert pointer.previous is not None
    image = paths.version_image(pointer.previous)
    return image if files.file_id(image) else None


def repair(paths: ImagePaths) -> None:
    """Remove what a killed run left unfinished, and finish the switch if it had moved the pointer. Needs the lock.

    A missing file alone proves nothing, since a disk may not be mounted: without the directory of the versions, none of
    their boot files is removed.
    """
    for path in (paths.image, paths.old):
        files.clear_temporary_name(path)
    of_versions = map(paths.version, filter(is_version_id, files.list_names(paths.versions)))
    for directory in (paths.versions, paths.boot, *of_versions):
        for name in filter(files.is_leftover, files.list_names(directory)):
            os.unlink(join(directory, name))
    pointer = state.read_pointer(paths)
    if os.path.isdir(paths.versions):
        for version_id in filter(is_version_id, {*files.list_names(paths.versions), *files.list_names(paths.boot)}):
            if not os.path.lexists(paths.manifest(version_id)) and not (pointer and version_id == pointer.version):
                remove_version(paths, version_id)
    if pointer and os.path.lexists(paths.manifest(pointer.version)) and not _is_applied(paths, pointer):
        apply_pointer(paths, pointer)


def _served_image_path(version: Version) -> str:
    """Where clients find the image, relative to BASE_DIR; empty if their root is not an image."""
    paths = version.paths
    facts = version.manifest.image
    if facts is not None and not facts.is_symlink:
        return os.path.relpath(version.image, paths.base_dir)
    if facts is not None or files.file_id(paths.image):
        return os.path.relpath(paths.image, paths.base_dir)
    return ""


def _stable_sha256(version: Version) -> str:
    """The sha256 of `_served_image_path`, if it is in a version and so never changes."""
    facts = version.manifest.image
    return facts.sha256 if facts is not None and not facts.is_symlink else ""


def _is_applied(paths: ImagePaths, pointer: Pointer) -> bool:
    try:
        return os.readlink(paths.current) == pointer.version
    except OSError:
        return False
