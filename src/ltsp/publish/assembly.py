"""Assembling a version: its directories, its files linked into them, and its manifest last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os.path import join

from ltsp.host import files
from ltsp.publish import version as versions
from ltsp.publish.manifest import Manifest, SourceFacts
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths
from ltsp.publish.switch import remove_version
from ltsp.publish.version import Version

LinkFunction = Callable[[str], None]
"""Links a finished file at the path."""


@dataclass(frozen=True, slots=True)
class VersionParts:
    """The parts that a version is assembled from."""

    manifest: Manifest
    """ID and time are filled in when the version is assembled."""
    digits: str
    """Hexadecimal; the first eight end the version's ID."""
    image: LinkFunction | None
    boot_files: Mapping[str, LinkFunction]


def assemble_version(paths: ImagePaths, parts: VersionParts, *, staged: bool = False) -> Version:
    """A new complete version, durable and not yet current. If anything fails, no part of the version stays."""
    now = datetime.fromtimestamp(int(time.time()), UTC)
    existing = filter(versions.is_version_id, {*files.list_names(paths.versions), *files.list_names(paths.boot)})
    version_id = versions.new_version_id(now, parts.digits, existing)
    files.make_directories(paths.versions, DIRECTORY_MODE)
    files.make_directories(paths.boot, DIRECTORY_MODE)
    try:
        directories = [paths.version(version_id)]
        if parts.boot_files:
            directories.append(paths.boot_version(version_id))
        for directory in directories:
            files.make_directories(directory, DIRECTORY_MODE)
        if parts.image:
            parts.image(paths.version_image(version_id))
        for name, link in parts.boot_files.items():
            path = join(paths.boot_version(version_id), name)
            if os.path.dirname(path) not in directories:
                directories.append(os.path.dirname(path))
                files.make_directories(directories[-1], DIRECTORY_MODE)
            link(path)
        if staged:
            files.create(paths.staged(version_id), b"", PUBLIC_MODE)
        for directory in directories:
            files.sync_directory(directory)
        manifest = replace(parts.manifest, version=version_id, created=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        files.create(paths.manifest(version_id), manifest.to_json(), PUBLIC_MODE)
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
    files.replace(paths.manifest(version_id), replace(version.manifest, source=source).to_json(), PUBLIC_MODE)
    return Version.load(paths, version_id)


def hard_link_to(path: str) -> LinkFunction:
    """Links the file at this path; if that is a symbolic link, the link itself."""
    return lambda new: os.link(path, new, follow_symlinks=False)
