"""Write images with the real mksquashfs, for parameters that our own writer does not support, through a tar stream.

Behaviour of mksquashfs 4.5.1 with a tar stream, from tests and its source: only times from 1970 on; sockets and the
root's attributes are lost; by default the root's mode is 0777, its owner is the user and its time is now (owner and
time can be set from 4.6 on); `-sort` is refused, so the stream is sorted instead; a hard link to a file that `-regex`
leaves out is lost; and by default it continues after an error with an empty file in place of the unreadable one.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import BinaryIO

from ltsp.errors import LtspError, UsageError
from ltsp.host import command
from ltsp.mksquashfs.options import Parameters
from ltsp.mksquashfs.tar_stream import TarResult, write_tar
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.prescan import Prescan
from ltsp.squashfs.superblock import SquashfsSuperblock
from ltsp.squashfs.writer import LostMetadata, MksquashfsResult, WriteOptions
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Directory, Metadata, clamp_time
from ltsp.tree.tree import Tree

_PIPE_SIZE = 1 << 20
"""The largest pipe that Linux allows without privileges."""
_MAX_ZLIB_LEVEL = 9
_MIN_VERSION_READING_TAR = (4, 5)
_MIN_VERSION_KEEPING_ROOT = (4, 6)
_UNKNOWN_VERSION = (99, 0)
_TIME_OPTIONS = ("-mkfs-time", "-fstime", "-repro-time")
_ROOT_ONLY = ("-root-uid", "-root-gid", "-root-time")
_STORED = ("-noI", "-noD", "-noF", "-noX")
_LOST_LINK = re.compile(rb"Could not resolve hardlink (.*), file (.*) doesn't exist")


def write_image(
    tree: Tree,
    output: BinaryIO,
    options: WriteOptions,
    parameters: Parameters,
    faults: Faults,
    progress: Callable[[int], None] = lambda _amount: None,
) -> MksquashfsResult:
    """Write the image of a tree to a regular file, which may be unnamed, from its start on.

    `tree` is the final tree, with the changes of `parameters` applied. `progress` is called with the bytes of source
    since its last call.
    Raises UsageError if mksquashfs does not support a parameter or ignores it, LtspError with its last lines if it
    fails, and whatever reading the tree raises.
    """
    version = read_version()
    _check_version(version, parameters)
    descriptor = output.fileno()
    time = Prescan.of(tree).latest_mtime if options.time is None else options.time
    arguments = build_arguments(f"/proc/self/fd/{descriptor}", options, parameters, tree.root.metadata, time)
    # With this variable, mksquashfs ignores our time options.
    environment = {"SOURCE_DATE_EPOCH": None}
    with command.start_with_input(
        arguments, environment=environment, descriptors=(descriptor,), package="squashfs-tools"
    ) as running:
        with suppress(OSError):  # the user's limit for larger pipes may be reached; this one is then slower
            fcntl.fcntl(running.input, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        try:
            result = write_tar(tree, running.input, faults, progress, options.sort_priorities)
            running.finish()
            printed = running.output()
        except (BrokenPipeError, LtspError) as error:
            if b"nvalid option" in running.output():
                raise UsageError(
                    f"mksquashfs does not support all of these options: {printable(' '.join(parameters.unknown))}",
                    "see mksquashfs -help",
                ) from error
            raise
    _check_links(printed)
    return _make_result(descriptor, tree, result, keeps_root=version >= _MIN_VERSION_KEEPING_ROOT)


def _check_version(version: tuple[int, int], parameters: Parameters) -> None:
    """Check what this version of mksquashfs cannot do with a tar stream. Raises LtspError and UsageError."""
    if version < _MIN_VERSION_READING_TAR:
        raise LtspError(
            f"mksquashfs {version[0]}.{version[1]} cannot read a tar stream", "install squashfs-tools 4.5 or later"
        )
    if version < _MIN_VERSION_KEEPING_ROOT and (ignored := [word for word in _ROOT_ONLY if word in parameters.unknown]):
        raise UsageError(
            f"mksquashfs {version[0]}.{version[1]} ignores {' '.join(ignored)} with a tar stream",
            "install squashfs-tools 4.6 or later",
        )


def _check_links(printed: bytes) -> None:
    """Check that no hard link was lost. Raises LtspError."""
    if (lost := _LOST_LINK.search(printed)) is not None:
        link, gone = (printable(decode(name)) for name in lost.groups())
        raise LtspError(
            f"mksquashfs lost /{link}: -regex leaves out /{gone}, which is another name of that file",
            "leave out all of its names or none, or use -wildcards",
        )


def check_parameters(parameters: Parameters) -> None:
    """Test the parameters by writing an empty image with mksquashfs.

    Raises UsageError with its message if it rejects them, LtspError if mksquashfs is missing.
    """
    read_version()
    empty_tree = Tree(Directory(Metadata(0o755)))
    options = WriteOptions(parameters.compression() or Compression.preset("gzip", "balanced"))
    with TemporaryFile(buffering=0) as image:
        try:
            write_image(empty_tree, image, parameters.apply_to(options), parameters, Faults())
        except UsageError:
            raise
        except LtspError as error:
            raise UsageError(f"--mksquashfs-params: {error.message}", "see mksquashfs -help") from error


def read_version() -> tuple[int, int]:
    """The version of the installed mksquashfs; a very high one if it does not report any.

    Raises LtspError if it is not installed.
    """
    version_output = command.run(
        ["mksquashfs", "-version"], accepted_statuses=range(256), package="squashfs-tools"
    ).stdout
    found = re.match(rb"mksquashfs version (\d+)\.(\d+)", version_output)
    return _UNKNOWN_VERSION if found is None else (int(found[1]), int(found[2]))


def build_arguments(
    image: str, options: WriteOptions, parameters: Parameters, root: Metadata, time: int
) -> Sequence[str]:
    """The command line, with the options of our writer in mksquashfs's notation, then those that it lacks."""
    return [
        *("mksquashfs", "-", image, "-tar", "-noappend", "-exit-on-error", "-no-progress", "-quiet"),
        *("-root-mode", f"{root.mode:o}", "-root-uid", str(root.uid), "-root-gid", str(root.gid)),
        *("-root-time", str(clamp_time(root.mtime))),
        *(() if set(_TIME_OPTIONS) & set(parameters.unknown) else ("-mkfs-time", str(clamp_time(time)))),
        *(() if "-comp" in parameters.unknown else _compression_arguments(options)),
        *("-b", str(options.block_size)),
        *(("-processors", str(options.threads)) if options.threads else ()),
        *(() if options.xattrs else ("-no-xattrs",)),
        *(() if options.is_compressed else _STORED),
        *(() if "-no-exports" in parameters.unknown else ("-exports",)),
        *parameters.tuning,
        *parameters.unknown,
    ]


def _compression_arguments(options: WriteOptions) -> Sequence[str]:
    compression = options.compression
    match compression.name, compression.level:
        case "none", _:
            return ("-comp", "gzip")
        case "gzip", int(level):
            return ("-comp", "gzip", "-Xcompression-level", str(min(level, _MAX_ZLIB_LEVEL)))
        case "zstd", int(level):
            return ("-comp", "zstd", "-Xcompression-level", str(level))
        case name, _:
            return ("-comp", name, *(("-Xhc",) if compression.high_compression else ()))


def _make_result(descriptor: int, tree: Tree, result: TarResult, *, keeps_root: bool) -> MksquashfsResult:
    size = os.fstat(descriptor).st_size
    superblock = SquashfsSuperblock.parse(os.pread(descriptor, SquashfsSuperblock.layout.size, 0), size)
    root = tree.root.metadata
    return MksquashfsResult(
        size=size,
        inodes=superblock.inode_count,
        source_bytes=result.source_bytes,
        lost=LostMetadata(
            times=result.clamped_times + (clamp_time(root.mtime) != root.mtime),
            acls=result.posix_acls,
            foreign=result.foreign_attributes,
            too_large=0,
        ),
        sockets=result.sockets,
        root_attributes=len(root.xattrs),
        keeps_root=keeps_root,
    )
