"""Making a complete version the current one, and putting right what a kill left half done.

The pointer goes first, in one rename; what follows from it (NAME.img.old, NAME.img, the links that older menus use) is
made equal to it afterwards. `current` comes last, so that `current` differing from the pointer means: not finished yet.
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
from ltsp.publish.generation import Generation
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, Places
from ltsp.publish.pointer import FOREIGN, Pointer
from ltsp.publish.version import is_version


def switch(generation: Generation, before: str | None) -> None:
    """Make the generation the current one, durably. `before` is what the pointer is to name so.

    All that takes room or may be refused is done before the pointer moves; then only renames are left, onto names that
    can be replaced as far as anybody can tell.

    Raises OSError, and LtspError where a name cannot be replaced; the pointer tells whether it moved.
    """
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
    with _followers(places, pointer) as followers:
        disk_errors.check_replaceable(places.name, [places.pointer, *followers.names])
        moved = files.prepare(places.pointer, pointer.text().encode("ascii"), PUBLIC_MODE)
        try:
            moved.commit()
        finally:
            moved.discard()
        files.sync_directory(places.boot)
        followers.commit()


def settle(places: Places, pointer: Pointer) -> None:
    """Make everything else agree with the pointer. Doing it again changes nothing."""
    with _followers(places, pointer) as followers:
        disk_errors.check_replaceable(places.name, followers.names)
        followers.commit()


@dataclass(frozen=True, slots=True)
class _Followers:
    """The names that follow from a pointer, prepared as far as they are not right already."""

    places: Places
    version: str
    displaces: bool
    """Whether NAME.img is a file of others that has no other name, and becomes NAME.img.old."""
    spares: bool
    """Whether NAME.img.old is such a file, and is renamed before it is replaced."""
    old: files.Replacement | None
    image: files.Replacement | None
    drops_old: bool
    """Whether NAME.img.old would be another name of NAME.img, and goes."""
    links: tuple[files.Replacement, ...]
    current: files.Replacement | None
    """The last one: where it differs from the pointer, the switch is not finished."""

    @property
    def names(self) -> list[str]:
        """Those that are replaced or removed."""
        places = self.places
        kept = [places.old] if self.spares or self.displaces or self.drops_old else []
        replaced = [each.path for each in (self.old, self.image, *self.links, self.current) if each]
        mark = places.staged(self.version)
        return [*kept, *replaced, *([mark] if os.path.lexists(mark) else [])]

    def commit(self) -> None:
        places = self.places
        if self.spares:
            os.rename(places.old, f"{places.old}-{int(time.time())}")
        if self.old:
            self.old.commit()
        if not self.displaces or not self._exchanged():
            if self.image:
                self.image.commit()
            if self.drops_old:
                os.unlink(places.old)
        files.sync_directory(places.images)
        for link in self.links:
            link.commit()
        if os.path.lexists(places.staged(self.version)):
            os.unlink(places.staged(self.version))
            files.sync_directory(places.version(self.version))
        if self.current:
            self.current.commit()
        files.sync_directory(places.boot)

    def _exchanged(self) -> bool:
        """Swap NAME.img with NAME.img.old, which is the new image by now; else move it there."""
        try:
            files.exchange(self.places.image, self.places.old)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
            os.rename(self.places.image, self.places.old)
            return False
        return True


@contextmanager
def _followers(places: Places, pointer: Pointer) -> Iterator[_Followers]:
    """What is prepared and not committed is gone at the end."""
    now = state.read(places)
    image = places.version_image(pointer.version)
    has_image = files.identity(image) is not None
    displaces = has_image and pointer.before == FOREIGN and isinstance(now.image, state.Foreign)
    before = image if displaces else _image_before(places, pointer)
    with ExitStack() as prepared:

        def ready(replacement: files.Replacement | None) -> files.Replacement | None:
            if replacement:
                prepared.callback(replacement.discard)
            return replacement

        old = ready(files.prepare_hard_link(places.old, before)) if before else None
        yield _Followers(
            places,
            pointer.version,
            displaces,
            spares=old is not None and isinstance(now.old, state.Foreign),
            old=old,
            image=ready(files.prepare_hard_link(places.image, image)) if has_image else None,
            drops_old=has_image and pointer.before is None and files.same_file(image, places.old),
            links=tuple(
                link
                for path in places.links
                if (link := ready(files.prepare_symlink(path, join("current", basename(path)))))
            ),
            current=ready(files.prepare_symlink(places.current, pointer.version)),
        )


def _image_before(places: Places, pointer: Pointer) -> str | None:
    """What NAME.img.old is to be, where the pointer says so."""
    if pointer.before in {None, FOREIGN, pointer.version}:
        return None
    assert pointer.before is not None
    image = places.version_image(pointer.before)
    return image if files.identity(image) else None


def repair(places: Places) -> None:
    """Remove what a killed run left unfinished and finish what it had decided. Call with the lock held.

    Nothing is decided by the absence of a file alone where a disk may not be mounted: without the versions' directory,
    nothing of theirs is removed elsewhere.
    """
    for path in (places.image, places.old):
        files.fresh_name(path)
    of_versions = map(places.version, filter(is_version, files.entries(places.versions)))
    for directory in (places.versions, places.boot, *of_versions):
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
    """Take a version away. Its manifest goes first, so that a kill leaves no version that only seems complete.

    Raises LtspError where one of its files cannot be removed; then it stays whole.
    """
    disk_errors.check_replaceable(places.name, paths_of(places, version))
    with suppress(FileNotFoundError):
        os.unlink(places.manifest(version))
        files.sync_directory(places.version(version))
    files.remove_tree(places.version(version))
    files.remove_tree(places.boot_version(version))
    for directory in (places.versions, places.boot):
        if os.path.isdir(directory):
            files.sync_directory(directory)


def paths_of(places: Places, version: str) -> list[str]:
    """The files of a version that go with it."""
    return [path for top in (places.version(version), places.boot_version(version)) for path in files.below(top)]


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
