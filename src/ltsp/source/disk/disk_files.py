"""The files of a disk image: the one that the user gave, and those that it names, as far as it may.

A backing file or an extent lies beside the disk, or below a directory that the user allows; nothing else is opened for
what an image says. All are watched, so that a disk which runs, or is written to meanwhile, is no source.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.errors import FileChanged, LockHeld, SourceError
from ltsp.host.open_for_write import Writer, find_writer
from ltsp.host.process import Process
from ltsp.tree.name import decode, encode, printable

_State = tuple[int, int, int]


@dataclass(slots=True)
class DiskFiles:
    """They stay open until the block ends."""

    allowed: Sequence[str] = ()
    """Directories, below which an image may name files too."""
    force: bool = False
    """Whether disks that others write to are taken; what is read of them is not to be relied on."""
    opened: list[tuple[str, BinaryIO, _State]] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def open(self, path: str) -> BinaryIO:
        """The disk itself, as the user gave it: a file or a block device.

        Raises SourceError where it cannot be read, LockHeld where somebody writes to it.
        """
        try:
            descriptor = os.open(encode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error
        return self._add(path, descriptor, (stat.S_ISREG, stat.S_ISBLK))

    def open_beside(self, path: str, name: str) -> BinaryIO:
        """A file that the disk at `path` names, which the caller closes when it likes.

        Raises SourceError where it may not be read or is not there, LockHeld where somebody writes to it.
        """
        home = os.path.dirname(os.path.realpath(encode(path)))
        wanted = os.path.normpath(os.path.join(home, encode(name)))
        self._check(name, wanted, home)
        try:
            found = os.open(wanted, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(
                f"it needs {printable(name)}, which cannot be opened: {error.strerror}",
                f"put it at {printable(decode(wanted))}",
            ) from error
        try:
            # What a link led to, before anything is opened for reading: that can act on a device.
            self._check(name, os.readlink(f"/proc/self/fd/{found}".encode()), home)
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise SourceError(f"it needs {printable(name)}, which is no file")
            descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read {printable(name)}: {error.strerror}") from error
        finally:
            os.close(found)
        file = self._add(decode(wanted), descriptor, (stat.S_ISREG,))
        return os.fdopen(os.dup(file.fileno()), "rb", buffering=0)

    def _check(self, name: str, path: bytes, home: bytes) -> None:
        """Raises SourceError for what lies neither in the disk's own directory nor below an allowed one."""
        where = os.path.dirname(path)
        roots = [os.path.realpath(encode(each)) for each in self.allowed]
        if where != home and not any(where == root or where.startswith(root.rstrip(b"/") + b"/") for root in roots):
            raise SourceError(
                f"it needs {printable(name)}, which is not in its own directory",
                f"if that is right, give --allow-backing {printable(decode(where))}",
            )

    def _add(self, path: str, descriptor: int, kinds: Sequence[object]) -> BinaryIO:
        file = self.stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        if not any(kind(os.fstat(descriptor).st_mode) for kind in kinds):  # type: ignore[operator]
            raise SourceError(f"{printable(path)} is no file", "name a chroot, a VM disk or an image")
        if not self.force:
            user = find_writer(descriptor)
            use = describe_writer(user) if user is not None else _describe_claim(descriptor)
            if use:
                raise LockHeld(f"{printable(path)} is in use: {use}", "shut that down, or give --force")
        self.opened.append((path, file, _state(file)))
        return file

    def check_unchanged(self) -> None:
        """Raises FileChanged where one of them was written to since it was opened; not with `force`."""
        for path, file, before in () if self.force else self.opened:
            if _state(file) != before:
                raise FileChanged(
                    f"{printable(path)} was written to while it was read", "try again when nothing uses it"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()


def _describe_claim(descriptor: int) -> str:
    """What the kernel does with a block device; nothing where it is free, or a file. open(2), O_EXCL"""
    if not stat.S_ISBLK(os.fstat(descriptor).st_mode):
        return ""
    try:
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return "it is mounted, or a part of another device" if error.errno == errno.EBUSY else ""
    return ""


def describe_writer(user: Writer) -> str:
    """Who it is and what it does, safe to print: `qemu-system-x86_64 (process 12) has locked it`."""
    match user.user:
        case None:
            who = "a process that cannot be seen from here"
        case Process(pid=pid, command=command):
            name = os.path.basename(command.partition(" ")[0]).strip("[]") or "a process"
            who = f"{printable(name)} (process {pid})"
        case device:
            who = device.name
    return f"{who} has locked it" if user.locked else f"{who} has it open for writing"


def _state(file: BinaryIO) -> _State:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
