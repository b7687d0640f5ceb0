"""openat2(2) in user space, for kernels before 5.6 and behind filters that forbid it: one component at a time.

Each step opens one name with O_PATH|O_NOFOLLOW, which has no effects and follows no links; links are resolved here, and
`..` goes back along the descriptors that led down. So no rename can lead out of the root.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

from ltsp.host.system_call import RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV, mount_id

_HANDLE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_MAX_LINKS = 40
"""The limit of Linux on symbolic links in one path. path_resolution(7)"""


def open_stepwise(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """A descriptor of what the path leads to below the directory, which is the root of absolute links and of `..`.

    Unlike with openat2, a magic link of /proc is resolved by its text, inside the root like any other.
    """
    with ExitStack() as opened:
        stack = [directory]
        rest = path.split(b"/")[::-1]
        links = 0
        while rest:
            name = rest.pop()
            if name in (b"", b".", b".."):
                _check_directory(stack[-1])
                if name == b"..":
                    del stack[max(1, len(stack) - 1) :]
                continue
            handle = os.open(name, _HANDLE_FLAGS, dir_fd=stack[-1])
            opened.callback(os.close, handle)
            if resolve & RESOLVE_NO_XDEV and _mount_identity(handle) != _mount_identity(directory):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            if not stat.S_ISLNK(os.fstat(handle).st_mode):
                stack.append(handle)
                continue
            links += 1
            if resolve & RESOLVE_NO_SYMLINKS or links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(b"", dir_fd=handle)
            if target.startswith(b"/"):
                del stack[1:]
            rest.extend(target.split(b"/")[::-1])
        return _open_handle(stack[-1], flags)


def _open_handle(handle: int, flags: int) -> int:
    if flags & os.O_DIRECTORY:
        _check_directory(handle)
    if flags & os.O_PATH:
        return os.dup(handle)
    return os.open(b"/proc/self/fd/%d" % handle, flags & ~os.O_NOFOLLOW)


def _check_directory(handle: int) -> None:
    if not stat.S_ISDIR(os.fstat(handle).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _mount_identity(descriptor: int) -> tuple[int | None, int]:
    """An identifier of the mount; that of the file system if the kernel has no mount IDs."""
    identity = mount_id(descriptor)
    return (identity, 0) if identity is not None else (None, os.fstat(descriptor).st_dev)
