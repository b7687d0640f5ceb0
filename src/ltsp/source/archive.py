"""Archives and images of containers as sources: files, standard input, OCI layouts, and registries by way of skopeo.

What is in them is read in a process of its own, as what is on disks: it gets open files, and has no rights.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from tempfile import TemporaryFile, mkdtemp
from typing import BinaryIO, Final

from ltsp.archive.archive import ArchiveFormat
from ltsp.archive.header import BLOCK, is_header
from ltsp.errors import FileChanged, FormatError, LtspError, ReaderFailed, SourceError, UsageError
from ltsp.host import command
from ltsp.host.root import RootDirectory
from ltsp.inspection.nested_roots import enter_nested_root
from ltsp.sandbox.client import start_reader
from ltsp.source.image_reference import LAYOUT, REGISTRY, STANDARD_INPUT, ImageReference
from ltsp.source.source import Plan, SourcePart
from ltsp.storage import compressed
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode, printable
from ltsp.tree.node import Directory
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree

_SESSION_MODULE: Final = "ltsp.sandbox.archive_session"
_MOST_PARTS: Final = 4000
"""Of a layout, that are opened: 1000 layers, and what leads to them."""
_NO_DISKS: Final = "only archives come this way: write a disk to a file, and name that"
_COPY_PREFIX: Final = "ltsp-registry-"
"""How directories begin that skopeo copies to."""
_ORPHAN_AGE: Final = 60.0
"""Seconds after which such a directory that nobody holds is one of a run that was killed."""


def archive_source(reference: ImageReference, name: str) -> ArchiveSource | LayoutSource | RegistrySource:
    """What a notation names. Raises LtspError where it cannot be."""
    if reference.prefix == REGISTRY:
        return RegistrySource(name, reference.path)
    if reference.path != STANDARD_INPUT and not os.path.lexists(encode(reference.path)):
        raise LtspError(
            f"there is no {printable(reference.path)}", f"write {reference.prefix}PATH, or {reference.prefix}PATH:TAG"
        )
    if reference.prefix == LAYOUT:
        return LayoutSource(name, reference.path, reference.tag)
    form = ArchiveFormat(reference.prefix.removesuffix(":")) if reference.prefix else ArchiveFormat.ANY
    return ArchiveSource(name, reference.path, form, reference.tag)


class _NoPackageManager:
    """What such sources have in common: nothing works in them."""

    __slots__ = ()

    def outline(self, selection: Selection) -> AbstractContextManager[None]:  # noqa: ARG002 - an archive is read as a whole
        return nullcontext()

    def hold_packages(
        self,
        timeout: float,  # noqa: ARG002 - no package manager works in an archive
        waiting: Callable[[str], None],  # noqa: ARG002 - likewise
    ) -> AbstractContextManager[list[str]]:
        return nullcontext([])


@dataclass(frozen=True, slots=True)
class ArchiveSource(_NoPackageManager):
    """A tar, compressed or not: of a root file system, or of the parts of a container image."""

    name: str
    path: str
    """As the user gave it; `-` is standard input."""
    form: ArchiveFormat = ArchiveFormat.ANY
    tag: str = ""
    """Of the image that is meant, in an archive of several."""

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
        """Raises FormatError for a damaged archive, and Changed when the file was written to while it was read."""
        shown = "standard input" if self.path == STANDARD_INPUT else printable(self.path)
        with ExitStack() as opened:
            descriptor = _open_input(self.path, shown, opened)
            before = _state(descriptor)
            file = open(descriptor, "rb", buffering=0, closefd=False)  # noqa: SIM115 - it closes nothing
            with _translate_errors(shown, _NO_DISKS if self.path == STANDARD_INPUT else ""):
                tree = opened.enter_context(_read_tree([file], _refuse_part, form=self.form.value, tag=self.tag))
            yield enter_nested_root(_strip_top_directory(tree)).select(selection)
            if _state(descriptor) != before:
                raise FileChanged(f"{shown} was written to while it was read", "try again when nothing uses it")


@dataclass(frozen=True, slots=True)
class LayoutSource(_NoPackageManager):
    """An image in a directory that is an OCI layout."""

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
class RegistrySource(_NoPackageManager):
    """An image in a registry, which skopeo copies, with whatever logins and mirrors it is set up for."""

    name: str
    reference: str
    """`HOST/NAME:TAG` or `HOST/NAME@DIGEST`."""

    @property
    def description(self) -> str:
        return f"container image {REGISTRY}{self.reference}"

    @property
    def kind(self) -> str:
        return "registry"

    def plan(self) -> Plan:
        return Plan(included=(SourcePart("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        """Raises LtspError where skopeo is not there, or cannot copy it."""
        with _make_copy_directory(_scratch_directory()) as directory:
            layout = f"{directory}/layout"
            command.run(
                ["skopeo", "--tmpdir", directory, "copy", f"{REGISTRY}{self.reference}", f"{LAYOUT}{layout}"],
                package="skopeo",
            )
            with _open_layout(layout, "", printable(f"{REGISTRY}{self.reference}")) as tree:
                yield tree.select(selection)


@contextmanager
def _open_layout(path: str, tag: str, shown: str) -> Iterator[Tree]:
    with ExitStack() as opened:
        with _translate_errors(shown):
            root = opened.enter_context(RootDirectory.open(encode(path)))
        parts: dict[str, tuple[BinaryIO, tuple[int, int]]] = {}

        def part(path: str) -> BinaryIO:
            if path not in parts:
                if len(parts) == _MOST_PARTS:
                    raise FormatError(f"is damaged: it names more than {_MOST_PARTS} parts")
                file = opened.enter_context(_open_part(root, path))
                parts[path] = file, _state(file.fileno())
            return os.fdopen(os.dup(parts[path][0].fileno()), "rb", buffering=0)

        with _translate_errors(shown):
            tree = opened.enter_context(_read_tree([], part, layout=True, tag=tag))
        yield tree
        if any(_state(file.fileno()) != state for file, state in parts.values()):
            raise FileChanged(f"{shown} was written to while it was read", "try again when nothing uses it")


def _open_part(root: RootDirectory, path: str) -> BinaryIO:
    """Raises FormatError where there is none, SourceError where it cannot be read."""
    try:
        return os.fdopen(root.follow_file(encode(path)), "rb", buffering=0)
    except FileNotFoundError:
        raise FormatError(f"is no OCI layout, or is damaged: there is no {printable(path)} in it") from None
    except OSError as error:
        raise SourceError(f"cannot be read: {printable(path)}: {error.strerror}") from error


def _refuse_part(path: str) -> BinaryIO:
    raise FormatError(f"is damaged: it asks for {printable(path)}")


@contextmanager
def _read_tree(files: Sequence[BinaryIO], part: Callable[[str], BinaryIO], **options: object) -> Iterator[Tree]:
    """The tree, as the process reads it, which ends with the block.

    Raises LtspError, of which the message begins with a verb.
    """
    scratch = _scratch_directory()

    def other(path: str) -> BinaryIO:
        return part(path) if path else _make_scratch_file(scratch)

    with start_reader(_SESSION_MODULE, files, other, {"scratch": scratch, **options}, unpacks=True) as reader:
        yield reader.tree({})


def holds_archive(file: BinaryIO, shown: str) -> bool:
    """Whether it is a tar, compressed or not; the first block of a compressed one is unpacked by the process, too.

    Raises ReaderFailed where that comes to nothing.
    """
    start = os.pread(file.fileno(), BLOCK, 0)
    if not compressed.detect_compression(start):
        return is_header(start)
    with _translate_errors(shown), start_reader(_SESSION_MODULE, [file], _refuse_part, {"scratch": ""}) as reader:
        return reader.query({}) is True


@contextmanager
def _translate_errors(shown: str, remedy: str = "") -> Iterator[None]:
    """Say of what it is that something is said, and what to do where that does not say it."""
    try:
        yield
    except ReaderFailed as error:
        raise ReaderFailed(f"{shown}: {error.message}", error.hint) from error
    except FormatError as error:
        raise FormatError(
            f"{shown} {error.message}", error.hint or remedy or "copy it again, or make it anew"
        ) from error
    except SourceError as error:
        raise SourceError(f"{shown} {error.message}", error.hint) from error
    except OSError as error:
        raise SourceError(f"cannot read {shown}: {error.strerror}") from error


def _open_input(path: str, shown: str, opened: ExitStack) -> int:
    if path == STANDARD_INPUT:
        if os.isatty(0):
            raise UsageError("standard input is a terminal", "podman export CONTAINER | ltsp image - --name NAME")
        return 0
    with _translate_errors(shown):
        descriptor = os.open(encode(path), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise SourceError(f"{shown} is no file", "a directory that is an OCI layout is written oci:DIR")
    return descriptor


def _strip_top_directory(tree: Tree) -> Tree:
    """The tree of a system that lies in a directory of its own, as `tar c lab` makes it."""
    if len(tree.root.entries) == 1:
        (only,) = tree.root.entries.values()
        if isinstance(only, Directory) and "etc" in only.entries:
            return Tree(only)
    return tree


def _state(descriptor: int) -> tuple[int, int]:
    """What a write changes; of a pipe nothing is."""
    status = os.fstat(descriptor)
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else (0, 0)


def _scratch_directory() -> str:
    return os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - what is made there has no name, or is locked


def _make_scratch_file(scratch: str) -> BinaryIO:
    """A file without a name. Raises LtspError."""
    try:
        return TemporaryFile(dir=scratch, buffering=0)
    except OSError as error:
        raise LtspError(
            f"cannot keep what is unpacked in {printable(scratch)}: {error.strerror}",
            "set TMPDIR to a directory that has room",
        ) from error


@contextmanager
def _make_copy_directory(scratch: str) -> Iterator[str]:
    """A directory for a copy; those of runs that were killed are removed first. A lock tells that it is in use."""
    _remove_orphans(scratch)
    try:
        directory = mkdtemp(prefix=_COPY_PREFIX, dir=scratch)
    except OSError as error:
        raise LtspError(f"cannot make a directory in {printable(scratch)}: {error.strerror}", "set TMPDIR") from error
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
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if ours and time.time() - status.st_mtime > _ORPHAN_AGE and _is_unlocked(entry.path):
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
