"""Making a complete version the current one, and putting right what a kill left half done.

The pointer goes first, in one rename; what follows from it (NAME.img.old, NAME.img, the links that older menus use) is
made equal to it afterwards. `current` comes last, so that `current` differing from the pointer means: not finished yet.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from os.path import join

from ltsp.host import files
from ltsp.publish import state
from ltsp.publish.generation import Generation
from ltsp.publish.places import DIRECTORY_MODE, INITRD, KERNEL, PUBLIC_MODE, Places
from ltsp.publish.pointer import FOREIGN, Pointer
from ltsp.publish.version import is_version


def switch(generation: Generation, before: str | None) -> None:
    """Make the generation the current one, durably. `before` is what the pointer is to name so."""
    places = generation.places
    files.make_directories(places.boot, DIRECTORY_MODE)
    pointer = Pointer(
        places.name,
        generation.version,
        before,
        image=_served(generation),
        files=tuple(generation.manifest.files),
        sha256=_lasting_sum(generation),
    )
    files.replace(places.pointer, pointer.text().encode("ascii"), PUBLIC_MODE)
    settle(places, pointer)


def settle(places: Places, pointer: Pointer) -> None:
    """Make everything else agree with the pointer. Doing it again changes nothing."""
    image = places.version_image(pointer.version)
    if pointer.before not in {None, FOREIGN} and pointer.before != pointer.version:
        assert pointer.before is not None
        before = places.version_image(pointer.before)
        if files.identity(before):
            files.replace_by_hard_link(places.old, before)
    if files.identity(image):
        files.replace_by_hard_link(places.image, image)
    if pointer.before is None and files.same_file(places.image, places.old):
        os.unlink(places.old)
    files.sync_directory(places.images)
    for name in (KERNEL, INITRD):
        files.replace_by_symlink(join(places.boot, name), join("current", name))
    if os.path.lexists(places.staged(pointer.version)):
        os.unlink(places.staged(pointer.version))
        files.sync_directory(places.version(pointer.version))
    files.replace_by_symlink(places.current, pointer.version)
    files.sync_directory(places.boot)


def repair(places: Places) -> None:
    """Remove what a killed run left unfinished and finish what it had decided. Call with the lock held.

    Nothing is decided by the absence of a file alone where a disk may not be mounted: without the versions' directory,
    nothing of theirs is removed elsewhere.
    """
    for path in (places.image, places.old):
        files.fresh_name(path)
    for directory in (places.versions, places.boot):
        for name in filter(files.is_leftover, files.entries(directory)):
            os.unlink(join(directory, name))
    pointer = state.read_pointer(places)
    if os.path.isdir(places.versions):
        for version in filter(is_version, {*files.entries(places.versions), *files.entries(places.boot)}):
            if not os.path.lexists(places.manifest(version)) and not (pointer and version == pointer.version):
                remove(places, version)
    if pointer and os.path.lexists(places.manifest(pointer.version)) and not _settled(places, pointer):
        settle(places, pointer)


def remove(places: Places, version: str) -> None:
    """Take a version away. Its manifest goes first, so that a kill leaves no version that only seems complete."""
    with suppress(FileNotFoundError):
        os.unlink(places.manifest(version))
        files.sync_directory(places.version(version))
    files.remove_tree(places.version(version))
    files.remove_tree(places.boot_version(version))
    for directory in (places.versions, places.boot):
        if os.path.isdir(directory):
            files.sync_directory(directory)


def displace(places: Places, generation: Generation) -> None:
    """Rename a foreign NAME.img that cannot be hard-linked to NAME.img.old, and put the generation's in its place."""
    files.replace_by_hard_link(places.old, generation.image)
    try:
        files.exchange(places.image, places.old)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS}:
            raise
        os.rename(places.image, places.old)
        files.replace_by_hard_link(places.image, generation.image)
    files.sync_directory(places.images)


def _served(generation: Generation) -> str:
    """Where clients find the image, relative to BASE_DIR; empty if their root is none."""
    places = generation.places
    facts = generation.manifest.image
    if facts is not None and not facts.linked:
        return os.path.relpath(generation.image, places.base_dir)
    if facts is not None or files.identity(places.image):
        return os.path.relpath(places.image, places.base_dir)
    return ""


def _lasting_sum(generation: Generation) -> str:
    """The sha256 of what `_served` names, if that name is a version's, whose bytes stay."""
    facts = generation.manifest.image
    return facts.sha256 if facts is not None and not facts.linked else ""


def _settled(places: Places, pointer: Pointer) -> bool:
    try:
        return os.readlink(places.current) == pointer.version
    except OSError:
        return False
