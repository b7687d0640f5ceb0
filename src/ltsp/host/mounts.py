"""Private mounts, in a mount namespace that removes them when it ends.

Nothing has to be unmounted: when the last process in it ends, even by a kill, the kernel unmounts everything.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltsp.errors import LtspError
from ltsp.host import system_call
from ltsp.host.system_call import MS_BIND, MS_NODEV, MS_NOSUID, MS_REC, MS_SLAVE

_LONGEST_OPTIONS = 4095
"""Bytes of mount options: one page, with its NUL. mount(2)"""


def isolate_mounts() -> None:
    """Move this thread into a private mount namespace, whose mounts are not visible elsewhere.

    What others unmount is unmounted here too: a copy that stayed would keep their disk or loop device busy, unseen,
    until we end. mount_namespaces(7), MS_SLAVE
    Threads that exist already stay where they are; those and the programs that it starts from now on are in it.

    Raises LtspError without the privilege.
    """
    try:
        system_call.unshare_mounts()
        system_call.mount(b"none", b"/", b"", MS_REC | MS_SLAVE, b"")
    except OSError as error:
        raise LtspError(f"cannot create a private mount namespace: {error.strerror}", "run as root") from error


def bind(source: bytes, target: bytes) -> None:
    system_call.mount(source, target, b"", MS_BIND, b"")


def mount_tmpfs(target: bytes) -> None:
    system_call.mount(b"tmpfs", target, b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=0700")


def mount_overlay(lower: Sequence[bytes], upper: bytes, work: bytes, target: bytes) -> None:
    """Mount a writable directory over others, the topmost first; `work` is empty and next to `upper`.

    Raises OSError: EINVAL if overlayfs does not support one of the file systems.
    """
    layers = b":".join(_escape(path, b"\\:,") for path in lower)
    options = b"lowerdir=%s,upperdir=%s,workdir=%s" % (layers, _escape(upper, b"\\,"), _escape(work, b"\\,"))
    if len(options) > _LONGEST_OPTIONS:
        raise LtspError(f"{len(lower)} layers have paths too long for the mount options")
    system_call.mount(b"overlay", target, b"overlay", 0, options)


def _escape(path: bytes, special: bytes) -> bytes:
    """A path in the options of overlay, where commas end an option and colons a layer. Kernel: overlayfs.rst"""
    return b"".join(b"\\" + byte if byte in special else byte for byte in (path[i : i + 1] for i in range(len(path))))
