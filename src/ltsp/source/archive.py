"""Archives and images of containers as sources: files, standard input, OCI layouts, and registries by way of skopeo.

A notation says what something is where its content alone does not: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`,
`docker-archive:FILE[:TAG]` and `docker://REFERENCE`, as containers-transports(5) has them, and `-`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from tempfile import mkdtemp
from typing import Final

from ltsp.archive.archive import Form, Reader
from ltsp.archive.stored import OpenFile
from ltsp.errors import Changed, FormatError, LtspError, SourceError, UsageError
from ltsp.host import command
from ltsp.host.root import Root
from ltsp.source.layers import Layer
from ltsp.source.source import Part, Plan
from ltsp.storage.blocks import Blocks
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode, printable
from ltsp.tree.node import Directory
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree

STANDARD_INPUT: Final = "-"
_REGISTRY: Final = "docker://"
_LAYOUT: Final = "oci:"
_FORMS: Final = {f"{form.value}:": form for form in (Form.OCI, Form.DOCKER)}
_PIECE: Final = 1 << 20
_COPY: Final = "ltsp-registry-"
"""How directories begin that skopeo copies to."""
_FORGOTTEN: Final = 60.0
"""Seconds after which such a directory that nobody holds is one of a run that was killed."""


@dataclass(frozen=True, slots=True)
class Notation:
    """What an argument of the command line names."""

    prefix: str
    """With its colon; empty for standard input."""
    path: str
    """A file or directory of the host, or the reference of an image in a registry."""
    tag: str = ""

    @classmethod
    def parse(cls, text: str) -> Notation | None:
        """None for the name or path of something else.

        A colon divides the path from the tag; one that belongs to the path does not, where there is such a file.
        """
        if text == STANDARD_INPUT:
            return cls("", text)
        if text.startswith(_REGISTRY):
            return cls(_REGISTRY, text.removeprefix(_REGISTRY))
        prefix = next((prefix for prefix in (_LAYOUT, *_FORMS) if text.startswith(prefix)), "")
        if not prefix:
            return None
        rest = text.removeprefix(prefix)
        cuts = [len(rest), *(at for at, character in enumerate(rest) if character == ":")]
        cut = next((at for at in cuts if os.path.lexists(encode(rest[:at]))), min(cuts))
        return cls(prefix, rest[:cut], rest[cut + 1 :])

    @property
    def named_by(self) -> str:
        """The path whose last part names the image; empty where nothing does."""
        if self.path == STANDARD_INPUT:
            return ""
        if self.prefix != _REGISTRY:
            return self.path
        last = self.path.rpartition("/")[2].partition("@")[0]
        return last.partition(":")[0]

    def lasting(self) -> str:
        """The same, in a form that means the same from any directory."""
        path = self.path if self.prefix in ("", _REGISTRY) else os.path.abspath(self.path)
        return f"{self.prefix}{path}{':' if self.tag else ''}{self.tag}"

    def source(self, name: str) -> ArchiveSource | LayoutSource | RegistrySource:
        """Raises LtspError where it cannot be."""
        if self.prefix == _REGISTRY:
            return RegistrySource(name, self.path)
        if self.path != STANDARD_INPUT and not os.path.lexists(encode(self.path)):
            raise LtspError(f"there is no {printable(self.path)}", f"write {self.prefix}PATH, or {self.prefix}PATH:TAG")
        if self.prefix == _LAYOUT:
            return LayoutSource(name, self.path, self.tag)
        return ArchiveSource(name, self.path, _FORMS.get(self.prefix, Form.ANY), self.tag)


class _NoPackageManager:
    """What such sources have in common: nothing works in them."""

    __slots__ = ()

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
    form: Form = Form.ANY
    tag: str = ""
    """Of the image that is meant, in an archive of several."""

    @property
    def description(self) -> str:
        return "archive from standard input" if self.path == STANDARD_INPUT else f"archive {self.path}"

    @property
    def kind(self) -> str:
        return "archive"

    def plan(self) -> Plan:
        return Plan(taken=(Part("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        """Raises FormatError for a damaged archive, and Changed when the file was written to while it was read."""
        shown = "standard input" if self.path == STANDARD_INPUT else printable(self.path)
        with ExitStack() as opened:
            descriptor = _opened(self.path, shown, opened)
            reader = opened.enter_context(Reader(_scratch()))
            before = _state(descriptor)
            with _told(shown):
                # What comes through a pipe comes once.
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and not os.lseek(descriptor, 0, os.SEEK_CUR):
                    tree = reader.file(OpenFile.of(descriptor), self.form, self.tag)
                else:
                    tree = reader.stream(iter(partial(os.read, descriptor, _PIECE), b""), self.form, self.tag)
            yield _system(tree).select(selection)
            if _state(descriptor) != before:
                raise Changed(f"{shown} was written to while it was read", "try again when nothing uses it")


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
        return Plan(taken=(Part("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        with _layout(self.path, self.tag, printable(self.path)) as tree:
            yield tree.select(selection)


@dataclass(frozen=True, slots=True)
class RegistrySource(_NoPackageManager):
    """An image in a registry, which skopeo copies, with whatever logins and mirrors it is set up for."""

    name: str
    reference: str
    """`HOST/NAME:TAG` or `HOST/NAME@DIGEST`."""

    @property
    def description(self) -> str:
        return f"container image {_REGISTRY}{self.reference}"

    @property
    def kind(self) -> str:
        return "registry"

    def plan(self) -> Plan:
        return Plan(taken=(Part("", self.description),))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        """Raises LtspError where skopeo is not there, or cannot copy it."""
        with _copy_directory(_scratch()) as directory:
            layout = f"{directory}/layout"
            command.run(
                ["skopeo", "--tmpdir", directory, "copy", f"{_REGISTRY}{self.reference}", f"{_LAYOUT}{layout}"],
                package="skopeo",
            )
            with _layout(layout, "", printable(f"{_REGISTRY}{self.reference}")) as tree:
                yield tree.select(selection)


def see_that_it_is_no_disk(path: str, layer: Layer) -> None:
    """Raises UsageError where options of disks are given for an archive."""
    for option, value in (("fstype", layer.fstype), ("partition", layer.partition), ("disk", ",".join(layer.disks))):
        if value:
            raise UsageError(f"{option}={printable(value)} is given for {printable(path)}, which is no disk")


@contextmanager
def _layout(path: str, tag: str, shown: str) -> Iterator[Tree]:
    with ExitStack() as opened:
        with _told(shown):
            root = opened.enter_context(Root.open(encode(path)))
        states: dict[int, tuple[int, int]] = {}

        def part(path: str) -> Blocks:
            try:
                descriptor = root.follow_file(encode(path))
            except FileNotFoundError:
                raise FormatError(f"is no OCI layout, or is damaged: there is no {printable(path)} in it") from None
            opened.callback(os.close, descriptor)
            states[descriptor] = _state(descriptor)
            return OpenFile.of(descriptor)

        reader = opened.enter_context(Reader(_scratch()))
        with _told(shown):
            tree = reader.layout(part, tag)
        yield tree
        if any(_state(descriptor) != state for descriptor, state in states.items()):
            raise Changed(f"{shown} was written to while it was read", "try again when nothing uses it")


@contextmanager
def _told(shown: str) -> Iterator[None]:
    """Say of what it is that something is said."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"{shown} {error.message}", error.hint or "copy it again, or make it anew") from error
    except SourceError as error:
        raise SourceError(f"{shown} {error.message}", error.hint) from error
    except OSError as error:
        raise SourceError(f"cannot read {shown}: {error.strerror}") from error


def _opened(path: str, shown: str, opened: ExitStack) -> int:
    if path == STANDARD_INPUT:
        if os.isatty(0):
            raise UsageError("standard input is a terminal", "podman export CONTAINER | ltsp image - --name NAME")
        return 0
    with _told(shown):
        descriptor = os.open(encode(path), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise SourceError(f"{shown} is no file", "a directory that is an OCI layout is written oci:DIR")
    return descriptor


def _system(tree: Tree) -> Tree:
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


def _scratch() -> str:
    return os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 - what is made there has no name, or is locked


@contextmanager
def _copy_directory(scratch: str) -> Iterator[str]:
    """A directory for a copy; those of runs that were killed are removed first. A lock tells that it is in use."""
    _remove_forgotten(scratch)
    try:
        directory = mkdtemp(prefix=_COPY, dir=scratch)
    except OSError as error:
        raise LtspError(f"cannot make a directory in {printable(scratch)}: {error.strerror}", "set TMPDIR") from error
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _remove_forgotten(scratch: str) -> None:
    with suppress(OSError), os.scandir(scratch) as listing:
        for entry in listing:
            if not entry.name.startswith(_COPY):
                continue
            status = entry.stat(follow_symlinks=False)
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if ours and time.time() - status.st_mtime > _FORGOTTEN and _is_free(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_free(directory: str) -> bool:
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
