"""Identify what a volume holds by its magic numbers, as a word such as `ext`; and the remedy for unsupported kinds.

Containers are checked first, as the traces of earlier content often remain in them: a RAID member may also show the
magic number of its file system. Offsets are those of libblkid's superblocks and of the kernel's headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ltsp.disk.volume import luks
from ltsp.storage.blocks import Blocks

EXT, XFS, BTRFS, SQUASHFS, EROFS, ISO9660, VFAT = "ext", "xfs", "btrfs", "squashfs", "erofs", "iso9660", "vfat"
SWAP, LVM, MD, LUKS, BITLOCKER = "swap", "lvm", "md", "luks", "bitlocker"
NOTHING, UNKNOWN, AMBIVALENT = "nothing", "unknown", "ambivalent"
LVM_KIND, TEXT = "lvm-kind", "text"

_EXT_MAGIC_OFFSET, _EXT_MAGIC = 0x438, b"\x53\xef"
_MAGICS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, luks.MAGIC, LUKS),
    (0, luks.REENCRYPT_MAGIC, LUKS),
    (3, b"-FVE-FS-", BITLOCKER),
    *((sector * 512 + 24, b"LVM2 001", LVM) for sector in range(4)),
    *((sector * 512 + 4, b"!Stra0tis\x86\xff\x02^\x41rh", "stratis") for sector in (1, 9)),
    (0, b"dmvdo001", "vdo"),
    (0, b"XFSB", XFS),
    (0x10040, b"_BHRfS_M", BTRFS),
    (0, b"hsqs", SQUASHFS),
    (0x400, b"\xe2\xe1\xf5\xe0", EROFS),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs"),
    (0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", "bcache"),
    (0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", "bcachefs"),
    (0x10034, b"ReIsEr", "reiserfs"),
    (0x8000, b"JFS1", "jfs"),
    (0x8001, b"CD001", ISO9660),
    (0x8001, b"NSR0", "udf"),
    (0x8001, b"BEA01", "udf"),
    (_EXT_MAGIC_OFFSET, _EXT_MAGIC, EXT),
    (0x406, b"\x34\x34", "nilfs2"),  # where ext has its block count
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (3, b"ReFS\0\0\0\0", "refs"),
    (0x400, b"H+\0\x04", "hfsplus"),
    (0x400, b"HX\0\x05", "hfsplus"),
    (0x20, b"NXSB", "apfs"),
    # Backups of disks, which may be compressed like disks. vma_spec.txt of pve-qemu; partclone.h
    (0, b"VMA\0", "vma"),
    (0, b"partclone-image", "partclone"),
    (0x1055C, b"\x19\x01\x54\x19", "ufs"),
    *((page - 10, magic, SWAP) for page in (4096, 8192, 16384, 65536) for magic in (b"SWAPSPACE2", b"SWAP-SPACE")),
    *((offset << 10, b"\x0c\xb1\xba\0\0\0\0\0", "zfs") for offset in range(128, 256)),
)
"""Offset, magic and kind; the first match decides."""
_HEAD_SIZE: Final = 256 << 10
_DISTANT_MAGICS: Final = ((0x100000, b"\x0d\xd0\x01\xc0", "vmfs"), (0x200000, b"\x5e\xf1\xab\x2f", "vmfs"))
"""The same, for formats without a magic near the start."""


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """The name and the remedy of a kind."""

    name: str
    """As in `it holds swap space`."""
    remedy: str = ""
    """What to type or do if it is not supported; empty if it always is."""


_KERNEL_HINT = "run this as root on a kernel with {} support, or mount it, and run: ltsp image /mnt"
_OTHER_DISK_HINT = "clients boot Linux: give another disk, or another partition with FILE,partition=NUMBER"
_CONVERT_HINT = "convert it, and give the result: qemu-img convert -O qcow2 FILE lab.qcow2"
_UNPACK_HINT = "unpack it, and give the disk or directory in it: {}"

FORMATS: Final[Mapping[str, FormatInfo]] = {
    # Contents of volumes; the magic numbers above are those of libblkid.
    EXT: FormatInfo("an ext2, ext3 or ext4 file system"),
    XFS: FormatInfo("an xfs file system"),
    BTRFS: FormatInfo("a btrfs file system"),
    ISO9660: FormatInfo("an ISO 9660 file system"),
    VFAT: FormatInfo("a FAT file system"),
    **{
        kind: FormatInfo(f"{article} {kind} file system", _KERNEL_HINT.format(kind))
        for kind, article in (
            *((EROFS, "an"), ("f2fs", "an"), ("bcachefs", "a"), ("reiserfs", "a"), ("jfs", "a")),
            *(("nilfs2", "a"), ("udf", "a"), (SQUASHFS, "a")),
        )
    },
    SWAP: FormatInfo("swap space", "it holds no files: give the disk or partition of the system"),
    # pvs(8): a volume without a group, or one whose group has other disks that are missing.
    LVM: FormatInfo("an LVM physical volume", "give the other disks of its group: FILE,disk=SECOND,disk=THIRD"),
    # Manual pages: lvmthin(7), lvmraid(7), lvmcache(7).
    LVM_KIND: FormatInfo(
        "an LVM volume that is neither linear nor striped",
        "activate it (losetup -fP FILE; vgchange -ay), mount it, and run: ltsp image /mnt",
    ),
    # Manual page: mdadm(8).
    MD: FormatInfo(
        "a RAID member",
        "assemble it (losetup -fP each disk; mdadm --assemble --scan --readonly), mount it, and run: ltsp image /mnt",
    ),
    LUKS: FormatInfo(
        "an encrypted volume (LUKS)",
        "give its key with --key-file FILE, or unlock it, mount it, and run ltsp image on it",
    ),
    BITLOCKER: FormatInfo("an encrypted volume (BitLocker)", f"it belongs to Windows; {_OTHER_DISK_HINT}"),
    # Manual pages: stratis(8), vdoformat(8); bcache.rst of the kernel.
    "stratis": FormatInfo("a member of a Stratis pool", "start the pool, mount it, and run: ltsp image /mnt"),
    "vdo": FormatInfo("a VDO volume", "activate it (vgchange -ay), mount it, and run: ltsp image /mnt"),
    "bcache": FormatInfo(
        "a bcache device",
        "register it (modprobe bcache), mount /dev/bcache0, and run: ltsp image /mnt",
    ),
    # Manual page: zpool-import(8).
    "zfs": FormatInfo(
        "a member of a ZFS pool",
        "import the pool, and give the directory: losetup -fP FILE; zpool import -o readonly=on -R /mnt POOL; "
        "ltsp image /mnt",
    ),
    "vmfs": FormatInfo("an ESXi datastore (VMFS)", "copy the machine's disk (.vmdk) out of it with scp, and give that"),
    "ntfs": FormatInfo("an NTFS file system", f"it belongs to Windows; {_OTHER_DISK_HINT}"),
    "exfat": FormatInfo("an exFAT file system", f"no system is installed on exFAT; {_OTHER_DISK_HINT}"),
    "refs": FormatInfo("a ReFS file system", f"it belongs to Windows; {_OTHER_DISK_HINT}"),
    "hfsplus": FormatInfo("an HFS+ file system", f"it belongs to macOS; {_OTHER_DISK_HINT}"),
    "apfs": FormatInfo("an APFS container", f"it belongs to macOS; {_OTHER_DISK_HINT}"),
    "ufs": FormatInfo("a UFS file system", f"it belongs to BSD; {_OTHER_DISK_HINT}"),
    AMBIVALENT: FormatInfo(
        "an ext file system and traces of another one, and it is unclear which of them is current",
        "specify which, as in FILE,fstype=ext4, or remove the other one with wipefs",
    ),
    NOTHING: FormatInfo("nothing", "check that it is the right disk: it is empty, or starts with zeros only"),
    UNKNOWN: FormatInfo("no known format", "if Linux can mount it, mount it, and run ltsp image on the mount point"),
    # Disks of other virtual machines; qemu-img(1) reads them.
    "qed": FormatInfo("a QED disk", _CONVERT_HINT),
    "parallels": FormatInfo("a Parallels disk", _CONVERT_HINT),
    "bochs": FormatInfo("a bochs disk", _CONVERT_HINT),
    "cloop": FormatInfo("a compressed loop (cloop)", _CONVERT_HINT),
    "redo": FormatInfo("an ESXi redo log", "remove the snapshots of the machine, then give the disk itself"),
    # Backups of disks: vma(1) of Proxmox VE, partclone.restore(8) of Clonezilla images.
    "vma": FormatInfo(
        "a Proxmox VE backup (VMA)",
        "unpack it on a Proxmox VE host, and give the disk in it: vma extract FILE lab; ltsp image ./lab/DISK.raw",
    ),
    "partclone": FormatInfo(
        "a partclone backup of a partition, as made by Clonezilla",
        "restore it to a file, and give that: partclone.restore -C -W -s FILE -o lab.raw; ltsp image ./lab.raw",
    ),
    # Disk images of macOS: dmg2img(1), hdiutil(1).
    "dmg": FormatInfo("a macOS disk image (DMG)", "unpack it, and give the disk: qemu-img convert -O raw FILE lab.raw"),
    # Archives; those other than tar with the program that unpacks them.
    "tar": FormatInfo("a tar archive", "an archive must be a regular file: cat FILE >lab.tar; ltsp image ./lab.tar"),
    "zip": FormatInfo("a zip archive", _UNPACK_HINT.format("unzip FILE")),
    "7z": FormatInfo("a 7-Zip archive", _UNPACK_HINT.format("7z x FILE")),
    "rar": FormatInfo("a RAR archive", _UNPACK_HINT.format("unrar x FILE, or 7z x FILE")),
    "cab": FormatInfo("a Windows cabinet", _UNPACK_HINT.format("7z x FILE")),
    "wim": FormatInfo("a Windows image (WIM)", f"it belongs to Windows; {_OTHER_DISK_HINT}"),
    "cpio": FormatInfo("a cpio archive", _UNPACK_HINT.format("mkdir lab; cpio -idm -D lab <FILE")),
    "lz4": FormatInfo("an lz4 file", "unpack it, and give the result: unlz4 FILE"),
    "lzip": FormatInfo("an lzip file", "unpack it, and give the result: lzip -dk FILE"),
    "lzop": FormatInfo("an lzop file", "unpack it, and give the result: lzop -d FILE"),
    "deb": FormatInfo("a Debian package", "a package is not a system: create one with debootstrap or mmdebstrap"),
    "rpm": FormatInfo("an RPM package", "a package is not a system: create one with dnf --installroot"),
    "program": FormatInfo("a program", "give a directory, a squashfs file, a virtual machine disk or a tar archive"),
    TEXT: FormatInfo(
        "text",
        "is it the right file? a failed download leaves a page of text: download it again; "
        "for a virtual machine, give the disk, not its settings (.vbox, .vmx, .ovf)",
    ),
}
"""By kind; every unsupported kind has a remedy."""

FILE_MAGICS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0x101, b"ustar", "tar"),
    (0, b"070701", "cpio"),
    (0, b"070702", "cpio"),
    (0, b"070707", "cpio"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"MSCF\0\0\0\0", "cab"),
    (0, b"MSWIM\0\0\0", "wim"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"LZIP", "lzip"),
    (0, b"\x89LZO\0\r\n\x1a\n", "lzop"),
    (0, b"!<arch>\ndebian-", "deb"),
    (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"\x7fELF", "program"),
)
"""Files that are neither disks nor volumes: offset, magic and kind. file(1), magic(5)"""


def describe_kind(kind: str) -> str:
    """The kind in a message: `a btrfs file system`."""
    return FORMATS[kind].name if kind in FORMATS else f"a {kind} file system"


def get_remedy(kind: str) -> str:
    """What to type or do about an unsupported kind; empty if it is unknown or always supported."""
    return FORMATS[kind].remedy if kind in FORMATS else ""


def detect_kind(blocks: Blocks) -> str:
    """The kind of a volume, except RAID members. Raises SourceError and FormatError if the start cannot be read."""
    head = blocks.read_at(0, _HEAD_SIZE)
    for offset, magic, kind in _MAGICS:
        if head.startswith(magic, offset):
            return AMBIVALENT if offset > _EXT_MAGIC_OFFSET and _is_ext(head, blocks.size) else kind
    if is_fat(head):
        return VFAT
    far = next((kind for offset, magic, kind in _DISTANT_MAGICS if blocks.read_at(offset, len(magic)) == magic), "")
    if far:
        return far
    return UNKNOWN if head.strip(b"\0") else NOTHING


def _is_ext(head: bytes, size: int) -> bool:
    """Whether there is a plausible superblock; its magic alone has only two bytes.

    mke2fs does not clear the blocks after it unless the device discards them or the new file system uses them; libblkid
    calls such a volume ambivalent, too.
    """
    if not head.startswith(_EXT_MAGIC, _EXT_MAGIC_OFFSET):
        return False
    inodes, blocks, first, scale, revision = (
        int.from_bytes(head[at : at + 4], "little") for at in (0x400, 0x404, 0x414, 0x418, 0x44C)
    )
    return bool(inodes) and first < 2 and scale <= 6 and revision < 2 and 0 < blocks << 10 + scale <= size


def is_fat(sector: bytes) -> bool:
    """Check the jump, the signature, the numbers and the name: an MBR has the signature, too."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa" or sector[0] not in {0xEB, 0xE9}:
        return False
    size, cluster, tables = int.from_bytes(sector[11:13], "little"), sector[13], sector[16]
    if size not in {512, 1024, 2048, 4096} or not cluster or cluster & cluster - 1 or tables not in {1, 2}:
        return False
    return sector[54:57] == b"FAT" or sector[82:85] == b"FAT" or sector[21] >= 0xF8
