"""Taking an image from clients, and then from the disk: all of it on demand, or what a deleted NAME.img left behind.

The pointer goes first, so that no client begins to boot what is about to go; then the names for Raspberry Pis and older
menus, then the versions one by one. A kill leaves an image that is whole, or one that no menu leads to and the same
command removes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import disk_errors, firmware_links
from ltsp.publish import state as states
from ltsp.publish.disk_errors import described
from ltsp.publish.gc import in_use, retain, users_of
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import Places
from ltsp.publish.retention import Collected, Retention
from ltsp.publish.state import Foreign, State
from ltsp.publish.switch import paths_of, remove


@dataclass(frozen=True, slots=True)
class Removed:
    versions: tuple[str, ...]
    """The damaged ones too."""
    bytes: int
    """Of images that have no other name any more."""


def remove_all(places: Places, *, force: bool) -> Removed:
    """Remove an image with all of its versions, kernels and names.

    Raises LtspError, before anything is removed, where a version is pinned, in use or not made here (unless `force`),
    or a name cannot be removed.
    """
    now = states.read(places)
    if not force and (reasons := list(_objections(now))):
        raise LtspError(f"cannot remove {places.name}: {'; '.join(reasons)}", "--force removes it all the same")
    versions = (*(each.version for each in now.generations), *now.damaged)
    names = [places.pointer, places.current, *places.links, places.image, places.old, *firmware_links.links_to(places)]
    disk_errors.check_replaceable(
        places.name, (*names, *(path for each in versions for path in paths_of(places, each)))
    )
    freed = _bytes(now)
    _withdraw(places)
    for path in (places.image, places.old):
        _unlink(path)
    if os.path.isdir(places.images):
        files.sync_directory(places.images)
    for version in versions:
        remove(places, version)
    return Removed(versions, freed)


def tidy(places: Places, keep: Retention) -> tuple[Collected, ...]:
    """Where somebody deleted NAME.img by hand: take the rest from clients too, and collect it as retention says.

    Its versions stay for as many days as any that was replaced now, since clients may still run on them; those that are
    pinned, in use or not made here stay for good. Nothing is done where NAME.img is not gone.
    """
    now = states.read(places)
    if not now.deserted:
        return ()
    if now.current is not None:
        os.utime(places.manifest(now.current.version))
        _withdraw(places)
    return retain(places, Retention(0, keep.days, keep.share))


def _withdraw(places: Places) -> None:
    """What boots is gone after this, durably; the versions are not."""
    _unlink(places.pointer)
    if os.path.isdir(places.boot):
        files.sync_directory(places.boot)
    firmware_links.remove_links(places.tftp_dir, firmware_links.links_to(places))
    for path in (*places.links, places.current):
        _unlink(path)
    if os.path.isdir(places.boot):
        files.sync_directory(places.boot)


def _objections(now: State) -> Iterator[str]:
    users = in_use(now)
    for each in now.generations:
        if each.pinned:
            yield f"version {each.version} is pinned"
        if user := users.get(each.version):
            yield f"version {each.version} is in use by {described(user)}"
        if each.manifest.origin is Origin.FOREIGN:
            yield f"version {each.version} was not made here"
    for path, entry in ((now.places.image, now.image), (now.places.old, now.old)):
        if isinstance(entry, Foreign):
            name = os.path.basename(path)
            yield f"{name} was not made here"
            if user := users_of(path):
                yield f"{name} is in use by {described(user)}"


def _bytes(now: State) -> int:
    """Of all images, those of other programs too, each once."""
    sizes = {each.image_id: files.size(each.image) or 0 for each in now.generations if each.image_id}
    for path, entry in ((now.places.image, now.image), (now.places.old, now.old)):
        if isinstance(entry, Foreign) and (identity := files.identity(path)):
            sizes[identity] = files.size(path) or 0
    return sum(sizes.values())


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)
