"""What a volume holds, told by its magic numbers, in a word: `ext`, `lvm`, `luks`.

Those that hold others come first, as their owners leave the marks of what was there before: a RAID's member keeps its
number where a file system has it too. Places are those of libblkid's superblocks and of the kernel's headers.
"""

from __future__ import annotations

from typing import Final

from ltsp.disk import luks
from ltsp.storage.blocks import Blocks

EXT, XFS, BTRFS, SQUASHFS, EROFS, ISO9660, VFAT = "ext", "xfs", "btrfs", "squashfs", "erofs", "iso9660", "vfat"
SWAP, LVM, MD, LUKS, BITLOCKER = "swap", "lvm", "md", "luks", "bitlocker"
NOTHING, UNKNOWN, AMBIVALENT = "nothing", "unknown", "ambivalent"

_EXT_AT, _EXT_MAGIC = 0x438, b"\x53\xef"
_MAGICS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, luks.MAGIC, LUKS),
    (0, luks.BEGUN, LUKS),
    (3, b"-FVE-FS-", BITLOCKER),
    *((sector * 512 + 24, b"LVM2 001", LVM) for sector in range(4)),
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
    (_EXT_AT, _EXT_MAGIC, EXT),
    (0x406, b"\x34\x34", "nilfs2"),  # in the place of the number of blocks of ext
    (3, b"NTFS    ", "ntfs"),
    (3, b"EXFAT   ", "exfat"),
    (0x400, b"H+\0\x04", "hfsplus"),
    (0x20, b"NXSB", "apfs"),
    *((page - 10, magic, SWAP) for page in (4096, 8192, 16384, 65536) for magic in (b"SWAPSPACE2", b"SWAP-SPACE")),
    *((place << 10, b"\x0c\xb1\xba\0\0\0\0\0", "zfs") for place in range(128, 256)),
)
"""Place, magic and kind, in the order in which they decide."""
_HEAD: Final = 256 << 10

NAMES: Final = {
    EXT: "an ext2, ext3 or ext4 file system",
    "f2fs": "an f2fs file system",
    SWAP: "swap space",
    LVM: "a physical volume of LVM",
    MD: "a member of a RAID",
    LUKS: "an encrypted volume (LUKS)",
    BITLOCKER: "an encrypted volume (BitLocker)",
    ISO9660: "an ISO 9660 file system",
    VFAT: "a FAT file system",
    AMBIVALENT: "an ext file system and traces of another one, and nothing says which of them is a rest",
    NOTHING: "nothing",
    UNKNOWN: "no format that is known here",
}

REMEDIES: Final = {
    LUKS: "give its key by --key-file FILE, or unlock and mount it, and name the directory",
    BITLOCKER: "unlock and mount it, and name the directory",
    NOTHING: "is this the right disk? all that tells a file system or a table is zeros",
    UNKNOWN: "if Linux can mount it, mount it, and name the directory",
    AMBIVALENT: "say which, as in FILE,fstype=ext4, or remove the other one with wipefs",
}
"""What to do about those that cannot be read as they are."""


def named(kind: str) -> str:
    """For people: `a btrfs file system`."""
    if kind in NAMES:
        return NAMES[kind]
    return f"{'an' if kind[0] in 'aeinx' else 'a'} {kind} file system"


def kind_of(blocks: Blocks) -> str:
    """Raises SourceError and FormatError where the start cannot be read. RAID members are not told here."""
    head = blocks.read_at(0, _HEAD)
    for place, magic, kind in _MAGICS:
        if head.startswith(magic, place):
            return AMBIVALENT if place > _EXT_AT and _is_ext(head, blocks.size) else kind
    if is_fat(head):
        return VFAT
    return UNKNOWN if head.strip(b"\0") else NOTHING


def _is_ext(head: bytes, size: int) -> bool:
    """Whether there is a superblock with numbers that can be: its magic alone has two bytes.

    mke2fs leaves what lies behind it as it was, where the device discards nothing and the new file system needs no
    block there; so libblkid calls such a volume ambivalent, too.
    """
    if not head.startswith(_EXT_MAGIC, _EXT_AT):
        return False
    inodes, blocks, first, scale, revision = (
        int.from_bytes(head[at : at + 4], "little") for at in (0x400, 0x404, 0x414, 0x418, 0x44C)
    )
    return bool(inodes) and first < 2 and scale <= 6 and revision < 2 and 0 < blocks << 10 + scale <= size


def is_fat(sector: bytes) -> bool:
    """A jump, the signature, sane numbers, and a name where one is: a disk's boot sector has the signature, too."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa" or sector[0] not in {0xEB, 0xE9}:
        return False
    size, cluster, tables = int.from_bytes(sector[11:13], "little"), sector[13], sector[16]
    if size not in {512, 1024, 2048, 4096} or not cluster or cluster & cluster - 1 or tables not in {1, 2}:
        return False
    return sector[54:57] == b"FAT" or sector[82:85] == b"FAT" or sector[21] >= 0xF8
