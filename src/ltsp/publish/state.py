"""What there is of one name: its versions, the pointer, and what NAME.img and NAME.img.old are."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ltsp.errors import FormatError, LtspError
from ltsp.host import files
from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import Places
from ltsp.publish.pointer import Pointer
from ltsp.publish.version import is_version
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class Foreign:
    """A NAME.img or NAME.img.old that is no link of one of our versions."""

    path: str
    size: int
    """Bytes, of what it leads to; 0 where it leads nowhere."""
    mtime: float
    """Seconds since 1970."""
    linked: bool
    """A symbolic link."""


@dataclass(frozen=True, slots=True)
class State:
    """Read without the lock it may be a moment old, but each part of it was true."""

    places: Places
    generations: tuple[Generation, ...]
    """The complete ones, oldest first."""
    damaged: tuple[str, ...]
    """Versions whose manifest cannot be read; nothing removes them but a person."""
    pointer: Pointer | None
    image: Generation | Foreign | None
    """What NAME.img is: the hand that put it there may be another's."""
    old: Generation | Foreign | None

    @property
    def current(self) -> Generation | None:
        """What the menu boots."""
        return self.generation(self.pointer.version) if self.pointer else None

    @property
    def before(self) -> Generation | None:
        """What the pointer says was current before."""
        return self.generation(self.pointer.before) if self.pointer and self.pointer.before else None

    @property
    def waiting(self) -> Generation | None:
        """The newest version of ours, where it is staged: nothing newer was found good enough for clients."""
        ours = [each for each in self.generations if each.manifest.origin is not Origin.FOREIGN]
        newest = ours[-1] if ours else None
        return newest if newest and newest.staged and newest != self.current else None

    @property
    def current_versions(self) -> set[str]:
        """What the menu boots, and what NAME.img is where somebody's hand made that another version."""
        versions = {self.pointer.version} if self.pointer else set()
        return versions | {self.image.version} if isinstance(self.image, Generation) else versions

    @property
    def deserted(self) -> bool:
        """Whether NAME.img is gone and its versions stayed: somebody deleted it by hand, as one removed images once.

        Versions that wait for their first boot test never had it, nor has a chroot whose kernel is published.
        """
        chroot = self.current is not None and self.current.image_id is None
        had = any(each.image_id is not None and not each.staged for each in self.generations)
        return self.image is None and had and not chroot

    def existing(self, version: str) -> Generation:
        """Raises LtspError where there is no such version."""
        generation = self.generation(version)
        if generation is None:
            name = self.places.name
            raise LtspError(f"{name} has no version {printable(version)}", f"ltsp versions {name} lists what there is")
        return generation

    def generation(self, version: str) -> Generation | None:
        return next((each for each in self.generations if each.version == version), None)

    @property
    def exists(self) -> bool:
        return bool(self.generations or self.damaged or self.pointer or self.image or self.old)


def read(places: Places) -> State:
    generations: list[Generation] = []
    damaged: list[str] = []
    for version in filter(is_version, files.entries(places.versions)):
        try:
            generations.append(Generation.load(places, version))
        except FileNotFoundError:
            continue
        except FormatError:
            damaged.append(version)
    pointer = read_pointer(places)
    likely = [pointer.version, pointer.before] if pointer else [None, None]
    return State(
        places,
        tuple(generations),
        tuple(damaged),
        pointer,
        _named(places.image, generations, likely[0]),
        _named(places.old, generations, likely[1]),
    )


def read_pointer(places: Places) -> Pointer | None:
    try:
        with open(places.pointer, encoding="utf-8", errors="replace") as file:
            pointer = Pointer.parse(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return pointer if pointer and pointer.name == places.name else None


def _named(path: str, generations: list[Generation], likely: str | None) -> Generation | Foreign | None:
    """Of several versions that share the image, the likely one, else the newest."""
    identity = files.identity(path)
    if identity is None:
        return None
    same = [each for each in generations if each.image_id == identity]
    if same:
        return next((each for each in same if each.version == likely), same[-1])
    linked = os.path.islink(path)
    try:
        status = os.stat(path)
    except OSError:
        return Foreign(path, 0, 0, linked)
    return Foreign(path, status.st_size, status.st_mtime, linked)
