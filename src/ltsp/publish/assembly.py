"""The files of a version: flushed before any of them gets a name, linked into its directories, its manifest last.

They are removed in the opposite order, the manifest first, so that a kill leaves no version that only seems complete.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os.path import join

from ltsp.cpio.header import pad_initrd
from ltsp.errors import FileChanged
from ltsp.host import files
from ltsp.publish import disk_errors
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.manifest import FileFacts, Manifest, SourceFacts
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths, is_initrd
from ltsp.publish.version import Version, is_version_id, new_version_id, read_facts_if_present
from ltsp.tree.content import Content

_PIECE = 1 << 20
"""Bytes read at a time."""

LinkFunction = Callable[[str], None]
"""Links a finished file at the path."""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version that is ready to be assembled: all of its bytes are flushed."""

    paths: ImagePaths
    manifest: Manifest
    """ID and time are filled in when the version is assembled."""
    id_digits: str
    """Hexadecimal; the first eight end the version's ID."""
    image: LinkFunction | None
    boot_files: Mapping[str, LinkFunction]
    staged_duplicate: Version | None = None
    """A waiting version with the same content, which is published in its place."""
    replaces_damaged: bool = False
    """Whether the current version had the same content and is damaged now, so that nobody should revert to it."""

    def assemble(self, *, staged: bool = False) -> Version:
        """A new complete version, durable and not yet current. If anything fails, no part of the version stays."""
        paths = self.paths
        now = datetime.fromtimestamp(int(time.time()), UTC)
        existing = filter(is_version_id, {*files.list_names(paths.versions), *files.list_names(paths.boot)})
        version_id = new_version_id(now, self.id_digits, existing)
        files.make_directories(paths.versions, DIRECTORY_MODE)
        files.make_directories(paths.boot, DIRECTORY_MODE)
        try:
            directories = [paths.version(version_id)]
            if self.boot_files:
                directories.append(paths.boot_version(version_id))
            for directory in directories:
                files.make_directories(directory, DIRECTORY_MODE)
            if self.image:
                self.image(paths.version_image(version_id))
            for name, link in self.boot_files.items():
                path = join(paths.boot_version(version_id), name)
                if os.path.dirname(path) not in directories:
                    directories.append(os.path.dirname(path))
                    files.make_directories(directories[-1], DIRECTORY_MODE)
                link(path)
            if staged:
                files.create_file(paths.staged(version_id), b"", PUBLIC_MODE)
            for directory in directories:
                files.sync_directory(directory)
            manifest = replace(self.manifest, version=version_id, created=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
            files.create_file(paths.manifest(version_id), manifest.to_json(), PUBLIC_MODE)
            files.sync_directory(paths.version(version_id))
        except BaseException:
            remove_version(paths, version_id)
            raise
        return Version.load(paths, version_id)


def record_source(version: Version, source: SourceFacts) -> Version:
    """The same version with this source in its manifest; durable and atomic.

    If a source moves and its content stays the same, no version is created, but the next build must find the new place.
    """
    if version.manifest.source == source:
        return version
    paths, version_id = version.paths, version.id
    files.replace_file(paths.manifest(version_id), replace(version.manifest, source=source).to_json(), PUBLIC_MODE)
    return Version.load(paths, version_id)


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


def make_hard_linker(path: str) -> LinkFunction:
    """Links the file at this path; if that is a symbolic link, the link itself."""
    return lambda new: os.link(path, new, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class BootFile:
    """A boot file that is written and flushed, but has no name yet."""

    facts: FileFacts
    unnamed_file: files.UnnamedFile

    def link(self, path: str) -> None:
        self.unnamed_file.link(path, PUBLIC_MODE)


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


def link_boot_files(new: Mapping[str, BootFile], current: Version | None) -> dict[str, LinkFunction]:
    """How to link the files into a version; files that are the same in the current version are shared with it."""
    return {
        name: make_hard_linker(current.file(name))
        if current and read_facts_if_present(current.file(name)) == file.facts
        else file.link
        for name, file in new.items()
    }


def list_facts(new: Mapping[str, BootFile]) -> dict[str, FileFacts]:
    return {name: file.facts for name, file in new.items()}


def _copy_boot_file(stack: ExitStack, paths: ImagePaths, name: str, content: Content) -> BootFile:
    new = stack.enter_context(files.create_unnamed_file(paths.boot))
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
