"""Pad an initrd so that another one can be loaded after it."""

from __future__ import annotations

from ltsp.cpio.header import padding
from ltsp.tree.concat import ConcatContent
from ltsp.tree.content import Bytes, Content


def pad_initrd(initrd: Content) -> Content:
    """The initrd, padded with zeros to a multiple of 4 bytes.

    The kernel recognises an uncompressed archive only at multiples of 4 (init/initramfs.c, unpack_to_rootfs), and skips
    zeros between archives. iPXE and GRUB align what they load; the kernel's EFI stub concatenates the `initrd=` files
    without padding (drivers/firmware/efi/libstub/file.c).
    """
    zeros = padding(initrd.size)
    return ConcatContent((initrd, Bytes(zeros))) if zeros else initrd
