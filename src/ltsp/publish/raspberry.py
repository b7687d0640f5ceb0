"""Links at the top of TFTP_DIR to the boot files of an image for Raspberry Pis, whose firmware looks for them there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from os.path import join, normpath, relpath

from ltsp.host import files
from ltsp.publish.paths import DIRECTORY_MODE, ImagePaths

FIRMWARE_PREFIX = "firmware/"
"""The directory of a version that the links point to."""


@dataclass(frozen=True, slots=True)
class LinkedBootFiles:
    links: tuple[str, ...]
    """Paths below TFTP_DIR that are now links to the boot files."""
    foreign_paths: tuple[str, ...]
    """Paths below TFTP_DIR that hold a file not made by ltsp, which was left alone."""


def replace_links(base_dir: str, tftp_dir: str, wanted: Mapping[str, str]) -> LinkedBootFiles:
    """Link each path below TFTP_DIR to its target, and remove the links of earlier runs."""
    others = [path for path, _ in find_links(base_dir, tftp_dir) if relpath(path, tftp_dir) not in wanted]
    remove_links(tftp_dir, others)
    linked: list[str] = []
    foreign_paths: list[str] = []
    for path, target in sorted(wanted.items()):
        link = join(tftp_dir, path)
        if os.path.lexists(link) and not find_image_of_link(base_dir, tftp_dir, link):
            foreign_paths.append(path)
            continue
        files.make_directories(os.path.dirname(link), DIRECTORY_MODE)
        files.replace_by_symlink(link, target)
        linked.append(path)
    for directory in sorted({os.path.dirname(join(tftp_dir, path)) for path in linked}):
        files.sync_directory(directory)
    return LinkedBootFiles(tuple(linked), tuple(foreign_paths))


def find_image_of_link(base_dir: str, tftp_dir: str, link: str) -> str:
    """The image whose boot files a link made by ltsp points to; empty for other links.

    Such a link points below BASE_DIR/NAME/boot, or to the firmware of the current version.
    """
    try:
        target = os.readlink(link)
    except OSError:
        return ""
    if target.startswith("/"):
        parts = relpath(target, base_dir).split("/")
        return parts[0] if len(parts) > 2 and parts[0] != ".." and parts[1] == "boot" else ""
    parts = relpath(normpath(join(os.path.dirname(link), target)), tftp_dir).split("/")
    return (
        parts[1]
        if len(parts) > 4 and [parts[0], *parts[2:4]] == ["ltsp", "current", FIRMWARE_PREFIX.rstrip("/")]
        else ""
    )


def find_links(base_dir: str, tftp_dir: str) -> Iterator[tuple[str, str]]:
    """The links of earlier runs, each with its image."""
    for directory, directories, names in os.walk(tftp_dir):
        if directory == tftp_dir and "ltsp" in directories:
            directories.remove("ltsp")
        for path in (join(directory, name) for name in names):
            if image := find_image_of_link(base_dir, tftp_dir, path):
                yield path, image


def find_links_of_image(paths: ImagePaths) -> list[str]:
    """The links in TFTP_DIR to an image's boot files."""
    return [path for path, image in find_links(paths.base_dir, paths.tftp_dir) if image == paths.name]


def remove_links(tftp_dir: str, paths: Iterable[str]) -> None:
    """Remove these links, and the directories that are then empty."""
    removed = list(paths)
    for link in removed:
        with suppress(FileNotFoundError):
            os.unlink(link)
    for directory in {os.path.dirname(link) for link in removed} - {tftp_dir}:
        if not os.listdir(directory):
            os.rmdir(directory)
