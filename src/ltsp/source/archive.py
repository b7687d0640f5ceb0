"""Archives and container images as sources: files, standard input, OCI layouts, and registries through skopeo.

They are parsed in a sandboxed process, as disks are: it receives open files and has no privileges.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from tempfile import TemporaryFile, mkdtemp
from typing import BinaryIO, Final

from ltsp.archive.archive import ArchiveFormat
from ltsp.archive.header import BLOCK, is_tar_header
from ltsp.errors import FileChanged, FormatError, LtspError, ReaderFailed, SourceError, UsageError
from ltsp.host import command
from ltsp.host.root import RootDirectory
from ltsp.inspection.root_file_systems import enter_nested_root
from ltsp.sandbox.client import ARCHIVES, DISKS, SandboxReader, start_reader
from ltsp.sandbox.messages import SCRATCH, ArchiveCheck, CheckArchive, OpenArchive, ReadArchive
from ltsp.source.location import LAYOUT_PREFIX, REGISTRY_PREFIX, STANDARD_INPUT, ImageReference
from ltsp.source.source import Kept, Plan, SelfContainedSource, SourcePart
from ltsp.storage import compressed
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode, printable
from ltsp.tree.node import Directory
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree

_SESSION_MODULE: Final = ARCHIVES
_MAX_PARTS: Final = 4000
"""Limit on the files of a layout that are opened: 1000 layers, and the manifests that lead to them."""
_STDIN_HINT: Final = "only archives can be read from standard input: save the disk image to a file, and name that file"
_COPY_PREFIX: Final = "ltsp-registry-"
"""Prefix of the directories that skopeo copies to."""
_ORPHAN_AGE: Final = 60.0
"""Age in seconds after which such a directory, if nobody has locked it, belongs to a run that was killed."""


def archive_source(reference: ImageReference, name: str) -> ArchiveSource | LayoutSource | RegistrySource:
    """The source that a reference names. Raises LtspError if there is none."""
    if reference.prefix == REGISTRY_PREFIX:
        return RegistrySource(name, reference.path)
    if reference.path != STANDARD_INPUT and not os.path.lexists(encode(reference.path)):
        raise LtspError(
            f"{printable(reference.path)} not found", f"use {reference.prefix}PATH or {reference.prefix}PATH:TAG"
        )
    if reference.prefix == LAYOUT_PREFIX:
        return LayoutSource(name, reference.path, reference.tag)
    form = ArchiveFormat(reference.prefix.removesuffix(":")) if reference.prefix else ArchiveFormat.ANY
    return ArchiveSource(name, reference.path, form, reference.tag)


@dataclass(frozen=True, slots=True)
class ArchiveSource(SelfContainedSource):
    """A tar archive, compressed or not, of a root file system or of a container image."""

    name: str
    path: str
    """As the user gave it; `-` is standard input."""
    form: ArchiveFormat = ArchiveFormat.ANY
    tag: str = ""
    """Which image to take, if the archive holds several."""
    kept: Kept[SandboxReader] | None = field(default=None, compare=False, repr=False)
    """The process that looked into it, for its opening."""

    @property
    def description(self) -> str:
        return "archive from standard input" if self.path == STANDARD_INPUT else f"archive {self.path}"

    @property
    def kind(self) -> str:
        return "archive"

    def plan(self) -> Plan:
        return Plan(included=(SourcePart("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        """Raises FormatError for a damaged archive, and FileChanged if the file was written to meanwhile."""
        display_name = "standard input" if self.path == STANDARD_INPUT else printable(self.path)
        with ExitStack() as stack:
            descriptor = _open_input(self.path, display_name, stack)
            initial_stamp = _change_stamp(descriptor)
            file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115 - it closes nothing
            with _translate_errors(display_name, _STDIN_HINT if self.path == STANDARD_INPUT else ""):
                request = OpenArchive(_scratch_directory(), self.form.value, self.tag)
                tree = stack.enter_context(_read_tree(request, [file], _refuse_part, self.kept))
            yield enter_nested_root(_strip_top_directory(tree)).select(selection)
            if _change_stamp(descriptor) != initial_stamp:
                raise FileChanged(
                    f"{display_name} was written to while it was being read", "try again when it is no longer in use"
                )


@dataclass(frozen=True, slots=True)
class LayoutSource(SelfContainedSource):
    """An image in an OCI layout directory."""

    name: str
    path: str
    """As the user gave it."""
    tag: str = ""

    @property
    def description(self) -> str:
        return f"container image {self.path}{':' if self.tag else ''}{self.tag}"

    @property
    def kind(self) -> str:
        return "oci"

    def plan(self) -> Plan:
        return Plan(included=(SourcePart("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        with _open_layout(self.path, self.tag, printable(self.path)) as tree:
            yield tree.select(selection)


@dataclass(frozen=True, slots=True)
class RegistrySource(SelfContainedSource):
    """An image in a registry, copied by skopeo with the logins and mirrors that it is configured with."""

    name: str
    reference: str
    """`HOST/NAME:TAG` or `HOST/NAME@DIGEST`."""

    @property
    def description(self) -> str:
        return f"container image {REGISTRY_PREFIX}{self.reference}"

    @property
    def kind(self) -> str:
        return "registry"

    def plan(self) -> Plan:
        return Plan(included=(SourcePart("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        """Raises LtspError if skopeo is not installed or cannot copy the image."""
        with _make_copy_directory(_scratch_directory()) as directory:
            layout = f"{directory}/layout"
            command.run(
                [
                    "skopeo",
                    "--tmpdir",
                    directory,
                    "copy",
                    f"{REGISTRY_PREFIX}{self.reference}",
                    f"{LAYOUT_PREFIX}{layout}",
                ],
                package="skopeo",
            )
            with _open_layout(layout, "", printable(f"{REGISTRY_PREFIX}{self.reference}")) as tree:
                yield tree.select(selection)


@contextmanager
def _open_layout(path: str, tag: str, display_name: str) -> Iterator[Tree]:
    with ExitStack() as stack:
        with _translate_errors(display_name):
            root = stack.enter_context(RootDirectory.open(encode(path)))
        parts: dict[str, tuple[BinaryIO, tuple[int, int]]] = {}

        def open_part(path: str) -> BinaryIO:
            if path not in parts:
                if len(parts) == _MAX_PARTS:
                    raise FormatError(f"is damaged: it refers to more than {_MAX_PARTS} files")
                file = stack.enter_context(_open_part(root, path))
                parts[path] = file, _change_stamp(file.fileno())
            return os.fdopen(os.dup(parts[path][0].fileno()), "rb", buffering=0)

        with _translate_errors(display_name):
            request = OpenArchive(_scratch_directory(), ArchiveFormat.ANY.value, tag, is_layout=True)
            tree = stack.enter_context(_read_tree(request, [], open_part))
        yield tree
        if any(_change_stamp(file.fileno()) != state for file, state in parts.values()):
            raise FileChanged(
                f"{display_name} was written to while it was being read", "try again when it is no longer in use"
            )


def _open_part(root: RootDirectory, path: str) -> BinaryIO:
    """Raises FormatError if it does not exist, SourceError if it cannot be read."""
    try:
        return os.fdopen(root.open_file_following_links(encode(path)), "rb", buffering=0)
    except FileNotFoundError:
        raise FormatError(f"is not a valid OCI layout: {printable(path)} is missing") from None
    except OSError as error:
        raise SourceError(f"cannot be read: {printable(path)}: {error.strerror}") from error


def _refuse_part(path: str) -> BinaryIO:
    raise FormatError(f"is damaged: it refers to another file, {printable(path)}")


@contextmanager
def _read_tree(
    request: OpenArchive,
    files: Sequence[BinaryIO],
    open_part: Callable[[str], BinaryIO],
    kept: Kept[SandboxReader] | None = None,
) -> Iterator[Tree]:
    """The tree, read by a process that ends with the block: `kept`, or another one.

    Raises LtspError; its message begins with a verb, and the caller prepends the name.
    """

    def open_file(path: str) -> BinaryIO:
        return _make_scratch_file(request.scratch) if path == SCRATCH else open_part(path)

    with ExitStack() as stack:
        reader = kept.take(stack) if kept else None
        if reader is None or not reader.is_running():
            reader = stack.enter_context(start_reader([_SESSION_MODULE], may_write=True))
        reader.open(request, files, open_file)
        yield reader.tree(ReadArchive())


def check_archive(file: BinaryIO, display_name: str, keep: ExitStack) -> tuple[bool, Kept[SandboxReader] | None]:
    """Whether a file is a tar archive. The first block of a compressed one is unpacked in the sandbox.

    The process that did so can read archives and disks, and is kept until `keep` closes.
    Raises ReaderFailed if it fails.
    """
    start = os.pread(file.fileno(), BLOCK, 0)
    if not compressed.detect_compression(start):
        return is_tar_header(start), None
    with ExitStack() as stack, _translate_errors(display_name):
        reader = stack.enter_context(start_reader([_SESSION_MODULE, DISKS], may_write=True))
        reader.open(OpenArchive("", ArchiveFormat.ANY.value), [file], _refuse_part)
        is_archive = reader.ask(CheckArchive(), ArchiveCheck).is_archive
        return is_archive, Kept(reader, stack.pop_all(), keep)


@contextmanager
def _translate_errors(display_name: str, remedy: str = "") -> Iterator[None]:
    """Add the name of the source to errors, and a remedy to those that have none."""
    try:
        yield
    except ReaderFailed as error:
        raise ReaderFailed(f"{display_name}: {error.message}", error.hint) from error
    except FormatError as error:
        raise FormatError(
            f"{display_name} {error.message}", error.hint or remedy or "copy it again, or recreate it"
        ) from error
    except SourceError as error:
        raise SourceError(f"{display_name} {error.message}", error.hint) from error
    except OSError as error:
        raise SourceError(f"cannot read {display_name}: {error.strerror}") from error


def _open_input(path: str, display_name: str, stack: ExitStack) -> int:
    if path == STANDARD_INPUT:
        if os.isatty(0):
            raise UsageError(
                "standard input is a terminal",
                "pipe an archive into it: podman export CONTAINER | ltsp image - --name NAME",
            )
        return 0
    with _translate_errors(display_name):
        descriptor = os.open(encode(path), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise SourceError(
            f"{display_name} is not a regular file", "for a directory that is an OCI layout, write oci:DIR"
        )
    return descriptor


def _strip_top_directory(tree: Tree) -> Tree:
    """The tree without the single top directory that holds the system, as in the output of `tar c lab`."""
    if len(tree.root.entries) == 1:
        (only,) = tree.root.entries.values()
        if isinstance(only, Directory) and "etc" in only.entries:
            return Tree(only)
    return tree


def _change_stamp(descriptor: int) -> tuple[int, int]:
    """What a write to the file changes; constant for a pipe."""
    status = os.fstat(descriptor)
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (0, 0)


def _scratch_directory() -> str:
    return os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - files there have no name, or are locked


def _make_scratch_file(scratch: str) -> BinaryIO:
    """An unnamed temporary file. Raises LtspError."""
    try:
        return TemporaryFile(dir=scratch, buffering=0)
    except OSError as error:
        raise LtspError(
            f"cannot unpack in {printable(scratch)}: {error.strerror}",
            "set TMPDIR to a directory with enough free space",
        ) from error


@contextmanager
def _make_copy_directory(scratch: str) -> Iterator[str]:
    """A directory for a copy, locked while in use; those of runs that were killed are removed first."""
    _remove_orphans(scratch)
    try:
        directory = mkdtemp(prefix=_COPY_PREFIX, dir=scratch)
    except OSError as error:
        raise LtspError(
            f"cannot create a directory in {printable(scratch)}: {error.strerror}",
            "set TMPDIR to a writable directory with enough free space",
        ) from error
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _remove_orphans(scratch: str) -> None:
    with suppress(OSError), os.scandir(scratch) as listing:
        for entry in listing:
            if not entry.name.startswith(_COPY_PREFIX):
                continue
            status = entry.stat(follow_symlinks=False)
            is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if is_own and time.time() - status.st_mtime > _ORPHAN_AGE and _is_unlocked(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_unlocked(directory: str) -> bool:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES):
            return False
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
