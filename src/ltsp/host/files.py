"""Writes files that others read: they appear complete or not at all, and are on the disk before they are announced.

A large file has no name until it is complete (O_TMPFILE, then a link): a kill leaves nothing behind. A small one that
replaces another is written next to it as `.NAME.new` and renamed over it; the holder of the directory's lock may
remove such files after a kill.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

_TMPFILE_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}
"""Errors of file systems (NFS, older overlayfs) and kernels without O_TMPFILE. open(2)"""

_MAX_TRIES = 100


@dataclass(frozen=True, slots=True)
class UnnamedFile:
    """A file that is being written and has no name yet, or a private one if the file system does not support that."""

    file: io.FileIO
    """Open for reading and writing; mode 0600 until it is linked."""
    temporary_path: str | None

    def link(self, path: str, mode: int, group: int | None = None) -> None:
        """Give the finished file its name; data, attributes and link count are on the disk, the name itself is not.

        Raises FileExistsError if the name exists.
        """
        descriptor = self.file.fileno()
        set_access(descriptor, mode, group)
        if self.temporary_path is None:
            # Linking through /proc follows its magic link only if a source directory is given, even an unused one.
            proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.link(str(descriptor), path, src_dir_fd=proc, follow_symlinks=True)
            finally:
                os.close(proc)
        else:
            os.link(self.temporary_path, path)
        os.fsync(descriptor)


@contextmanager
def create_unnamed_file(directory: str) -> Iterator[UnnamedFile]:
    """A new file for this directory, which vanishes at the end of the block unless it was given a name."""
    temporary_path = None
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _TMPFILE_UNSUPPORTED or not os.path.isdir(directory):
            raise
        temporary_path = os.path.join(directory, f".{os.getpid()}.{os.urandom(6).hex()}.new")
        descriptor = os.open(temporary_path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b", buffering=0) as file:
            assert isinstance(file, io.FileIO)
            yield UnnamedFile(file, temporary_path)
    finally:
        if temporary_path is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary_path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data: write(2) may write less."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def start_writeback(descriptor: int, offset: int, file_size: int) -> None:
    """Let the kernel start writing `file_size` bytes to the disk, so that a later fsync takes less time."""
    from ltsp.host import system_call  # noqa: PLC0415 -- loads ctypes, which those who only read do without

    with suppress(OSError):
        system_call.start_writeback(descriptor, offset, file_size)


def create_file(path: str, data: bytes, mode: int) -> None:
    """A new file, complete as soon as it has its name; its directory is not yet synced."""
    with create_unnamed_file(os.path.dirname(path)) as new:
        write_all(new.file.fileno(), data)
        os.fsync(new.file.fileno())
        new.link(path, mode)


@dataclass(slots=True)
class Replacement:
    """A prepared replacement of a name: only a rename is left to do."""

    path: str
    temporary_path: str
    committed: bool = False

    def commit(self) -> None:
        os.rename(self.temporary_path, self.path)
        self.committed = True

    def discard(self) -> None:
        """Remove it unless it was committed, ignoring errors: for use when an error is already being reported."""
        if not self.committed:
            with suppress(OSError):
                os.unlink(self.temporary_path)


def prepare_file(path: str, data: bytes, mode: int) -> Replacement:
    """A small file, written and on the disk."""
    replacement = Replacement(path, clear_temporary_name(path))
    descriptor = os.open(replacement.temporary_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
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
    """None if the path is already a symbolic link to this target."""
    with suppress(OSError):
        if os.readlink(path) == target:
            return None
    replacement = Replacement(path, clear_temporary_name(path))
    os.symlink(target, replacement.temporary_path)
    return replacement


def prepare_hard_link(path: str, source: str) -> Replacement | None:
    """None if the path already names this file; a source that is a symbolic link is not followed.

    rename(2) of two names of one file does nothing and leaves both, so this case is checked first.
    """
    if is_same_file(path, source):
        return None
    replacement = Replacement(path, clear_temporary_name(path))
    os.link(source, replacement.temporary_path, follow_symlinks=False)
    return replacement


def replace_file(path: str, data: bytes, mode: int) -> None:
    """Replace a file with a small one, atomically and durably."""
    _commit(prepare_file(path, data, mode))
    sync_directory(os.path.dirname(path))


def replace_by_symlink(path: str, target: str) -> None:
    """Make the path a symbolic link, atomically; a correct link is left alone."""
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
    """What prevents the path from being replaced or removed; None if nothing does, or it does not exist."""
    from ltsp.host import system_call  # noqa: PLC0415 -- likewise

    try:
        record = system_call.statx(system_call.AT_FDCWD, os.fsencode(path))
    except OSError:
        return None
    if record.attributes & system_call.STATX_ATTR_MOUNT_ROOT:
        return Obstacle.MOUNT_POINT
    return Obstacle.DIRECTORY if stat.S_ISDIR(record.mode) else _protection(record.attributes)


def find_protection(directory: str) -> Obstacle | None:
    """The flags that prevent changes to the names in a directory: IMMUTABLE, APPEND_ONLY. ioctl_iflags(2)"""
    from ltsp.host import system_call  # noqa: PLC0415 -- likewise

    try:
        return _protection(system_call.statx(system_call.AT_FDCWD, os.fsencode(directory)).attributes)
    except OSError:
        return None


def _protection(attributes: int) -> Obstacle | None:
    from ltsp.host import system_call  # noqa: PLC0415 -- likewise

    if attributes & system_call.STATX_ATTR_IMMUTABLE:
        return Obstacle.IMMUTABLE
    return Obstacle.APPEND_ONLY if attributes & system_call.STATX_ATTR_APPEND else None


def exchange(first: str, second: str) -> None:
    """Swap two names atomically.

    Raises OSError with EINVAL or ENOSYS if the file system or kernel does not support it. rename(2)
    """
    from ltsp.host import system_call  # noqa: PLC0415 -- likewise

    system_call.exchange(os.fsencode(first), os.fsencode(second))


def clear_temporary_name(path: str) -> str:
    """The path at which a replacement is prepared, after removing leftovers."""
    directory, name = os.path.split(path)
    new = os.path.join(directory, f".{name}.new")
    with suppress(FileNotFoundError):
        os.unlink(new)
    return new


def is_leftover(name: str) -> bool:
    """Whether a kill while writing may have left a file of this name."""
    return name.startswith(".") and name.endswith(".new")


def file_id(path: str) -> tuple[int, int] | None:
    """Device and inode of a name, symbolic links not followed; None if it does not exist."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def is_same_file(first: str, second: str) -> bool:
    """Whether two paths name one inode, symbolic links not followed."""
    one = file_id(first)
    return one is not None and one == file_id(second)


def make_directories(path: str, mode: int) -> None:
    """Create the directory and its parents, durably; new ones get this mode regardless of the umask."""
    for _ in range(_MAX_TRIES):
        if os.path.isdir(path):
            return
        # Another run that created a directory above may remove it again at any time.
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
    """Sync names that were created, changed or removed in the directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: str) -> None:
    """Remove one of our directories with its contents; it may be missing."""
    import shutil  # noqa: PLC0415 -- with it come the modules of all kinds of archives

    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def list_names(directory: str) -> list[str]:
    """The names in a directory, sorted; none if it does not exist."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_files_below(directory: str) -> list[str]:
    """The paths of everything except directories, at any depth; none if the directory does not exist."""
    return [os.path.join(place, name) for place, _, names in os.walk(directory) for name in names]


def is_regular(path: str) -> bool:
    """Whether the path itself, no symbolic link followed, is a regular file."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def file_size(path: str) -> int | None:
    """The size in bytes, links followed; None if it does not exist."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def are_on_same_file_system(first: str, second: str) -> bool:
    """Whether two directories, which may not exist yet, share their free space."""
    return os.stat(nearest_existing_directory(first)).st_dev == os.stat(nearest_existing_directory(second)).st_dev


def free_bytes(directory: str) -> int:
    """Free bytes for an unprivileged writer at a directory, which may not exist yet. statvfs(3)"""
    status = os.statvfs(nearest_existing_directory(directory))
    return status.f_bavail * status.f_frsize


def file_system_size(directory: str) -> int:
    """Size in bytes of the file system of a directory, which may not exist yet. statvfs(3)"""
    status = os.statvfs(nearest_existing_directory(directory))
    return status.f_blocks * status.f_frsize


def free_inodes(directory: str) -> int | None:
    """How many more files can be created there; None if inodes are allocated on demand. statvfs(3)"""
    status = os.statvfs(nearest_existing_directory(directory))
    return status.f_favail if status.f_files else None


def nearest_existing_directory(path: str) -> str:
    """The path itself, or the nearest existing directory above it."""
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "."
    return path


def is_working_directory_removed() -> bool:
    """Whether the working directory was removed, so that relative paths do not work. getcwd(2), ENOENT"""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


_MAX_SIZE: Final = 64 << 20
"""Bytes."""


def read_server_file(path: str) -> bytes | None:
    """The bytes of the file at a path relative to `/`, links followed; None if it is missing or unreadable.

    Only regular files are read, so that it never blocks.
    """
    name = b"/" + path.encode("utf-8", "surrogateescape")
    try:
        with open(name, "rb", buffering=0, opener=_open_regular) as file:
            return file.read(_MAX_SIZE)
    except OSError:
        return None


def _open_regular(name: str, _flags: int) -> int:
    """Raises OSError if it is not a regular file, or too large."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_SIZE:
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return descriptor
