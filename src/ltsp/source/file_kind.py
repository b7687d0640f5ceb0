"""What a file holds, told by its content: for the choice of a reader, and to say what was found instead."""

from __future__ import annotations

from typing import BinaryIO

SQUASHFS = "a squashfs"
NO_DISKS = frozenset(
    {"a tar archive", "a cpio archive", "a bzip2 file", "a zip archive", "a program", "text", "nothing"}
)
"""What nobody would look for a system in."""

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    # In the order in which they decide: an isolinux disc has a partition table too.
    (0, b"hsqs", SQUASHFS),
    (0, b"QFI\xfb", "a qcow2 disk"),
    (0, b"QED\0", "a QED disk"),
    (0, b"KDMV", "a VMDK disk"),
    (0, b"COWD", "a VMDK disk"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI disk"),
    (0, b"vhdxfile", "a VHDX disk"),
    (0, b"conectix", "a VHD disk"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0x8001, b"CD001", "an ISO 9660 disc"),
    (0x400, b"\x10\x20\xf5\xf2", "an f2fs file system"),
    (0x400, b"\xe2\xe1\xf5\xe0", "an erofs file system"),
    (0x438, b"\x53\xef", "an ext4 file system"),
    (0, b"XFSB", "an xfs file system"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (0x218, b"LVM2 001", "an LVM volume"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "a part of a RAID"),
    (3, b"NTFS    ", "an NTFS file system"),
    (0x36, b"FAT", "a FAT file system"),
    (0x52, b"FAT32", "a FAT file system"),
    (0x200, b"EFI PART", "a disk with a GPT"),
    (0x1000, b"EFI PART", "a disk with a GPT"),
    (0x1FE, b"\x55\xaa", "a disk with an MBR"),
    (0x101, b"ustar", "a tar archive"),
    (0, b"070701", "a cpio archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x7fELF", "a program"),
)
_HEAD = max(offset + len(magic) for offset, magic, _ in _MAGICS)


def kind_of(file: BinaryIO) -> str:
    """What it holds: `a qcow2 disk`, or `text`, `nothing`, `no format that is known here`."""
    file.seek(0)
    head = file.read(_HEAD)
    if not head:
        return "nothing"
    for offset, magic, kind in _MAGICS:
        if head.startswith(magic, offset):
            return kind
    return "text" if _is_text(head) else "no format that is known here"


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head[:1024])
