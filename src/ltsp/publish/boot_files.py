"""Staging kernel and initrds in the TFTP directory: copied and hashed before any of them gets a name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ltsp.cpio.header import pad_initrd
from ltsp.errors import FileChanged
from ltsp.host import files
from ltsp.publish.assembly import LinkFunction, hard_link_to
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.manifest import FileFacts
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths, is_initrd
from ltsp.publish.staged_file import compute_sha256
from ltsp.publish.version import Version
from ltsp.tree.content import Content

_PIECE = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class BootFile:
    """A boot file that is written and flushed, but has no name yet."""

    facts: FileFacts
    new: files.UnnamedFile

    def link(self, path: str) -> None:
        self.new.link(path, PUBLIC_MODE)


@contextmanager
def stage_boot_files(paths: ImagePaths, contents: Mapping[str, Content]) -> Iterator[dict[str, BootFile]]:
    """Copies of the contents; those that were not linked are discarded at the end.

    Initrds are padded, so that any of them can be followed by another one.

    Raises FileChanged if one changes while it is read.
    """
    files.make_directories(paths.boot, DIRECTORY_MODE)
    with ExitStack() as stack:
        yield {
            name: _copy_boot_file(stack, paths, name, pad_initrd(content) if is_initrd(name) else content)
            for name, content in contents.items()
        }


def boot_file_links(new: Mapping[str, BootFile], current: Version | None) -> dict[str, LinkFunction]:
    """How to link the files into a version; files that are the same in the current version are shared with it."""
    return {
        name: hard_link_to(current.file(name))
        if current and _read_facts_if_present(current.file(name)) == file.facts
        else file.link
        for name, file in new.items()
    }


def has_intact_boot_files(version: Version) -> bool:
    """Whether the boot files are unchanged since the version was created. Reads them completely."""
    return all(_read_facts_if_present(version.file(name)) == facts for name, facts in version.manifest.files.items())


def has_intact_image(version: Version) -> bool:
    """Whether the image is unchanged since the version was created. Reads it completely."""
    image = version.manifest.image
    return image is None or _read_facts_if_present(version.image) == FileFacts(image.size, image.sha256)


def facts(new: Mapping[str, BootFile]) -> dict[str, FileFacts]:
    return {name: file.facts for name, file in new.items()}


def _read_facts_if_present(path: str) -> FileFacts | None:
    try:
        return read_file_facts(path)
    except FileNotFoundError:
        return None


def read_file_facts(path: str) -> FileFacts:
    """Size and sha256 of an existing file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return FileFacts(os.fstat(descriptor).st_size, compute_sha256(descriptor))
    finally:
        os.close(descriptor)


def _copy_boot_file(stack: ExitStack, paths: ImagePaths, name: str, content: Content) -> BootFile:
    new = stack.enter_context(files.create_unnamed(paths.boot))
    digest = hashlib.sha256()
    size = 0
    with content.open() as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            with translate_os_errors("publish", paths, paths.boot):
                files.write_all(new.file.fileno(), piece)
            size += len(piece)
        if not stream.is_consistent():
            raise FileChanged(
                f"{name} of {paths.name} changed while it was being read", "nothing was published; try again"
            )
    with translate_os_errors("publish", paths, paths.boot):
        os.fsync(new.file.fileno())
    return BootFile(FileFacts(size, digest.hexdigest()), new)
