"""Files that others read: they appear whole or not at all, and are on the disk before anybody is told of them.

A large file has no name until it is complete (O_TMPFILE, then a link): a kill leaves nothing. A small one that
replaces another is written beside it under `.NAME.new` and renamed over it; whoever holds the lock of the place may
remove what a kill left there under such a name.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum

from ltsp.host import system_call

_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
"""What file systems (NFS, older overlayfs) and kernels without O_TMPFILE answer. open(2)"""

_TRIES = 100


@dataclass(frozen=True, slots=True)
class UnnamedFile:
    """A file that is being written and has no name yet, or where the file system lacks that, a private one."""

    file: io.FileIO
    """Open for reading and writing; mode 0600 until it is linked."""
    temporary: str | None

    def link(self, path: str, mode: int, group: int | None = None) -> None:
        """Give the finished file its name; data, attributes and link count are on the disk, the name itself is not.

        Raises FileExistsError where there is one already.
        """
        descriptor = self.file.fileno()
        set_access(descriptor, mode, group)
        if self.temporary is None:
            # Linking through /proc follows its magic link only if a source directory is given, even an unused one.
            proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.link(str(descriptor), path, src_dir_fd=proc, follow_symlinks=True)
            finally:
                os.close(proc)
        else:
            os.link(self.temporary, path)
        os.fsync(descriptor)


@contextmanager
def create_unnamed(directory: str) -> Iterator[UnnamedFile]:
    """A new file for this directory; gone at the end, but for the names it was given."""
    temporary = None
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NO_TMPFILE or not os.path.isdir(directory):
            raise
        temporary = os.path.join(directory, f".{os.getpid()}.{os.urandom(6).hex()}.new")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b", buffering=0) as file:
            assert isinstance(file, io.FileIO)
            yield UnnamedFile(file, temporary)
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


def write_all(descriptor: int, data: bytes) -> None:
    """All of the data: `write(2)` may take less."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def begin_flush(descriptor: int, at: int, size: int) -> None:
    """Let the kernel begin to write `size` bytes to the disk. It promises nothing: fsync does, and is shorter then."""
    with suppress(OSError):
        system_call.begin_flush(descriptor, at, size)


def create(path: str, data: bytes, mode: int) -> None:
    """A new file, whole from the moment it has its name; its directory is not yet on the disk."""
    with create_unnamed(os.path.dirname(path)) as new:
        write_all(new.file.fileno(), data)
        os.fsync(new.file.fileno())
        new.link(path, mode)


@dataclass(slots=True)
class Replacement:
    """What a name is going to be, prepared beside it: all that is left to do is one rename."""

    path: str
    new: str
    committed: bool = False

    def commit(self) -> None:
        os.rename(self.new, self.path)
        self.committed = True

    def discard(self) -> None:
        """Nothing of it stays, unless it was committed. For a way out that has an error to report already."""
        if not self.committed:
            with suppress(OSError):
                os.unlink(self.new)


def prepare_file(path: str, data: bytes, mode: int) -> Replacement:
    """A small file, written and on the disk."""
    replacement = Replacement(path, clear_temporary_name(path))
    descriptor = os.open(replacement.new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, data)
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    except BaseException:
        replacement.discard()
        raise
    finally:
        os.close(descriptor)
    return replacement


def prepare_symlink(path: str, target: str) -> Replacement | None:
    """None where the path is a symbolic link to this target already."""
    with suppress(OSError):
        if os.readlink(path) == target:
            return None
    replacement = Replacement(path, clear_temporary_name(path))
    os.symlink(target, replacement.new)
    return replacement


def prepare_hard_link(path: str, source: str) -> Replacement | None:
    """None where the path names this file already; a source that is a symbolic link is not followed.

    rename(2) of two names of one file does nothing and leaves both, so those are told apart first.
    """
    if same_file(path, source):
        return None
    replacement = Replacement(path, clear_temporary_name(path))
    os.link(source, replacement.new, follow_symlinks=False)
    return replacement


def replace(path: str, data: bytes, mode: int) -> None:
    """Put a small file in the place of another, in one step, durably."""
    _commit(prepare_file(path, data, mode))
    sync_directory(os.path.dirname(path))


def replace_by_symlink(path: str, target: str) -> None:
    """Make the path a symbolic link in one step; a link that is right already is left alone."""
    _commit(prepare_symlink(path, target))


def _commit(replacement: Replacement | None) -> None:
    if replacement is not None:
        try:
            replacement.commit()
        finally:
            replacement.discard()


class Obstacle(Enum):
    """Why rename(2) cannot put another file in the place of a name, as far as the name tells."""

    DIRECTORY = "a directory"
    MOUNT_POINT = "a mount point"
    IMMUTABLE = "immutable"
    APPEND_ONLY = "append-only"


def find_obstacle(path: str) -> Obstacle | None:
    """What keeps the path from being replaced or removed; None where nothing does, or nothing has that name."""
    try:
        record = system_call.statx(system_call.AT_FDCWD, os.fsencode(path))
    except OSError:
        return None
    if record.attributes & system_call.STATX_ATTR_MOUNT_ROOT:
        return Obstacle.MOUNT_POINT
    return Obstacle.DIRECTORY if stat.S_ISDIR(record.mode) else _protection(record)


def find_protection(directory: str) -> Obstacle | None:
    """What keeps the names in a directory from being changed: IMMUTABLE, APPEND_ONLY. ioctl_iflags(2)"""
    try:
        return _protection(system_call.statx(system_call.AT_FDCWD, os.fsencode(directory)))
    except OSError:
        return None


def _protection(record: system_call.Statx) -> Obstacle | None:
    if record.attributes & system_call.STATX_ATTR_IMMUTABLE:
        return Obstacle.IMMUTABLE
    return Obstacle.APPEND_ONLY if record.attributes & system_call.STATX_ATTR_APPEND else None


def exchange(first: str, second: str) -> None:
    """Swap two names in one step.

    Raises OSError with EINVAL or ENOSYS where file system or kernel cannot. rename(2)
    """
    system_call.exchange(os.fsencode(first), os.fsencode(second))


def clear_temporary_name(path: str) -> str:
    """Where the replacement of a path is prepared, with nothing there any more."""
    directory, name = os.path.split(path)
    new = os.path.join(directory, f".{name}.new")
    with suppress(FileNotFoundError):
        os.unlink(new)
    return new


def is_leftover(name: str) -> bool:
    """Whether a kill while writing may have left a file of this name."""
    return name.startswith(".") and name.endswith(".new")


def file_id(path: str) -> tuple[int, int] | None:
    """Device and inode of what bears the name, symbolic links not followed; None if nothing does."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def same_file(first: str, second: str) -> bool:
    """Whether two paths name one inode, symbolic links not followed."""
    one = file_id(first)
    return one is not None and one == file_id(second)


def make_directories(path: str, mode: int) -> None:
    """The directory and those above it, durably; the mode is that of the ones that are new, whatever the umask."""
    for _ in range(_TRIES):
        if os.path.isdir(path):
            return
        # Another run that made a directory above, and has no use for it, may take it away at any time.
        with suppress(FileNotFoundError):
            _make_directory(path, mode)
            return
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _make_directory(path: str, mode: int) -> None:
    parent = os.path.dirname(path)
    make_directories(parent, mode)
    with suppress(FileExistsError):
        os.mkdir(path, mode)
        os.chmod(path, mode)
    sync_directory(parent)


def set_access(descriptor: int, mode: int, group: int | None) -> None:
    """Group first: changing it may clear bits of the mode. chown(2)"""
    if group is not None:
        os.fchown(descriptor, -1, group)
    os.fchmod(descriptor, mode)


def sync_directory(path: str) -> None:
    """Names that were made, changed or removed in the directory are on the disk after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: str) -> None:
    """Remove a directory of ours and all in it; nothing there is no fault."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def list_names(directory: str) -> list[str]:
    """The names in a directory, sorted; none where there is no directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_files_below(directory: str) -> list[str]:
    """The paths of all that is no directory, at any depth; none where there is no directory."""
    return [os.path.join(place, name) for place, _, names in os.walk(directory) for name in names]


def is_regular(path: str) -> bool:
    """Whether the path itself, no symbolic link followed, is a regular file."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def size(path: str) -> int | None:
    """Bytes of what lies or leads there; None where nothing does."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def on_same_disk(first: str, second: str) -> bool:
    """Whether two directories share their free space, where they are or would be made."""
    return os.stat(existing_directory(first)).st_dev == os.stat(existing_directory(second)).st_dev


def free_bytes(directory: str) -> int:
    """What an unprivileged writer may still use where a directory is, or would be made. statvfs(3)"""
    status = os.statvfs(existing_directory(directory))
    return status.f_bavail * status.f_frsize


def disk_bytes(directory: str) -> int:
    """How large the file system is that a directory is on, or would be. statvfs(3)"""
    status = os.statvfs(existing_directory(directory))
    return status.f_blocks * status.f_frsize


def free_inodes(directory: str) -> int | None:
    """How many files may still be made there; None where the file system makes inodes as it needs them. statvfs(3)"""
    status = os.statvfs(existing_directory(directory))
    return status.f_favail if status.f_files else None


def existing_directory(path: str) -> str:
    """The path itself, or the first directory above it that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "."
    return path
