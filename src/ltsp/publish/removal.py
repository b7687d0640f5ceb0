"""Removing an image: all of it on demand, or what is left after somebody deleted NAME.img.

The pointer goes first, so that no client starts to boot what is about to be removed; then the names for Raspberry Pis
and older menus, then the versions one by one. A kill leaves either a complete image, or one that no menu boots and
that the same command removes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import disk_errors, raspberry
from ltsp.publish import state as states
from ltsp.publish.assembly import list_version_files, remove_version
from ltsp.publish.disk_errors import describe_user
from ltsp.publish.gc import RemovedVersion, Retention, collect_garbage
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import ImagePaths
from ltsp.publish.state import ForeignImage, ImageState, find_user_of_file, find_users


@dataclass(frozen=True, slots=True)
class RemovedImage:
    versions: tuple[str, ...]
    """Including damaged ones."""
    bytes: int
    """The space freed: of images that have no other name left."""


def remove_image(paths: ImagePaths, *, force: bool) -> RemovedImage:
    """Remove an image with all of its versions, kernels and names.

    Raises LtspError, before anything is removed, if a version is pinned, in use or foreign (unless `force`), or a name
    cannot be removed.
    """
    now = states.read_state(paths)
    if not force and (reasons := list(_find_objections(now))):
        remedy = "unpin them or stop what uses them, or remove it anyway with --force"
        raise LtspError(f"cannot remove {paths.name}: {'; '.join(reasons)}", remedy)
    versions = (*(each.id for each in now.versions), *now.damaged)
    names = [
        paths.pointer,
        paths.current,
        *paths.links,
        paths.image,
        paths.old,
        *raspberry.find_links_of_image(paths),
    ]
    disk_errors.check_replaceable(
        paths.name, (*names, *(path for each in versions for path in list_version_files(paths, each)))
    )
    freed = _count_image_bytes(now)
    _withdraw_from_clients(paths)
    for path in (paths.image, paths.old):
        _unlink(path)
    if os.path.isdir(paths.images):
        files.sync_directory(paths.images)
    for version in versions:
        remove_version(paths, version)
    return RemovedImage(versions, freed)


def remove_deleted_image(paths: ImagePaths, retention: Retention) -> tuple[RemovedVersion, ...]:
    """If somebody deleted NAME.img by hand, withdraw the rest from clients too, and remove versions by retention.

    Its versions stay for as many days as any that is replaced now, since clients may still run on them; pinned, used
    and foreign ones stay for good. Does nothing if NAME.img exists.
    """
    now = states.read_state(paths)
    if not now.is_image_deleted:
        return ()
    if now.current is not None:
        os.utime(paths.manifest(now.current.id))
        _withdraw_from_clients(paths)
    return collect_garbage(paths, Retention(0, retention.days, retention.share))


def _withdraw_from_clients(paths: ImagePaths) -> None:
    """Remove, durably, everything that boots the image; its versions stay."""
    _unlink(paths.pointer)
    if os.path.isdir(paths.boot):
        files.sync_directory(paths.boot)
    raspberry.remove_links(paths.tftp_dir, raspberry.find_links_of_image(paths))
    for path in (*paths.links, paths.current):
        _unlink(path)
    if os.path.isdir(paths.boot):
        files.sync_directory(paths.boot)


def _find_objections(now: ImageState) -> Iterator[str]:
    users = find_users(now)
    for each in now.versions:
        if each.pinned:
            yield f"version {each.id} is pinned"
        if user := users.get(each.id):
            yield f"version {each.id} is in use by {describe_user(user)}"
        if each.manifest.origin is Origin.FOREIGN:
            yield f"version {each.id} was not made by ltsp"
    for path, entry in ((now.paths.image, now.image), (now.paths.old, now.old)):
        if isinstance(entry, ForeignImage):
            name = os.path.basename(path)
            yield f"{name} was not made by ltsp"
            if user := find_user_of_file(path):
                yield f"{name} is in use by {describe_user(user)}"


def _count_image_bytes(now: ImageState) -> int:
    """Bytes of all images including foreign ones, each counted once."""
    sizes = {each.image_id: files.file_size(each.image) or 0 for each in now.versions if each.image_id}
    for path, entry in ((now.paths.image, now.image), (now.paths.old, now.old)):
        if isinstance(entry, ForeignImage) and (identity := files.file_id(path)):
            sizes[identity] = files.file_size(path) or 0
    return sum(sizes.values())


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)
