"""Where an initrd has to end, so that another one can be loaded behind it."""

from __future__ import annotations

from ltsp.cpio.header import padding
from ltsp.tree.concat import ConcatContent
from ltsp.tree.content import Bytes, Content


def pad_initrd(initrd: Content) -> Content:
    """The initrd with zeros behind it up to a multiple of 4 bytes.

    The kernel takes an archive that is not compressed for one at multiples of 4 alone (init/initramfs.c,
    unpack_to_rootfs), and passes over zeros between archives. iPXE and GRUB align what they load; the kernel's own EFI
    stub joins the files that `initrd=` names as they are (drivers/firmware/efi/libstub/file.c).
    """
    zeros = padding(initrd.size)
    return ConcatContent((initrd, Bytes(zeros))) if zeros else initrd
