"""Kernel and initrds on their way into the TFTP directory: copied and hashed before any of them has a name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ltsp.cpio.alignment import padded
from ltsp.errors import Changed
from ltsp.host import files
from ltsp.publish.assembly import Link, another_name_of
from ltsp.publish.disk_errors import told
from ltsp.publish.generation import Generation
from ltsp.publish.manifest import FileFacts
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, Places, is_initrd
from ltsp.publish.staged_file import sha256
from ltsp.tree.content import Content

_PIECE = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class BootFile:
    """Written, on the disk, and without a name."""

    facts: FileFacts
    new: files.Nameless

    def link(self, path: str) -> None:
        self.new.link(path, PUBLIC_MODE)


@contextmanager
def boot_files(places: Places, contents: Mapping[str, Content]) -> Iterator[dict[str, BootFile]]:
    """Copies of the contents; they are gone at the end, but for those that were linked.

    Initrds are so many bytes long that any of them can be loaded before another one.

    Raises Changed where one was not the same from its first to its last byte.
    """
    files.make_directories(places.boot, DIRECTORY_MODE)
    with ExitStack() as stack:
        yield {
            name: _copied(stack, places, name, padded(content) if is_initrd(name) else content)
            for name, content in contents.items()
        }


def links(new: Mapping[str, BootFile], current: Generation | None) -> dict[str, Link]:
    """How the files get into a version: those that the current one has too are shared with it."""
    return {
        name: another_name_of(current.file(name)) if current and _found(current.file(name)) == file.facts else file.link
        for name, file in new.items()
    }


def has_its_boot_files(generation: Generation) -> bool:
    """Whether they are what they were when it was made. They are read for that."""
    return all(_found(generation.file(name)) == facts for name, facts in generation.manifest.files.items())


def has_its_image(generation: Generation) -> bool:
    """Whether it is what it was when it was made. It is read for that."""
    image = generation.manifest.image
    return image is None or _found(generation.image) == FileFacts(image.size, image.sha256)


def facts(new: Mapping[str, BootFile]) -> dict[str, FileFacts]:
    return {name: file.facts for name, file in new.items()}


def _found(path: str) -> FileFacts | None:
    try:
        return facts_of(path)
    except FileNotFoundError:
        return None


def facts_of(path: str) -> FileFacts:
    """Of a file that lies there already."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return FileFacts(os.fstat(descriptor).st_size, sha256(descriptor))
    finally:
        os.close(descriptor)


def _copied(stack: ExitStack, places: Places, name: str, content: Content) -> BootFile:
    new = stack.enter_context(files.nameless(places.boot))
    digest = hashlib.sha256()
    size = 0
    with content.open() as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            with told("publish", places, places.boot):
                files.write_whole(new.file.fileno(), piece)
            size += len(piece)
        if not stream.settled():
            raise Changed(f"{name} of {places.name} changed while it was read", "nothing was published; try again")
    with told("publish", places, places.boot):
        os.fsync(new.file.fileno())
    return BootFile(FileFacts(size, digest.hexdigest()), new)
