"""The image for Raspberry Pis: its boot files, and the links in TFTP_DIR where the firmware of a Pi looks for them.

Links for a chroot point into it, where an administrator edits cmdline.txt and config.txt. A chroot is not trusted: only
its regular files are linked, and no symbolic link in it is followed. For any other source, such as a downloaded disk
image, the files are part of the image's versions, and the links point to the current version.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os.path import abspath, join, relpath

from ltsp.boot.raspberry import (
    CMDLINE_FILE,
    FIRMWARE_DIRECTORIES,
    find_firmware_files,
    find_local_root,
    has_firmware,
    is_public,
    no_boot_files_error,
)
from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.host.files import read_server_file
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.paths import ImagePaths
from ltsp.publish.raspberry import FIRMWARE_PREFIX, LinkedBootFiles, replace_links
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings import naming
from ltsp.settings.image_options import ImageOptions, KernelOptions
from ltsp.settings.naming import closest_name
from ltsp.source.names import list_base_dir_names
from ltsp.tree.content import Content
from ltsp.tree.name import decode, printable
from ltsp.tree.tree import Tree


def missing_rpi_image_warning(name: str, of_run: Iterable[str], store: Store) -> str:
    """A warning if there is neither an image nor a source with the name of RPI_IMAGE; else empty.

    It may be an image to come, so it is not an error. `of_run` are the images that this run will publish.
    """
    known = {*of_run, *store.names(), *list_base_dir_names(store.base_dir)}
    if not name or name in known:
        return ""
    near = closest_name(name, known)
    return (
        f"no image {name!a} for Raspberry Pis yet (RPI_IMAGE or --rpi-image); known images: "
        f"{', '.join(map(printable, sorted(known))) or 'none'}{f'; did you mean {printable(near)}?' if near else ''}"
    )


def find_raspberry_firmware(
    options: ImageOptions | KernelOptions, base_dir: str, name: str, tree: Tree
) -> Mapping[str, Content]:
    """The boot files for Raspberry Pis, by name in the version; empty if they boot from a chroot's files.

    Raises LtspError if the image is RPI_IMAGE and has no such files.
    """
    if options.rpi_image != name or find_boot_directory(base_dir, name):
        return {}
    found = find_firmware_files(tree)
    if not found:
        raise no_boot_files_error(name)
    return {FIRMWARE_PREFIX + path: content for path, content in found.items()}


def link_raspberry_files(store: Store, name: str, report: Report) -> None:
    current = store.current(name)
    published = tuple(current.manifest.files) if current else ()
    linked = link_boot_files(store.base_dir, store.tftp_dir, name, published)
    report.note(f"linked {len(linked.links)} boot files for Raspberry Pis into {printable(store.tftp_dir)}")
    for path in linked.foreign_paths:
        report.warn(
            f"{printable(store.tftp_dir)}/{printable(path)} was not created by ltsp, so it was kept; "
            "Raspberry Pis get that file"
        )
    cmdline = abspath(join(store.tftp_dir, CMDLINE_FILE))
    if root := find_local_root(decode(read_server_file(cmdline) or b"")):
        what = f"{printable(cmdline)} has root={printable(root)}, which is on the card or disk of a Raspberry Pi"
        report.warn(f"{what}: to boot without it, set another root, such as root=/dev/nfs")


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
        return replace_links(base_dir, tftp_dir, wanted)


def find_boot_directory(base_dir: str, name: str) -> str:
    """The firmware directory of the chroot BASE_DIR/NAME; empty if there is no such chroot.

    Raises LtspError if the chroot has no boot files for a Pi.
    """
    chroot = join(base_dir, naming.check_name(name))
    if os.path.islink(join(chroot, "boot")):
        raise LtspError(
            f"cannot serve {printable(chroot)}/boot to Raspberry Pis: it is a symbolic link",
            "replace it with a directory: symbolic links are not followed here",
        )
    if not os.path.isdir(join(chroot, "boot")):
        return ""
    for path in (join(chroot, directory) for directory in FIRMWARE_DIRECTORIES):
        if not os.path.islink(path) and has_firmware(files.list_names(path)):
            return path
    raise no_boot_files_error(printable(chroot))


def _list_plain_files(boot: str) -> Iterator[tuple[str, str]]:
    """The relative and the absolute path of each public regular file."""
    for directory, _, names in os.walk(boot):
        for name in names:
            path = join(directory, name)
            if files.is_regular(path) and is_public(relpath(path, boot)):
                yield relpath(path, boot), path


def _list_version_files(paths: ImagePaths, published: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Path below TFTP_DIR and link target; relative, since a TFTP server may use TFTP_DIR as its root directory."""
    for path in (name.removeprefix(FIRMWARE_PREFIX) for name in published if name.startswith(FIRMWARE_PREFIX)):
        at = join(paths.tftp_dir, os.path.dirname(path))
        yield path, relpath(join(paths.current, FIRMWARE_PREFIX, path), at)
