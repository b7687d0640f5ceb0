"""Adopting a foreign NAME.img or NAME.img.old, before it is replaced, as a version, by a hard link."""

from __future__ import annotations

import errno
import hashlib
from os.path import join

from ltsp.host import files
from ltsp.publish.assembly import VersionParts, assemble_version, hard_link_to
from ltsp.publish.boot_files import read_file_facts
from ltsp.publish.manifest import ImageFacts, KernelFacts, Manifest, Origin, SourceFacts
from ltsp.publish.paths import INITRD, KERNEL
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.version import Version

_UNLINKABLE = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP}
"""Another owner's file (protected_hardlinks), too many links, a mount point, or no hard links. link(2)"""


def adopt_foreign_image(state: ImageState, foreign: ForeignImage) -> Version | None:
    """A version with the foreign file and, if it was NAME.img, its kernel; None if it cannot be hard-linked."""
    is_current = foreign == state.image
    boot_files, kernel = _find_boot_files(state) if is_current else ({}, None)
    facts = ImageFacts(foreign.size, sha256="", codec="", linked=foreign.linked)
    manifest = Manifest(
        state.paths.name,
        version="",
        created="",
        origin=Origin.FOREIGN,
        source=SourceFacts("", "foreign"),
        image=facts,
        kernel=kernel,
        files={name: read_file_facts(path) for name, path in boot_files.items()},
    )
    # Do not read many gigabytes only for the digits of an ID.
    digits = hashlib.sha256(f"{foreign.size} {foreign.mtime}".encode()).hexdigest()
    links = {name: hard_link_to(path) for name, path in boot_files.items()}
    try:
        return assemble_version(state.paths, VersionParts(manifest, digits, hard_link_to(foreign.path), links))
    except OSError as error:
        if error.errno in _UNLINKABLE:
            return None
        raise


def _find_boot_files(state: ImageState) -> tuple[dict[str, str], KernelFacts | None]:
    """The boot files for NAME.img: those of a version published for it, or plain files, as on older servers."""
    current = state.current
    if current is not None and current.manifest.image is None:
        return {name: current.file(name) for name in current.manifest.files}, current.manifest.kernel
    plain = {name: join(state.paths.boot, name) for name in (KERNEL, INITRD)}
    return {name: path for name, path in plain.items() if files.is_regular(path)}, None
