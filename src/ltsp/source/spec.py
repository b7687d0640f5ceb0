"""What a source is asked to be: the notation for one of several parts, and the options for disks.

The notation is `img1,options,,img2,options,,…`. ltsp-ipxe(8)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Self

from ltsp.errors import UsageError
from ltsp.settings.image_options import SourceOptions
from ltsp.source.location import is_path
from ltsp.tree.name import encode, printable

_OWN_OPTIONS = ("disk", "fstype", "partition", "subdir")
"""Options that are not for mount(8); they may appear anywhere among those that are."""
SUBVOLUME = "subvol="
"""The one option for mount(8) that affects which files are read."""
_NO_EFFECT = frozenset({"ro", "loop", "defaults", "noload", "norecovery", "nodev", "nosuid", "noexec"})
"""Options for mount(8) that change nothing: nothing is mounted, and nothing is written."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """One part."""

    image: str
    """A path; for the first part also a simple name, for others also a path relative to the parts before."""
    subdir: str = ""
    """The directory that it covers, relative to the root of the tree."""
    fstype: str = ""
    partition: str = ""
    disks: tuple[str, ...] = ()
    """Other disks of the same system, in the machine's order; a plain name is relative to the first disk."""
    options: tuple[str, ...] = ()
    """For mount(8), without those that change nothing."""

    @classmethod
    def parse(cls, text: str) -> ImageSpec:
        """`IMAGE,OPTIONS`. Raises UsageError."""
        image, *words = text.split(",")
        if not image:
            raise UsageError("a part of the source has no name", "write IMAGE,OPTIONS,,IMAGE,OPTIONS")
        values: dict[str, str] = {}
        disks: list[str] = []
        options: list[str] = []
        for word in filter(None, words):
            key, equals, value = word.partition("=")
            if not equals or key not in _OWN_OPTIONS:
                if word not in _NO_EFFECT:
                    options.append(word)
            elif key == "disk":
                if not value:
                    raise UsageError(f"disk= for {printable(image)} names no file", f"write {image},disk=FILE")
                disks.append(value)
            elif key in values:
                raise UsageError(f"{key}= is given twice for {printable(image)}")
            else:
                values[key] = value
        return cls(
            image,
            subdir=_parse_subdir(values.get("subdir", "")),
            fstype=values.get("fstype", ""),
            partition=values.get("partition", ""),
            disks=tuple(disks),
            options=tuple(options),
        )


def parse(text: str) -> list[ImageSpec]:
    """The parts of a source, at least one.

    Raises UsageError.
    """
    image_specs = [ImageSpec.parse(part) for part in text.split(",,")]
    if image_specs[0].subdir:
        raise UsageError(
            f"subdir={printable(image_specs[0].subdir)} is not allowed on the first part of the source",
            "the first part is the root; only later parts are placed in its directories",
        )
    return image_specs


def is_same_source(text: str, other: str) -> bool:
    """Whether two sources are the same, ignoring options that do not affect which files are read.

    Raises UsageError.
    """
    return _normalize(text) == _normalize(other)


def _normalize(text: str) -> list[ImageSpec]:
    def find_subvolume_options(image_spec: ImageSpec) -> tuple[str, ...]:
        return tuple(option for option in image_spec.options if option.startswith(SUBVOLUME))

    return [replace(image_spec, fstype="", options=find_subvolume_options(image_spec)) for image_spec in parse(text)]


def check_no_disk_options(path: str, image_spec: ImageSpec) -> None:
    """Raises UsageError if disk options are given for an archive."""
    for option, value in (
        ("fstype", image_spec.fstype),
        ("partition", image_spec.partition),
        ("disk", ",".join(image_spec.disks)),
    ):
        if value:
            raise UsageError(
                f"{option}={printable(value)} does not apply to {printable(path)}, which is not a disk",
                f"omit {option}=",
            )


def _parse_subdir(subdir: str) -> str:
    """The path without empty and dot parts; `..` is refused, since its meaning would depend on links."""
    names = [name for name in subdir.split("/") if name not in ("", ".")]
    if ".." in names:
        raise UsageError(
            f"subdir={printable(subdir)} contains ..", "give the directory's path in the source without .."
        )
    return "/".join(names)


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """How disks may be read."""

    allowed_directories: tuple[str, ...] = ()
    """Directories below which a disk may also refer to files."""
    force: bool = False
    """Whether to read disks that others write to."""
    reader: str = "auto"
    """What reads file systems: `user`, `kernel`, or `auto`, which tries the former first."""
    key_file: str = ""
    """The key file for encrypted volumes; empty if they stay locked."""

    @classmethod
    def of(cls, options: SourceOptions) -> Self:
        """Raises UsageError for a directory that does not exist, or is not given as a path."""
        for directory in options.allow_backing:
            if not is_path(directory):
                raise UsageError(f"--allow-backing: {printable(directory)} is not a path", "a path begins with / or .")
            if not os.path.isdir(encode(directory)):
                raise UsageError(f"--allow-backing: no such directory: {printable(directory)}")
        return cls(options.allow_backing, options.force, options.reader, options.key_file or "")


DEFAULT_OPTIONS = DiskOptions()
"""The defaults, which allow nothing special."""
