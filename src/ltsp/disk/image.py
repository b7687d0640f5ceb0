"""Open the disk in an image file of any format; the content decides the format, never the file name.

A file in no known format is a raw disk. What is on the disk is not examined here.
"""

from __future__ import annotations

import os
import posixpath
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

from ltsp.disk import probe
from ltsp.disk.format import qcow2, vdi, vhd, vhdx, vmdk
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage import compressed
from ltsp.storage.blocks import Blocks, FileBlocks, OpenSibling, free_bytes, read_pieces, write_sparse
from ltsp.tree.name import printable

_MAX_CHAIN_LENGTH: Final = 64
"""Disks in a backing chain; each costs a few stack frames."""
_MAX_UNPACKED_SIZE: Final = 1 << 40
"""Largest decompressed size in bytes, zeros included."""
_ALWAYS_ALLOWED_SIZE: Final = 4 << 30
_MAX_RATIO: Final = 2048
"""Decompressed size in bytes that is always allowed, and the allowed ratio above it: 300 MB for a disk of 600 GB."""
_RESERVED_SPACE: Final = 64 << 20
"""Bytes to leave free on the file system with the scratch file."""
_SCRATCH_DIRECTORY: Final = "/var/tmp"  # noqa: S108 - for files without a name; /tmp may be memory
_SPACE_CHECK_INTERVAL: Final = 64 << 20
"""Bytes written between two checks of the free space."""

RAW: Final = "raw"
QCOW2, VMDK, VDI, VHD, VHDX = "qcow2", "VMDK", "VDI", "VHD", "VHDX"
_FORMATS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, qcow2.MAGIC, QCOW2),
    (0, vmdk.SPARSE_MAGIC, VMDK),
    (0, vmdk.DESCRIPTOR_MAGIC, VMDK),
    (vdi.MAGIC_OFFSET, vdi.MAGIC, VDI),
    (0, vhdx.MAGIC, VHDX),
    (0, vhd.MAGIC, VHD),
)
_UNSUPPORTED_MAGICS: Final = (
    (b"QED\0", "qed"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"OOOO CMMM DDDD", "bochs"),
    (b"#!/bin/sh\n#V2.0 Format\n", "cloop"),
    (vmdk.REDO_MAGICS[0], "redo"),
    (vmdk.REDO_MAGICS[1], "redo"),
)
_QEMU_FORMATS: Final = {
    "qcow2": QCOW2,
    "vmdk": VMDK,
    "vdi": VDI,
    "vpc": VHD,
    "vhdx": VHDX,
    "raw": RAW,
    "host_device": RAW,
}
"""Formats by the names that QEMU stores as the backing format."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk; readable while its files are open."""

    blocks: Blocks
    format: str
    compression: str = ""
    """`gzip`, `bzip2`, `xz`, `zstd` or nothing."""
    sector_size: int = 0
    """Sector size in bytes, if the format records one."""
    backing_files: tuple[str, ...] = ()
    """Names of its backing files, nearest first."""
    warnings: tuple[str, ...] = ()
    """One line each, safe to print."""


def refuse_sibling(name: str) -> BinaryIO:
    """The `open_sibling` of an image that comes without other files."""
    raise SourceError(f"it needs another file, {printable(name)}", "put it into the same directory as the image")


def _find_scratch_directory() -> str:
    return os.environ.get("TMPDIR") or _SCRATCH_DIRECTORY


def make_scratch_file() -> BinaryIO:
    """An unnamed temporary file, removed when it is closed. Raises SourceError if it cannot be created."""
    directory = _find_scratch_directory()
    try:
        return tempfile.TemporaryFile(dir=directory, prefix="ltsp-")
    except OSError as error:
        raise SourceError(
            f"cannot create a file in {printable(directory)}: {error.strerror}",
            "set TMPDIR to a writable directory with enough free space",
        ) from error


def open_disk(
    file: BinaryIO,
    *,
    open_sibling: OpenSibling = refuse_sibling,
    make_scratch: Callable[[], BinaryIO] = make_scratch_file,
    heartbeat: Callable[[], None] = lambda: None,
) -> Disk:
    """The disk in a file. Files, also those of `open_sibling` and `make_scratch`, stay open while the disk is read.

    `make_scratch` creates the file that a compressed one is decompressed into; `heartbeat` is called for each piece.
    Messages do not name the file. Raises FormatError if the image is damaged or forged, SourceError if it is not
    supported or cannot be read, and whatever `open_sibling` raises.
    """
    blocks = FileBlocks.of(file)
    kind = _detect_compression(blocks)
    if not kind:
        return _BackingChain(open_sibling).open_layer(blocks, "")
    with ExitStack() as on_failure:
        file = make_scratch()
        on_failure.callback(file.close)
        blocks = _unpack(blocks, file, heartbeat)
        if _detect_compression(blocks):
            raise SourceError(f"it is compressed twice: a compressed file in a {kind} file", "unpack it first")
        disk = _BackingChain(open_sibling).open_layer(blocks, "")
        on_failure.pop_all()
    return replace(disk, compression=kind)


def _detect_compression(blocks: Blocks) -> str:
    return compressed.detect_compression(blocks.read_at(0, compressed.MAX_MAGIC_SIZE))


def detect_format(blocks: Blocks) -> str:
    """The format of the image. Raises SourceError for formats that are recognised but not supported."""
    head = blocks.read_at(0, 4096)
    for at, magic, kind in _FORMATS:
        if head.startswith(magic, at):
            return kind
    for magic, kind in _UNSUPPORTED_MAGICS:
        if head.startswith(magic):
            raise SourceError(f"it is {probe.describe_kind(kind)}", probe.get_remedy(kind))
    # A fixed VHD is a raw disk followed by one sector.
    return VHD if vhd.is_footer(blocks.read_at(max(blocks.size - vhd.FOOTER_SIZE, 0), vhd.FOOTER_SIZE)) else RAW


@dataclass(slots=True)
class _BackingChain:
    """A disk and its backing files."""

    open_sibling: OpenSibling
    names: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: set[tuple[int, int]] = field(default_factory=set)

    def open_layer(self, blocks: Blocks, expected: str) -> Disk:
        """`expected` is the format that the overlay above records, or empty: raw content must not choose its reader."""
        kind = expected if expected == RAW else detect_format(blocks)
        if expected and kind != expected:
            raise FormatError(f"its format is {kind}, but the overlay above it records {expected}")
        sector_size = 0
        self._check_loop(blocks)
        match kind:
            case "qcow2":
                header = qcow2.Qcow2Header.parse(blocks)
                if header.is_dirty:
                    self.warnings.append("the qcow2 image was not closed cleanly (its dirty bit is set)")
                blocks = qcow2.open_qcow2(blocks, header, self._open_backing)
            case "VMDK":
                if blocks.read_at(0, 4) == vmdk.SPARSE_MAGIC:
                    blocks = vmdk.open_sparse(blocks)
                else:
                    blocks = vmdk.open_descriptor(blocks, lambda name: self.open_sibling(self._locate_sibling(name)))
            case "VDI":
                blocks = vdi.open_vdi(blocks)
            case "VHD":
                blocks = vhd.open_vhd(blocks)
            case "VHDX":
                blocks, sector_size = vhdx.open_vhdx(blocks)
        return Disk(
            blocks, kind, sector_size=sector_size, backing_files=tuple(self.names), warnings=tuple(self.warnings)
        )

    def _check_loop(self, blocks: Blocks) -> None:
        """Raises FormatError if a disk is its own backing file."""
        if isinstance(blocks, FileBlocks) and blocks.descriptor >= 0:
            status = os.fstat(blocks.descriptor)
            if (status.st_dev, status.st_ino) in self.files:
                raise FormatError("its backing files form a loop")
            self.files.add((status.st_dev, status.st_ino))

    def _locate_sibling(self, name: str) -> str:
        """A name stored in the image, relative to the directory of the image."""
        return posixpath.join(posixpath.dirname(self.names[-1]), name) if self.names else name

    def _open_backing(self, name: str, kind: str) -> Blocks:
        if len(self.names) == _MAX_CHAIN_LENGTH:
            raise FormatError(f"its backing chain has more than {_MAX_CHAIN_LENGTH} files")
        name = self._locate_sibling(_parse_backing_path(name))
        file = FileBlocks.of(self.open_sibling(name))
        self.names.append(name)
        try:
            return self.open_layer(file, _translate_qemu_format(kind)).blocks
        except LtspError as error:
            if error.message.startswith("its backing file"):
                raise
            raise type(error)(f"its backing file {printable(name)}: {error.message}", error.hint) from error


def _parse_backing_path(name: str) -> str:
    """The path in QEMU's notation for a backing file.

    Raises SourceError if it is not a file.
    """
    scheme, colon, rest = name.partition(":")
    if colon and scheme.isalnum() and scheme.isascii():
        if scheme != "file":
            raise SourceError(
                f"its backing file is {printable(name[:80])}, which is not a local file",
                "convert it to a standalone disk with qemu-img convert",
            )
        return rest.removeprefix("//") if rest.startswith("///") else rest
    return name


def _translate_qemu_format(kind: str) -> str:
    if kind and kind not in _QEMU_FORMATS:
        raise SourceError(
            f"its backing format {printable(kind)} is not supported",
            "convert it to a standalone disk with qemu-img convert",
        )
    return _QEMU_FORMATS.get(kind, "")


def _unpack(blocks: Blocks, file: BinaryIO, heartbeat: Callable[[], None]) -> FileBlocks:
    """Decompress into a sparse file.

    Raises FormatError if the data is damaged or too large when decompressed, SourceError if there is not enough space.
    """
    max_size = min(_MAX_UNPACKED_SIZE, max(_ALWAYS_ALLOWED_SIZE, _MAX_RATIO * blocks.size))
    size = written = 0
    where, hint = printable(_find_scratch_directory()), "set TMPDIR to a directory with enough free space"
    try:
        for piece in _read_unpacked(blocks):
            if size + len(piece) > max_size:
                raise FormatError(
                    f"it decompresses to more than {max_size >> 30} GiB", "if that is correct, unpack it first"
                )
            written += write_sparse(file.fileno(), piece, size)
            size += len(piece)
            heartbeat()
            if written > _SPACE_CHECK_INTERVAL:
                written = 0
                if free_bytes(file.fileno()) < _RESERVED_SPACE:
                    raise SourceError(f"not enough free space in {where} to unpack it", hint)
        os.ftruncate(file.fileno(), size)
    except OSError as error:
        raise SourceError(f"cannot unpack it: {error.strerror}", hint) from error
    return FileBlocks.of(file)


def _read_unpacked(blocks: Blocks) -> Iterator[bytes]:
    try:
        yield from compressed.decompress_stream(read_pieces(blocks))
    except FormatError as error:
        raise FormatError(f"it {error.message}", "copy it again") from error
