"""The files of a disk image: the one that the user gave, those that it is allowed to refer to, and temporary ones.

A backing file or extent has to be in the directory of the disk, or below a directory that the user allows; an image
cannot cause any other file to be opened. All are checked for writers, so that a disk in use is refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Self

from ltsp.disk.image import make_scratch_file
from ltsp.errors import FileChanged, LockHeld, SourceError
from ltsp.host.open_for_write import Writer, find_writer
from ltsp.host.process import Process
from ltsp.tree.name import decode, encode, printable

_ChangeStamp = tuple[int, int, int]


@dataclass(slots=True)
class DiskFiles:
    """The open files of a disk, until the block ends."""

    allowed_directories: Sequence[str] = ()
    """Directories below which an image may also refer to files."""
    force: bool = False
    """Whether to read disks that others write to; the result is unreliable."""
    opened: list[tuple[str, BinaryIO, _ChangeStamp]] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def open(self, path: str) -> BinaryIO:
        """The disk itself, as the user gave it: a file or a block device.

        Raises SourceError if it cannot be read, LockHeld if another process writes to it.
        """
        try:
            descriptor = os.open(encode(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read {printable(path)}: {error.strerror}") from error
        return self._add(path, descriptor, (stat.S_ISREG, stat.S_ISBLK))

    def open_sibling(self, path: str, name: str) -> BinaryIO:
        """A file that the disk at `path` refers to; the caller closes it.

        Raises SourceError if it is missing or may not be read, LockHeld if another process writes to it.
        """
        disk_directory = os.path.dirname(os.path.realpath(encode(path)))
        wanted = os.path.normpath(os.path.join(disk_directory, encode(name)))
        self._check_allowed(name, wanted, disk_directory)
        try:
            found = os.open(wanted, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(
                f"it needs {printable(name)}, which cannot be opened: {error.strerror}",
                f"put it at {printable(decode(wanted))}",
            ) from error
        try:
            # Check the target of a link before opening it for reading, which can have effects on a device.
            self._check_allowed(name, os.readlink(f"/proc/self/fd/{found}".encode()), disk_directory)
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise SourceError(
                    f"it needs {printable(name)}, which is not a regular file",
                    "make one file of the disk: qemu-img convert -O qcow2 DISK NEW.qcow2",
                )
            descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"cannot read {printable(name)}: {error.strerror}") from error
        finally:
            os.close(found)
        file = self._add(decode(wanted), descriptor, (stat.S_ISREG,))
        return os.fdopen(os.dup(file.fileno()), "rb", buffering=0)

    def _check_allowed(self, name: str, path: bytes, disk_directory: bytes) -> None:
        """Raises SourceError for a file that is neither in the disk's directory nor below an allowed one."""
        directory = os.path.dirname(path)
        roots = [os.path.realpath(encode(each)) for each in self.allowed_directories]
        if directory != disk_directory and not any(
            directory == root or directory.startswith(root.rstrip(b"/") + b"/") for root in roots
        ):
            raise SourceError(
                f"it needs {printable(name)}, which is outside its directory",
                f"to allow that directory, use --allow-backing {printable(decode(directory))}",
            )

    def _add(self, path: str, descriptor: int, kinds: Sequence[object]) -> BinaryIO:
        file = self.stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        if not any(kind(os.fstat(descriptor).st_mode) for kind in kinds):  # type: ignore[operator]
            raise SourceError(
                f"{printable(path)} is not a file or block device", "name a chroot, a VM disk or an image"
            )
        self._check_unused(path, descriptor)
        self.opened.append((path, file, _change_stamp(file)))
        return file

    def _check_unused(self, path: str, descriptor: int) -> None:
        if self.force:
            return
        user = find_writer(descriptor)
        use = describe_writer(user) if user is not None else _describe_kernel_use(descriptor)
        if use:
            raise LockHeld(
                f"{printable(path)} is in use: {use}",
                "shut down the machine that uses it or unmount it, or read it anyway with --force",
            )

    def are_unchanged(self) -> bool:
        """Whether they are as when they were opened, and still at their paths, for a use of them that begins now.

        Raises LockHeld if another process writes to one.
        """
        for path, file, _ in self.opened:
            self._check_unused(path, file.fileno())
        return all(
            _change_stamp(file) == initial_stamp and _is_at(path, file) for path, file, initial_stamp in self.opened
        )

    def check_unchanged(self) -> None:
        """Raises FileChanged if a file was written to since it was opened; not with `force`."""
        for path, file, initial_stamp in () if self.force else self.opened:
            if _change_stamp(file) != initial_stamp:
                raise FileChanged(
                    f"{printable(path)} was written to while it was being read", "try again when it is no longer in use"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()


@dataclass(slots=True)
class ScratchFiles:
    """Unnamed temporary files that the sandboxed process may write to, until `opened` closes."""

    opened: ExitStack
    is_allowed: bool = False
    """Whether it may have another one now: to unpack a disk, or to copy a volume."""
    files: list[BinaryIO] = field(default_factory=list)

    def make(self) -> BinaryIO:
        """Another file, which the caller closes. Raises SourceError."""
        if not self.is_allowed:
            raise SourceError("its reader process requested a file to write to, which it does not need")
        self.files.append(self.opened.enter_context(make_scratch_file()))
        return os.fdopen(os.dup(self.files[-1].fileno()), "r+b", buffering=0)

    @contextmanager
    def allow_files(self) -> Iterator[None]:
        before, self.is_allowed = self.is_allowed, True
        try:
            yield
        finally:
            self.is_allowed = before


def _describe_kernel_use(descriptor: int) -> str:
    """What the kernel uses a block device for; empty if it is free, or a file. open(2), O_EXCL"""
    if not stat.S_ISBLK(os.fstat(descriptor).st_mode):
        return ""
    try:
        os.close(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        return "it is mounted, or part of another device" if error.errno == errno.EBUSY else ""
    return ""


def describe_writer(user: Writer) -> str:
    """The process and what it does, safe to print: `qemu-system-x86_64 (process 12) has locked it`."""
    match user.user:
        case None:
            who = "a process not visible from here"
        case Process(pid=pid, command=command):
            name = os.path.basename(command.partition(" ")[0]).strip("[]") or "a process"
            who = f"{printable(name)} (process {pid})"
        case device:
            who = device.name
    return f"{who} has locked it" if user.holds_lock else f"{who} has it open for writing"


def _is_at(path: str, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(encode(path)), os.fstat(file.fileno()))
    except OSError:
        return False


def _change_stamp(file: BinaryIO) -> _ChangeStamp:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
