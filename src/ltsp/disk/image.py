"""From a file to the disk that it holds, whatever its format; its content decides, never its name.

A file that no format claims is the disk itself (raw), so this says nothing of what is on the disk.
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
from ltsp.disk.blocks import FileBlocks, OpenSibling
from ltsp.disk.format import qcow2, vdi, vhd, vhdx, vmdk, vmdk_descriptor
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage import compressed
from ltsp.storage.blocks import Blocks, read_pieces
from ltsp.storage.sparse import free_bytes, write_sparse
from ltsp.tree.name import printable

_LONGEST_CHAIN: Final = 64
"""Disks below each other; each costs a few frames of the stack."""
_MOST_UNPACKED: Final = 1 << 40
"""Bytes that a compressed file may unfold to, zeros included."""
_ALWAYS_UNPACKED: Final = 4 << 30
_RATIO: Final = 2048
"""What it may unfold to for certain, and for each of its bytes: 300 MB of a system on a disk of 600 GB."""
_ROOM_LEFT: Final = 64 << 20
"""Bytes that are left free where a compressed file is unpacked."""
_SCRATCH: Final = "/var/tmp"  # noqa: S108 - for files without a name; /tmp may be memory
_CHECKED: Final = 64 << 20
"""Bytes that are written between two looks at how much is free."""

RAW: Final = "raw"
QCOW2, VMDK, VDI, VHD, VHDX = "qcow2", "VMDK", "VDI", "VHD", "VHDX"
_FORMATS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, qcow2.MAGIC, QCOW2),
    (0, vmdk.SPARSE_MAGIC, VMDK),
    (0, vmdk_descriptor.MAGIC, VMDK),
    (vdi.MAGIC_AT, vdi.MAGIC, VDI),
    (0, vhdx.MAGIC, VHDX),
    (0, vhd.MAGIC, VHD),
)
_UNSUPPORTED: Final = (
    (b"QED\0", "qed"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"OOOO CMMM DDDD", "bochs"),
    (b"#!/bin/sh\n#V2.0 Format\n", "cloop"),
    (vmdk.REDO_MAGICS[0], "redo"),
    (vmdk.REDO_MAGICS[1], "redo"),
)
_BY_QEMU: Final = {"qcow2": QCOW2, "vmdk": VMDK, "vdi": VDI, "vpc": VHD, "vhdx": VHDX, "raw": RAW, "host_device": RAW}
"""QEMU's names of formats, as a backing format has them."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk, which can be read while the files are open."""

    blocks: Blocks
    format: str
    compression: str = ""
    """`gzip`, `bzip2`, `xz`, `zstd` or nothing."""
    sector: int = 0
    """Bytes of its sectors, where the format says."""
    below: tuple[str, ...] = ()
    """Names of the disks that it is a difference to, the nearest first."""
    warnings: tuple[str, ...] = ()
    """One line each, safe to print."""


def refuse_sibling(name: str) -> BinaryIO:
    """Of a file that comes alone."""
    raise SourceError(f"it needs another file, {printable(name)}", "give it as a file of the same directory")


def make_scratch_file() -> BinaryIO:
    """A nameless file that is gone with its descriptor. Raises SourceError where there can be none."""
    directory = os.environ.get("TMPDIR") or _SCRATCH
    try:
        return tempfile.TemporaryFile(dir=directory, prefix="ltsp-")
    except OSError as error:
        raise SourceError(
            f"a copy cannot be made in {printable(directory)}: {error.strerror}",
            "set TMPDIR to a directory that can be written to and has room",
        ) from error


def open_disk(
    file: BinaryIO,
    *,
    open_sibling: OpenSibling = refuse_sibling,
    scratch: Callable[[], BinaryIO] = make_scratch_file,
    working: Callable[[], None] = lambda: None,
) -> Disk:
    """The disk in a file that stays open while it is read, as do the files that `open_sibling` and `scratch` give.

    `scratch` makes the file that a compressed one is unpacked to, and `working` is called for each piece of it. The
    messages do not name the file. Raises FormatError for what is damaged or forged, SourceError for what cannot be
    read, and what `open_sibling` raises.
    """
    blocks = FileBlocks.of(file)
    kind = _detect_compression(blocks)
    if not kind:
        return _BackingChain(open_sibling).open_layer(blocks, "")
    with ExitStack() as on_failure:
        file = scratch()
        on_failure.callback(file.close)
        blocks = _unpack(blocks, file, working)
        if _detect_compression(blocks):
            raise SourceError(f"it is a compressed file in a {kind} file", "unpack it")
        disk = _BackingChain(open_sibling).open_layer(blocks, "")
        on_failure.pop_all()
    return replace(disk, compression=kind)


def _detect_compression(blocks: Blocks) -> str:
    return compressed.detect_compression(blocks.read_at(0, compressed.LONGEST_MAGIC))


def detect_format(blocks: Blocks) -> str:
    """Raises SourceError for formats that are known by name only."""
    head = blocks.read_at(0, 4096)
    for at, magic, kind in _FORMATS:
        if head.startswith(magic, at):
            return kind
    for magic, kind in _UNSUPPORTED:
        if head.startswith(magic):
            raise SourceError(f"it is {probe.describe_kind(kind)}", probe.get_remedy(kind))
    # A fixed VHD is a raw disk but for its last sector.
    return VHD if vhd.is_footer(blocks.read_at(max(blocks.size - vhd.FOOTER_SIZE, 0), vhd.FOOTER_SIZE)) else RAW


@dataclass(slots=True)
class _BackingChain:
    """A disk and those below it."""

    open_sibling: OpenSibling
    names: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: set[tuple[int, int]] = field(default_factory=set)

    def open_layer(self, blocks: Blocks, expected: str) -> Disk:
        """`expected` is the format that the disk above says, or nothing: raw content must not choose its reader."""
        kind = expected if expected == RAW else detect_format(blocks)
        if expected and kind != expected:
            raise FormatError(f"it holds {kind}, and the disk above says {expected}")
        sector = 0
        self._check_loop(blocks)
        match kind:
            case "qcow2":
                header = qcow2.Qcow2Header.parse(blocks)
                if header.is_dirty:
                    self.warnings.append("it was not closed cleanly")
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
                blocks, sector = vhdx.open_vhdx(blocks)
        return Disk(blocks, kind, sector=sector, below=tuple(self.names), warnings=tuple(self.warnings))

    def _check_loop(self, blocks: Blocks) -> None:
        """Raises FormatError where a disk lies below itself."""
        if isinstance(blocks, FileBlocks) and blocks.descriptor >= 0:
            status = os.fstat(blocks.descriptor)
            if (status.st_dev, status.st_ino) in self.files:
                raise FormatError("its backing files are a loop")
            self.files.add((status.st_dev, status.st_ino))

    def _locate_sibling(self, name: str) -> str:
        """A name as the image has it, behind the directory of the image itself."""
        return posixpath.join(posixpath.dirname(self.names[-1]), name) if self.names else name

    def _open_backing(self, name: str, kind: str) -> Blocks:
        if len(self.names) == _LONGEST_CHAIN:
            raise FormatError(f"it has more than {_LONGEST_CHAIN} backing files below each other")
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
    """What QEMU's notation for a backing file means as a path.

    Raises SourceError for what is no file.
    """
    scheme, colon, rest = name.partition(":")
    if colon and scheme.isalnum() and scheme.isascii():
        if scheme != "file":
            raise SourceError(
                f"its backing file is {printable(name[:80])}, which is no file here",
                "make a whole disk of it with qemu-img convert",
            )
        return rest.removeprefix("//") if rest.startswith("///") else rest
    return name


def _translate_qemu_format(kind: str) -> str:
    if kind and kind not in _BY_QEMU:
        raise SourceError(
            f"it is said to be of the format {printable(kind)}", "make a whole disk with qemu-img convert"
        )
    return _BY_QEMU.get(kind, "")


def _unpack(blocks: Blocks, file: BinaryIO, working: Callable[[], None]) -> FileBlocks:
    """Into a file that has holes where there are only zeros.

    Raises FormatError where it is damaged or unfolds to too much, and SourceError where there is no room.
    """
    most = min(_MOST_UNPACKED, max(_ALWAYS_UNPACKED, _RATIO * blocks.size))
    size = written = 0
    hint = "unpack it yourself where there is room"
    try:
        for piece in _read_unpacked(blocks):
            if size + len(piece) > most:
                raise FormatError(f"it unfolds to more than {most >> 30} GiB", "if that is right, unpack it first")
            written += write_sparse(file.fileno(), piece, size)
            size += len(piece)
            working()
            if written > _CHECKED:
                written = 0
                if free_bytes(file.fileno()) < _ROOM_LEFT:
                    raise SourceError("there is no room to unpack it", hint)
        os.ftruncate(file.fileno(), size)
    except OSError as error:
        raise SourceError(f"it cannot be unpacked: {error.strerror}", hint) from error
    return FileBlocks.of(file)


def _read_unpacked(blocks: Blocks) -> Iterator[bytes]:
    try:
        yield from compressed.decompress_stream(read_pieces(blocks))
    except FormatError as error:
        raise FormatError(f"it {error.message}", "copy it again") from error
