"""The real mksquashfs as a writer of images, for parameters that our own does not know: it is fed the tree as tar.

What mksquashfs 4.5.1 does with a tar stream was measured and read: it takes times from 1970 on only; sockets and the
root's attributes are lost; the root's mode is 0777 unless it is told, its owner is who runs it and its time is now
(those can be told from 4.6 on); `-sort` is refused, so the stream has that order; and unless it is told, too, it goes
on after an error with an empty file in place of the one that it could not read.
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
from ltsp.squashfs.prescan import Prescan, clamp_time
from ltsp.squashfs.superblock import SquashfsSuperblock
from ltsp.squashfs.write_result import LostMetadata, MksquashfsResult
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.node import Directory, Metadata
from ltsp.tree.tree import Tree

_PIPE_BYTES = 1 << 20
"""As large as Linux lets a pipe be without privilege."""
_HIGHEST_ZLIB_LEVEL = 9
_READS_TAR = (4, 5)
_KEEPS_ROOT = (4, 6)
_NEWEST = (99, 0)
_OWN_TIME = ("-mkfs-time", "-fstime", "-repro-time")


def write_image(
    tree: Tree,
    output: BinaryIO,
    options: WriteOptions,
    parameters: Parameters,
    faults: Faults,
    progress: Callable[[int], None] = lambda _amount: None,
) -> MksquashfsResult:
    """Write the image of a tree to a regular file, from its start on; the file may be one without a name.

    `tree` is as it shall be in the image, with what `parameters` say of it done. `progress` gets the bytes of source
    since its last call.
    Raises UsageError where mksquashfs does not know a parameter, LtspError where it fails, with its own last lines,
    and what reading the tree raises.
    """
    known = read_version()
    if known < _READS_TAR:
        raise LtspError(
            f"mksquashfs {known[0]}.{known[1]} cannot read a tar stream", "install squashfs-tools 4.5 or later"
        )
    descriptor = output.fileno()
    time = Prescan.of(tree).newest if options.time is None else options.time
    words = build_arguments(f"/proc/self/fd/{descriptor}", options, parameters, tree.root.metadata, time)
    # mksquashfs takes no time from us where this is set.
    environment = {"SOURCE_DATE_EPOCH": None}
    with command.feed(words, environment=environment, descriptors=(descriptor,), package="squashfs-tools") as running:
        with suppress(OSError):  # a user may have no room left for larger pipes; this one is then slower
            fcntl.fcntl(running.input, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            done = write_tar(tree, running.input, faults, progress, options.first)
            running.finish()
        except (BrokenPipeError, LtspError) as error:
            if b"nvalid option" in running.output():
                raise UsageError(
                    f"mksquashfs does not support all of these options: {printable(' '.join(parameters.unknown))}",
                    "see mksquashfs -help",
                ) from error
            raise
    return _make_result(descriptor, tree, done, keeps_root=known >= _KEEPS_ROOT)


def check_parameters(parameters: Parameters) -> None:
    """Have mksquashfs make an image of nothing with them.

    Raises UsageError with what it says against them, LtspError where it cannot be had.
    """
    read_version()
    nothing = Tree(Directory(Metadata(0o755)))
    options = WriteOptions(parameters.compression() or Compression.preset("gzip", "balanced"))
    with TemporaryFile(buffering=0) as image:
        try:
            write_image(nothing, image, parameters.apply_to(options), parameters, Faults())
        except UsageError:
            raise
        except LtspError as error:
            raise UsageError(f"--mksquashfs-params: {error.message}", "see mksquashfs -help") from error


def read_version() -> tuple[int, int]:
    """Of the mksquashfs that is installed; the newest there may be where it does not say.

    Raises LtspError where there is none.
    """
    said = command.run(["mksquashfs", "-version"], accepted=range(256), package="squashfs-tools").stdout
    found = re.match(rb"mksquashfs version (\d+)\.(\d+)", said)
    return _NEWEST if found is None else (int(found[1]), int(found[2]))


def build_arguments(
    image: str, options: WriteOptions, parameters: Parameters, root: Metadata, time: int
) -> Sequence[str]:
    """The command line, with what our writer would follow in mksquashfs's words, and the unknown ones last."""
    switches = {
        "-noI": options.compress_inodes and options.is_compressed,
        "-noD": options.compress_data and options.is_compressed,
        "-noF": options.compress_fragments and options.is_compressed,
        "-noX": options.compress_xattrs and options.is_compressed,
        "-no-fragments": options.fragments,
        "-no-duplicates": options.duplicates,
        "-no-xattrs": options.xattrs,
    }
    return [
        *("mksquashfs", "-", image, "-tar", "-noappend", "-exit-on-error", "-no-progress", "-quiet"),
        *("-root-mode", f"{root.mode:o}", "-root-uid", str(root.uid), "-root-gid", str(root.gid)),
        *("-root-time", str(clamp_time(root.mtime))),
        *(() if set(_OWN_TIME) & set(parameters.unknown) else ("-mkfs-time", str(clamp_time(time)))),
        *(() if "-comp" in parameters.unknown else _compression_arguments(options)),
        *("-b", str(options.block_size)),
        *(("-processors", str(options.threads)) if options.threads else ()),
        *(word for word, kept in switches.items() if not kept),
        "-exports" if options.exports else "-no-exports",
        *parameters.tuning,
        *parameters.unknown,
    ]


def _compression_arguments(options: WriteOptions) -> Sequence[str]:
    compression = options.compression
    match compression.name, compression.level:
        case "none", _:
            return ("-comp", "gzip")
        case "gzip", int(level):
            return ("-comp", "gzip", "-Xcompression-level", str(min(level, _HIGHEST_ZLIB_LEVEL)))
        case "zstd", int(level):
            return ("-comp", "zstd", "-Xcompression-level", str(level))
        case name, _:
            return ("-comp", name, *(("-Xhc",) if compression.high else ()))


def _make_result(descriptor: int, tree: Tree, done: TarResult, *, keeps_root: bool) -> MksquashfsResult:
    size = os.fstat(descriptor).st_size
    superblock = SquashfsSuperblock.parse(os.pread(descriptor, SquashfsSuperblock.layout.size, 0), size)
    root = tree.root.metadata
    return MksquashfsResult(
        size=size,
        inodes=superblock.inode_count,
        source_bytes=done.source_bytes,
        lost=LostMetadata(
            times=done.clamped_times + (clamp_time(root.mtime) != root.mtime),
            acls=done.posix_acls,
            foreign=done.foreign_attributes,
            too_large=0,
        ),
        sockets=done.sockets,
        root_attributes=len(root.xattrs),
        keeps_root=keeps_root,
    )
