"""Links in TFTP_DIR to the boot files of an image for Raspberry Pis, whose firmware looks for them at the top.

Links for a chroot point into it, where an administrator edits cmdline.txt and config.txt. A chroot is not trusted: only
its regular files are linked, and no symbolic link in it is followed. For any other source, such as a downloaded disk
image, the files are part of the image's versions, and the links point to the current version.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import join, relpath

from ltsp.boot.raspberry import DIRECTORIES, has_firmware, is_public, no_boot_files_error
from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.firmware_links import FIRMWARE, find_links, image_of_link, remove_links
from ltsp.publish.paths import DIRECTORY_MODE, ImagePaths
from ltsp.settings import naming
from ltsp.tree.content import Content
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class LinkedBootFiles:
    links: tuple[str, ...]
    """Paths below TFTP_DIR that are now links to the boot files."""
    in_the_way: tuple[str, ...]
    """Paths below TFTP_DIR that hold a file not made by ltsp, which was left alone."""


def find_boot_directory(base_dir: str, name: str) -> str:
    """The firmware directory of the chroot BASE_DIR/NAME; empty if there is no such chroot.

    Raises LtspError if the chroot has no boot files for a Pi.
    """
    chroot = join(base_dir, naming.check_name(name))
    if os.path.islink(join(chroot, "boot")):
        raise LtspError(
            f"cannot serve {printable(chroot)}/boot to Raspberry Pis: it is a symbolic link",
            "replace it by a directory; symbolic links are not followed here",
        )
    if not os.path.isdir(join(chroot, "boot")):
        return ""
    for path in (join(chroot, directory) for directory in DIRECTORIES):
        if not os.path.islink(path) and has_firmware(files.list_names(path)):
            return path
    raise no_boot_files_error(printable(chroot))


def names_in_version(contents: Mapping[str, Content]) -> dict[str, Content]:
    """The files by their names in a version."""
    return {FIRMWARE + path: content for path, content in contents.items()}


def link_boot_files(base_dir: str, tftp_dir: str, name: str, published: Sequence[str] = ()) -> LinkedBootFiles:
    """Link the boot files of the chroot BASE_DIR/NAME into TFTP_DIR, and remove the links of earlier runs.

    Without such a chroot, link those of the image's current version, whose files are `published`.
    Raises LtspError if there are no boot files, or they cannot be linked.
    """
    boot = find_boot_directory(base_dir, name)
    paths = ImagePaths(name, base_dir, tftp_dir)
    with translate_os_errors("link the boot files of", paths):
        wanted = dict(_list_plain_files(boot)) if boot else dict(_list_version_files(paths, published))
        if not wanted:
            raise no_boot_files_error(printable(name))
        others = [path for path, _ in find_links(base_dir, tftp_dir) if relpath(path, tftp_dir) not in wanted]
        remove_links(tftp_dir, others)
        linked: list[str] = []
        in_the_way: list[str] = []
        for path, target in sorted(wanted.items()):
            link = join(tftp_dir, path)
            if os.path.lexists(link) and not image_of_link(base_dir, tftp_dir, link):
                in_the_way.append(path)
                continue
            files.make_directories(os.path.dirname(link), DIRECTORY_MODE)
            files.replace_by_symlink(link, target)
            linked.append(path)
        for directory in sorted({os.path.dirname(join(tftp_dir, path)) for path in linked}):
            files.sync_directory(directory)
        return LinkedBootFiles(tuple(linked), tuple(in_the_way))


def _list_plain_files(boot: str) -> Iterator[tuple[str, str]]:
    """The relative and the absolute path of each public regular file."""
    for directory, _, names in os.walk(boot):
        for name in names:
            path = join(directory, name)
            if files.is_regular(path) and is_public(relpath(path, boot)):
                yield relpath(path, boot), path


def _list_version_files(paths: ImagePaths, published: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Path below TFTP_DIR and link target; relative, since a TFTP server may use TFTP_DIR as its root directory."""
    for path in (name.removeprefix(FIRMWARE) for name in published if name.startswith(FIRMWARE)):
        at = join(paths.tftp_dir, os.path.dirname(path))
        yield path, relpath(join(paths.current, FIRMWARE, path), at)
