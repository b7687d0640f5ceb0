"""A file of somebody else's that lies where ours is to go becomes a version of its own, by a hard link."""

from __future__ import annotations

import errno
import hashlib
from os.path import join

from ltsp.host import files
from ltsp.publish.assembly import Parts, another_name_of, assemble
from ltsp.publish.boot_files import facts_of
from ltsp.publish.generation import Generation
from ltsp.publish.manifest import ImageFacts, Kernel, Manifest, Origin, Source
from ltsp.publish.paths import INITRD, KERNEL
from ltsp.publish.state import Foreign, State

_UNLINKABLE = {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP}
"""Another owner's (protected_hardlinks), too many links, a mount point, or no hard links there. link(2)"""


def adopt(state: State, foreign: Foreign) -> Generation | None:
    """The version that holds the foreign file and, if clients booted it as NAME.img, its kernel too.

    None where it cannot be linked.
    """
    is_current = foreign == state.image
    boot_files, kernel = _boot_files(state) if is_current else ({}, None)
    facts = ImageFacts(foreign.size, sha256="", codec="", linked=foreign.linked)
    manifest = Manifest(
        state.places.name,
        version="",
        created="",
        origin=Origin.FOREIGN,
        source=Source("", "foreign"),
        image=facts,
        kernel=kernel,
        files={name: facts_of(path) for name, path in boot_files.items()},
    )
    # A disk of many gigabytes is not read for the sake of its name.
    digits = hashlib.sha256(f"{foreign.size} {foreign.mtime}".encode()).hexdigest()
    links = {name: another_name_of(path) for name, path in boot_files.items()}
    try:
        return assemble(state.places, Parts(manifest, digits, another_name_of(foreign.path), links))
    except OSError as error:
        if error.errno in _UNLINKABLE:
            return None
        raise


def _boot_files(state: State) -> tuple[dict[str, str], Kernel | None]:
    """What NAME.img boots with: the files of a version that was made for it, or plain files, as older servers have."""
    current = state.current
    if current is not None and current.manifest.image is None:
        return {name: current.file(name) for name in current.manifest.files}, current.manifest.kernel
    plain = {name: join(state.places.boot, name) for name in (KERNEL, INITRD)}
    return {name: path for name, path in plain.items() if files.is_regular(path)}, None
