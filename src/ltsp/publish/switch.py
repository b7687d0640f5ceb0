"""Making a complete version the current one, and repairing what a killed run left unfinished.

The pointer is replaced first, by one rename; everything derived from it (NAME.img.old, NAME.img, the links that older
menus use) is updated afterwards. `current` comes last: if it differs from the pointer, the switch is unfinished.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from os.path import basename, join

from ltsp.host import files
from ltsp.publish import disk_errors, state
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths
from ltsp.publish.pointer import FOREIGN, Pointer
from ltsp.publish.version import Version, is_version_id


def switch_to(version: Version, before: str | None) -> None:
    """Make the version the current one, durably. `before` is the previous version that the pointer names.

    Everything that needs space or may fail is done before the pointer moves; then only renames are left, onto names
    that were checked to be replaceable.

    Raises OSError, and LtspError if a name cannot be replaced; read the pointer to see whether it moved.
    """
    paths = version.paths
    files.make_directories(paths.boot, DIRECTORY_MODE)
    pointer = Pointer(
        paths.name,
        version.id,
        before,
        image=_served_image_path(version),
        files=tuple(version.manifest.files),
        sha256=_stable_sha256(version),
    )
    with _prepare_links(paths, pointer) as prepared:
        disk_errors.check_replaceable(paths.name, [paths.pointer, *prepared.names])
        moved = files.prepare_file(paths.pointer, pointer.text().encode("ascii"), PUBLIC_MODE)
        try:
            moved.commit()
        finally:
            moved.discard()
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
    displaces: bool
    """Whether NAME.img is a foreign file without another name, which becomes NAME.img.old."""
    spares: bool
    """Whether NAME.img.old is a foreign file, which is renamed before it is replaced."""
    old: files.Replacement | None
    image: files.Replacement | None
    drops_old: bool
    """Whether NAME.img.old would be another name of NAME.img, and is removed."""
    links: tuple[files.Replacement, ...]
    current: files.Replacement | None
    """Replaced last: if it differs from the pointer, the switch is unfinished."""

    @property
    def names(self) -> list[str]:
        """Names that are replaced or removed."""
        paths = self.paths
        kept = [paths.old] if self.spares or self.displaces or self.drops_old else []
        replaced = [each.path for each in (self.old, self.image, *self.links, self.current) if each]
        mark = paths.staged(self.version_id)
        return [*kept, *replaced, *([mark] if os.path.lexists(mark) else [])]

    def commit(self) -> None:
        paths = self.paths
        if self.spares:
            os.rename(paths.old, f"{paths.old}-{int(time.time())}")
        if self.old:
            self.old.commit()
        if not self.displaces or not self._exchange():
            if self.image:
                self.image.commit()
            if self.drops_old:
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
    displaces = has_image and pointer.before == FOREIGN and isinstance(now.image, state.ForeignImage)
    before = image if displaces else _image_before(paths, pointer)
    with ExitStack() as prepared:

        def discard_unless_committed(replacement: files.Replacement | None) -> files.Replacement | None:
            if replacement:
                prepared.callback(replacement.discard)
            return replacement

        old = discard_unless_committed(files.prepare_hard_link(paths.old, before)) if before else None
        yield _PreparedLinks(
            paths,
            pointer.version,
            displaces,
            spares=old is not None and isinstance(now.old, state.ForeignImage),
            old=old,
            image=discard_unless_committed(files.prepare_hard_link(paths.image, image)) if has_image else None,
            drops_old=has_image and pointer.before is None and files.same_file(image, paths.old),
            links=tuple(
                link
                for path in paths.links
                if (link := discard_unless_committed(files.prepare_symlink(path, join("current", basename(path)))))
            ),
            current=discard_unless_committed(files.prepare_symlink(paths.current, pointer.version)),
        )


def _image_before(paths: ImagePaths, pointer: Pointer) -> str | None:
    """The file that NAME.img.old shall be, if the pointer names one."""
    if pointer.before in {None, FOREIGN, pointer.version}:
        return None
    assert pointer.before is not None
    image = paths.version_image(pointer.before)
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


def remove_version(paths: ImagePaths, version_id: str) -> None:
    """Remove a version, its manifest first, so that a kill leaves no version that only seems complete.

    Raises LtspError if one of its files cannot be removed; then it stays complete.
    """
    disk_errors.check_replaceable(paths.name, list_version_files(paths, version_id))
    with suppress(FileNotFoundError):
        os.unlink(paths.manifest(version_id))
        files.sync_directory(paths.version(version_id))
    files.remove_tree(paths.version(version_id))
    files.remove_tree(paths.boot_version(version_id))
    for directory in (paths.versions, paths.boot):
        if os.path.isdir(directory):
            files.sync_directory(directory)


def list_version_files(paths: ImagePaths, version_id: str) -> list[str]:
    """All files of a version."""
    return [
        path
        for top in (paths.version(version_id), paths.boot_version(version_id))
        for path in files.list_files_below(top)
    ]


def _served_image_path(version: Version) -> str:
    """Where clients find the image, relative to BASE_DIR; empty if their root is not an image."""
    paths = version.paths
    facts = version.manifest.image
    if facts is not None and not facts.linked:
        return os.path.relpath(version.image, paths.base_dir)
    if facts is not None or files.file_id(paths.image):
        return os.path.relpath(paths.image, paths.base_dir)
    return ""


def _stable_sha256(version: Version) -> str:
    """The sha256 of `_served_image_path`, if it is in a version and so never changes."""
    facts = version.manifest.image
    return facts.sha256 if facts is not None and not facts.linked else ""


def _is_applied(paths: ImagePaths, pointer: Pointer) -> bool:
    try:
        return os.readlink(paths.current) == pointer.version
    except OSError:
        return False
