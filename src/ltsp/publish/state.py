"""The state of one image on disk: its versions, the pointer, and what NAME.img and NAME.img.old are."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ltsp.errors import FormatError, LtspError
from ltsp.host import files, process
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import ImagePaths
from ltsp.publish.pointer import Pointer
from ltsp.publish.version import Version, is_version_id
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class ForeignImage:
    """A NAME.img or NAME.img.old that is not a link to one of our versions."""

    path: str
    size: int
    """Bytes of the file that it points to; 0 for a dangling link."""
    mtime: float
    """Seconds since 1970."""
    is_symlink: bool
    """A symbolic link."""


@dataclass(frozen=True, slots=True)
class ImageState:
    """Read without the lock, it may be slightly outdated, but each part of it was true."""

    paths: ImagePaths
    versions: tuple[Version, ...]
    """The complete ones, oldest first."""
    damaged: tuple[str, ...]
    """Versions whose manifest cannot be read; they are removed only on request."""
    pointer: Pointer | None
    image: Version | ForeignImage | None
    """What NAME.img is; somebody may have replaced it by hand."""
    old: Version | ForeignImage | None

    @property
    def current(self) -> Version | None:
        """The version that the menu boots."""
        return self.find_version(self.pointer.version) if self.pointer else None

    @property
    def previous(self) -> Version | None:
        """The previous version, according to the pointer."""
        return self.find_version(self.pointer.previous) if self.pointer and self.pointer.previous else None

    @property
    def waiting(self) -> Version | None:
        """The newest version that ltsp made, if it is staged, so that clients do not boot it yet."""
        ours = [each for each in self.versions if each.manifest.origin is not Origin.FOREIGN]
        newest = ours[-1] if ours else None
        return newest if newest and newest.staged and newest != self.current else None

    @property
    def current_ids(self) -> set[str]:
        """The version that the menu boots, and the one that NAME.img is, if somebody changed that by hand."""
        versions = {self.pointer.version} if self.pointer else set()
        return versions | {self.image.id} if isinstance(self.image, Version) else versions

    @property
    def is_image_deleted(self) -> bool:
        """Whether NAME.img was deleted by hand, the way to remove an image in older releases, but its versions remain.

        Versions that wait for their first boot test never had it, nor does a chroot whose kernel is published.
        """
        chroot = self.current is not None and self.current.image_id is None
        had = any(each.image_id is not None and not each.staged for each in self.versions)
        return self.image is None and had and not chroot

    def require_version(self, version_id: str) -> Version:
        """Raises LtspError if there is no such version."""
        version = self.find_version(version_id)
        if version is None:
            name = self.paths.name
            raise LtspError(
                f"{name} has no version {printable(version_id)}", f"list its versions: ltsp versions {name}"
            )
        return version

    def find_version(self, version_id: str) -> Version | None:
        return next((each for each in self.versions if each.id == version_id), None)

    @property
    def exists(self) -> bool:
        return bool(self.versions or self.damaged or self.pointer or self.image or self.old)


def read_state(paths: ImagePaths) -> ImageState:
    versions: list[Version] = []
    damaged: list[str] = []
    for version_id in filter(is_version_id, files.list_names(paths.versions)):
        try:
            versions.append(Version.load(paths, version_id))
        except FileNotFoundError:
            continue
        except FormatError:
            damaged.append(version_id)
    pointer = read_pointer(paths)
    likely = [pointer.version, pointer.previous] if pointer else [None, None]
    return ImageState(
        paths,
        tuple(versions),
        tuple(damaged),
        pointer,
        _identify_image(paths.image, versions, likely[0]),
        _identify_image(paths.old, versions, likely[1]),
    )


def read_pointer(paths: ImagePaths) -> Pointer | None:
    try:
        with open(paths.pointer, encoding="utf-8", errors="replace") as file:
            pointer = Pointer.parse(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return pointer if pointer and pointer.name == paths.name else None


def _identify_image(path: str, versions: list[Version], likely: str | None) -> Version | ForeignImage | None:
    """The version that a file is; of several that share the image, the likely one, else the newest."""
    identity = files.file_id(path)
    if identity is None:
        return None
    same = [each for each in versions if each.image_id == identity]
    if same:
        return next((each for each in same if each.id == likely), same[-1])
    linked = os.path.islink(path)
    try:
        status = os.stat(path)
    except OSError:
        return ForeignImage(path, 0, 0, linked)
    return ForeignImage(path, status.st_size, status.st_mtime, linked)


def find_users(state: ImageState) -> dict[str, process.FileUser]:
    """The processes on this machine that have a version's image open, by version."""
    ids = {each.image_id for each in state.versions if each.image_id}
    users = process.find_file_users(ids, _may_be_image)
    return {each.id: users[each.image_id] for each in state.versions if each.image_id in users}


def find_user_of_file(path: str) -> process.FileUser | None:
    """The process on this machine that has a file open which belongs to no version."""
    identity = files.file_id(path)
    return process.find_file_users({identity}, _may_be_image).get(identity) if identity else None


def _may_be_image(name: str) -> bool:
    """By the names that an image has, in its version and outside."""
    return name.endswith((".img", ".img.old"))
