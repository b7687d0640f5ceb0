"""What a file holds, told by its content: for the choice of a reader, and to say what was found instead."""

from __future__ import annotations

from typing import BinaryIO

SQUASHFS = "squashfs"

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    # In the order in which they decide: an isolinux disc has a partition table too.
    (0, b"hsqs", SQUASHFS),
    (0, b"QFI\xfb", "qcow2 disk"),
    (0, b"QED\0", "QED disk"),
    (0, b"KDMV", "VMDK disk"),
    (0, b"COWD", "VMDK disk"),
    (0, b"# Disk DescriptorFile", "VMDK descriptor"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI disk"),
    (0, b"vhdxfile", "VHDX disk"),
    (0, b"conectix", "VHD disk"),
    (0, b"LUKS\xba\xbe", "encrypted volume (LUKS)"),
    (0x8001, b"CD001", "ISO 9660 disc"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs file system"),
    (0x400, b"\xe2\xe1\xf5\xe0", "erofs file system"),
    (0x438, b"\x53\xef", "ext4 file system"),
    (0, b"XFSB", "xfs file system"),
    (0x10040, b"_BHRfS_M", "btrfs file system"),
    (0x218, b"LVM2 001", "LVM volume"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "part of a RAID"),
    (3, b"NTFS    ", "NTFS file system"),
    (0x36, b"FAT", "FAT file system"),
    (0x52, b"FAT32", "FAT file system"),
    (0x200, b"EFI PART", "disk with a GPT"),
    (0x1000, b"EFI PART", "disk with a GPT"),
    (0x1FE, b"\x55\xaa", "disk with an MBR"),
    (0x101, b"ustar", "tar archive"),
    (0, b"070701", "cpio archive"),
    (0, b"\x1f\x8b", "gzip file"),
    (0, b"\xfd7zXZ\0", "xz file"),
    (0, b"\x28\xb5\x2f\xfd", "zstd file"),
    (0, b"PK\x03\x04", "zip archive"),
    (0, b"\x7fELF", "program"),
)
_HEAD = max(offset + len(magic) for offset, magic, _ in _MAGICS)


def kind_of(file: BinaryIO) -> str:
    """A name like `qcow2 disk`; `empty file` and `file of an unknown kind` for the rest."""
    file.seek(0)
    head = file.read(_HEAD)
    if not head:
        return "empty file"
    for offset, magic, kind in _MAGICS:
        if head.startswith(magic, offset):
            return kind
    return "text file" if _is_text(head) else "file of an unknown kind"


def _is_text(head: bytes) -> bool:
    return not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head[:1024])
