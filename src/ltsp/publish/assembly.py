"""Putting a version together: its directories, its files linked into them, and its manifest last."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from os.path import join

from ltsp.host import files
from ltsp.publish import version as versions
from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Manifest, Source
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, Places
from ltsp.publish.switch import remove

Link = Callable[[str], None]
"""Gives a finished file one more name, the path."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a version is put together of."""

    manifest: Manifest
    """Version and time are filled in when the version is made."""
    digits: str
    """Begins with what ends the version's name."""
    image: Link | None
    boot_files: Mapping[str, Link]


def assemble(places: Places, parts: Parts, *, staged: bool = False) -> Generation:
    """A new complete version, durable and not yet current. Whatever fails, no part of the version stays."""
    now = datetime.fromtimestamp(int(time.time()), UTC)
    existing = filter(versions.is_version, {*files.entries(places.versions), *files.entries(places.boot)})
    version = versions.new(now, parts.digits, existing)
    files.make_directories(places.versions, DIRECTORY_MODE)
    files.make_directories(places.boot, DIRECTORY_MODE)
    try:
        directories = [places.version(version)]
        if parts.boot_files:
            directories.append(places.boot_version(version))
        for directory in directories:
            files.make_directories(directory, DIRECTORY_MODE)
        if parts.image:
            parts.image(places.version_image(version))
        for name, link in parts.boot_files.items():
            path = join(places.boot_version(version), name)
            if os.path.dirname(path) not in directories:
                directories.append(os.path.dirname(path))
                files.make_directories(directories[-1], DIRECTORY_MODE)
            link(path)
        if staged:
            files.create(places.staged(version), b"", PUBLIC_MODE)
        for directory in directories:
            files.sync_directory(directory)
        manifest = replace(parts.manifest, version=version, created=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        files.create(places.manifest(version), manifest.to_json(), PUBLIC_MODE)
        files.sync_directory(places.version(version))
    except BaseException:
        remove(places, version)
        raise
    return Generation.load(places, version)


def record_source(generation: Generation, source: Source) -> Generation:
    """The same version, with a manifest that says it was made from this source; durable, in one step.

    A source may move and its content stay: then no version is made, and the next build has to find where it is now.
    """
    if generation.manifest.source == source:
        return generation
    places, version = generation.places, generation.version
    files.replace(places.manifest(version), replace(generation.manifest, source=source).to_json(), PUBLIC_MODE)
    return Generation.load(places, version)


def another_name_of(path: str) -> Link:
    """The file at the path itself, also where that is a symbolic link."""
    return lambda new: os.link(path, new, follow_symlinks=False)
