"""A file or block device as a source. What it is, a squashfs, a disk or an archive, is detected from its content."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from ltsp.disk import image, probe
from ltsp.disk.format import vmdk
from ltsp.errors import LtspError, SourceError, UsageError
from ltsp.sandbox.client import SandboxReader
from ltsp.source.source import Kept, Source
from ltsp.source.spec import DiskOptions, ImageSpec, check_no_disk_options
from ltsp.source.squashfs import SquashfsSource
from ltsp.storage.blocks import FileBlocks
from ltsp.tree.name import decode, encode, printable

_ARCHIVE: Final = "an archive"
_SQUASHFS: Final = "a squashfs"
_DISK: Final = "a disk"
"""Also anything unrecognized: its reader reports what it finds."""

_HEAD_SIZE: Final = 1024
_DMG_TRAILER_SIZE, _DMG_MAGIC = 512, b"koly"
"""The trailer of a macOS disk image. dmg2img, dmg2img.h"""
_FORMATS_BY_SUFFIX: Final = {
    ".qcow2": image.QCOW2,
    ".vdi": image.VDI,
    ".vhd": image.VHD,
    ".vhdx": image.VHDX,
    ".vmdk": image.VMDK,
}
"""File name suffixes that stand for exactly one format."""
_DOWNLOAD_AGAIN_HINT: Final = "copy or download it again, or unpack it if it is an archive"
_FLAT_SUFFIX: Final = "-flat.vmdk"
"""Suffix of the raw disk that a VMDK descriptor next to it refers to."""


def source_from_file(
    path: str,
    name: str,
    image_spec: ImageSpec,
    disks: DiskOptions,
    *,
    require_system: bool = False,
    required_path: str = "",
    keep: ExitStack | None = None,
) -> Source:
    """A file as a source; with `require_system`, it has to contain a system, or `required_path`.

    The process that looked into it is kept until the source is opened or `keep` closes.
    Raises LtspError if its content is not supported.
    """
    with ExitStack() as here:
        found = _look_into(path, here if keep is None else keep)
        if found.kind == _ARCHIVE:
            from ltsp.source.archive import ArchiveSource  # noqa: PLC0415 -- other sources do without, as below

            check_no_disk_options(path, image_spec)
            return ArchiveSource(name, path, kept=found.started)
        if found.kind not in {_DISK, _SQUASHFS}:
            raise SourceError(
                f"{printable(path)} is not supported as a source: it holds {probe.describe_kind(found.kind)}",
                probe.get_remedy(found.kind).replace("FILE", shlex.quote(printable(path))),
            )
        if found.kind == _DISK or image_spec.partition or image_spec.disks:
            from ltsp.source.disk.disk import disk_source  # noqa: PLC0415

            with _explain_name(found.misnamed):
                return disk_source(
                    path,
                    name,
                    image_spec,
                    disks,
                    require_system=require_system,
                    required_path=required_path,
                    keep=keep,
                    kept_reader=found.started,
                )
    if image_spec.fstype not in ("", "auto", "squashfs"):
        what = f"fstype={printable(image_spec.fstype)} does not apply to {printable(path)}, which is a squashfs"
        raise UsageError(what)
    return SquashfsSource(name, path)


@dataclass(frozen=True, slots=True)
class _FileKind:
    kind: str
    """_ARCHIVE, _SQUASHFS, _DISK, or another kind, in a word of `probe.FORMATS`."""
    misnamed: str
    """The format that its name claims, if its content is of no known format."""
    started: Kept[SandboxReader] | None = None
    """The process that looked into it, if it took one."""


def _look_into(path: str, keep: ExitStack) -> _FileKind:
    """Raises LtspError."""
    shown = printable(path)
    try:
        mode = os.stat(encode(path)).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise LtspError(f"{shown} is not a file, disk or directory", "name a chroot, a VM disk or an image")
        with open(encode(path), "rb") as file:
            found = _FileKind(_detect_kind(file), _find_misnamed_format(path, file))
            if not stat.S_ISREG(mode) or found.kind == _SQUASHFS:
                return found
            from ltsp.source.archive import check_archive  # noqa: PLC0415

            is_archive, started = check_archive(file, shown, keep)
            return replace(found, kind=_ARCHIVE if is_archive else found.kind, started=started)
    except OSError as error:
        links = os.path.islink(encode(path))
        target = f", which links to {printable(decode(os.readlink(encode(path))))}" if links else ""
        raise SourceError(f"cannot read {shown}{target}: {error.strerror}") from error


@contextmanager
def _explain_name(misnamed: str) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        if misnamed:
            hint = f"it is named like a {misnamed} disk but is not one: {_DOWNLOAD_AGAIN_HINT}"
            raise SourceError(error.message, hint) from error
        raise


def _detect_kind(file: BinaryIO) -> str:
    """SQUASHFS, DISK, or another kind, in a word of `probe.FORMATS`. Raises SourceError."""
    blocks = FileBlocks.of(file)
    volume = probe.detect_kind(blocks)
    if volume == probe.SQUASHFS:
        return _SQUASHFS
    head = blocks.read_at(0, _HEAD_SIZE)
    if volume not in {probe.NOTHING, probe.UNKNOWN} or head.startswith(vmdk.DESCRIPTOR_MAGIC):
        return _DISK  # whatever precedes its file system: an ISO may begin with a boot loader
    if not head:
        return probe.NOTHING
    if blocks.read_at(max(blocks.size - _DMG_TRAILER_SIZE, 0), len(_DMG_MAGIC)) == _DMG_MAGIC:
        return "dmg"
    other = next((kind for at, magic, kind in probe.FILE_MAGICS if head.startswith(magic, at)), "")
    return other or (probe.TEXT if _is_text(head) else _DISK)


def _find_misnamed_format(path: str, file: BinaryIO) -> str:
    """The format that a file's name claims, if its content is of no known format; else empty. Raises SourceError."""
    said = _FORMATS_BY_SUFFIX.get(os.path.splitext(path)[1].lower(), "")
    if not said or path.lower().endswith(_FLAT_SUFFIX) or image.detect_format(FileBlocks.of(file)) != image.RAW:
        return ""
    return said


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
