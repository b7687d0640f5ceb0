"""Links in TFTP_DIR to the boot files of a chroot for Raspberry Pis, whose firmware looks for them at the top.

A chroot is not trusted to lead anywhere: only its plain files are linked, and no symbolic link in it is followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import join

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish.failure import told
from ltsp.publish.places import DIRECTORY_MODE
from ltsp.settings import image_name
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class Linked:
    links: tuple[str, ...]
    """Paths below TFTP_DIR that lead to the boot files now."""
    in_the_way: tuple[str, ...]
    """Paths below TFTP_DIR where somebody's own file is, which stays."""


def link_boot_files(base_dir: str, tftp_dir: str, name: str) -> Linked:
    """Link BASE_DIR/NAME/boot into TFTP_DIR, and remove the links of earlier runs that lead nowhere.

    Raises LtspError where there is no such directory or the links cannot be made.
    """
    boot = join(base_dir, image_name.checked(name), "boot")
    if os.path.islink(boot) or not os.path.isdir(boot):
        raise LtspError(f"no directory {printable(boot)} for Raspberry Pis", "RPI_IMAGE names a chroot below BASE_DIR")
    with told("link the boot files of", name):
        wanted = dict(_plain_files(boot))
        _remove_dangling(base_dir, tftp_dir)
        linked: list[str] = []
        in_the_way: list[str] = []
        for path, target in sorted(wanted.items()):
            link = join(tftp_dir, path)
            if os.path.lexists(link) and not _is_ours(base_dir, link):
                in_the_way.append(path)
                continue
            files.make_directories(os.path.dirname(link), DIRECTORY_MODE)
            files.replace_by_symlink(link, target)
            linked.append(path)
        for directory in sorted({os.path.dirname(join(tftp_dir, path)) for path in linked}):
            files.sync_directory(directory)
        return Linked(tuple(linked), tuple(in_the_way))


def _plain_files(boot: str) -> Iterator[tuple[str, str]]:
    """Path relative to the directory, and absolute."""
    for directory, _, names in os.walk(boot):
        for name in names:
            path = join(directory, name)
            if files.is_regular(path):
                yield os.path.relpath(path, boot), path


def _is_ours(base_dir: str, link: str) -> bool:
    """Whether an earlier run made the link: it leads below some BASE_DIR/NAME/boot."""
    try:
        target = os.readlink(link)
    except OSError:
        return False
    parts = os.path.relpath(target, base_dir).split("/") if target.startswith("/") else []
    return len(parts) > 2 and parts[0] != ".." and parts[1] == "boot"


def _remove_dangling(base_dir: str, tftp_dir: str) -> None:
    for directory, directories, names in os.walk(tftp_dir):
        if directory == tftp_dir and "ltsp" in directories:
            directories.remove("ltsp")
        for name in names:
            link = join(directory, name)
            if _is_ours(base_dir, link) and not os.path.exists(link):
                os.unlink(link)
