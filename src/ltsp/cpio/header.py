"""The header of a newc entry: a magic and thirteen numbers of eight hexadecimal digits, then the name.

Also the padding of a whole archive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ltsp.tree.content import Bytes, ConcatContent, Content

TRAILER: Final = b"TRAILER!!!"
"""The name of the entry that ends an archive."""
MAX_PATH_SIZE: Final = 4095
"""Bytes of a name or a link's target; init/initramfs.c ignores those longer than PATH_MAX, including the NUL."""
MAX_NUMBER: Final = 2**32 - 1
"""The largest file in bytes, and the latest time in seconds since 1970, that fit into eight digits."""

_MAGIC: Final = b"070701"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewcHeader:
    name: bytes
    """Relative, or `.` for the root."""
    inode: int = 0
    mode: int = 0
    """Mode, including the type bits."""
    uid: int = 0
    gid: int = 0
    links: int = 1
    """Entries with this inode in the archive; the kernel looks for an earlier one only if there are 2 or more."""
    mtime: int = 0
    size: int = 0
    """Bytes of the data that follows."""
    major: int = 0
    """Number of a device node."""
    minor: int = 0

    def pack(self) -> bytes:
        """The header with the name, padded so that data may follow."""
        numbers = (
            self.inode,
            self.mode,
            self.uid,
            self.gid,
            self.links,
            self.mtime,
            self.size,
            0,  # major and minor number of the file's device
            0,
            self.major,
            self.minor,
            len(self.name) + 1,
            0,  # checksum of the data, only with magic 070702
        )
        packed = _MAGIC + b"".join(b"%08X" % number for number in numbers) + self.name + b"\0"
        return packed + padding(len(packed))


def padding(size: int) -> bytes:
    """The padding to a multiple of 4 bytes, counted from the start of the archive or of the data."""
    return bytes(-size % 4)


def pad_initrd(initrd: Content) -> Content:
    """The initrd, padded with zeros to a multiple of 4 bytes.

    The kernel recognises an uncompressed archive only at multiples of 4 (init/initramfs.c, unpack_to_rootfs), and skips
    zeros between archives. iPXE and GRUB align what they load; the kernel's EFI stub concatenates the `initrd=` files
    without padding (drivers/firmware/efi/libstub/file.c).
    """
    zeros = padding(initrd.size)
    return ConcatContent((initrd, Bytes(zeros))) if zeros else initrd
