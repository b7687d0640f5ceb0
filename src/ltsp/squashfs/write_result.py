"""The result of writing an image: sizes, lost metadata and timing."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.squashfs.output import SealedImage


@dataclass(frozen=True, slots=True)
class LostMetadata:
    """Counts of metadata that squashfs cannot store."""

    times: int
    """Nodes whose time was clamped to 1970 to 2106."""
    acls: int
    """POSIX ACL attributes."""
    foreign: int
    """Attributes outside of user, trusted and security."""
    too_large: int
    """Attributes that exceed the limits of Linux."""


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """Sizes of the parts of an image, in bytes."""

    data: int
    fragments: int
    inodes: int
    directories: int
    other: int
    """The tables that follow the directories, the superblock and the padding."""


@dataclass(frozen=True, slots=True)
class WriteSeconds:
    """Where the time went."""

    codec: float
    """Total CPU time of the threads that compress blocks."""
    hash: float
    """Detecting duplicates by their sha256."""
    contents: float
    """Wall-clock time from the first file to the last block, including reading, `codec` and `hash`."""
    tables: float
    """Wall-clock time."""
    cpu: float
    """CPU time of the whole process while `write` ran."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """The result of `write_squashfs`."""

    size: int
    """Bytes, with the padding."""
    sealed: SealedImage
    """The finished file; read it back to verify it and to get its sha256."""
    inodes: int
    source_bytes: int
    """Bytes of regular files, each inode counted once, including duplicates."""
    duplicates: int
    """Files that share their content with an earlier one."""
    duplicate_bytes: int
    fragment_blocks: int
    lost: LostMetadata
    sizes: ImageSizes
    seconds: WriteSeconds


@dataclass(frozen=True, slots=True)
class MksquashfsResult:
    """The result of mksquashfs; fields are named as in WriteResult."""

    size: int
    inodes: int
    source_bytes: int
    lost: LostMetadata
    sockets: int
    """Left out: tar has no type for them."""
    root_attributes: int
    """Attributes of the root directory, which is not in a tar stream."""
    keeps_root: bool
    """Whether this mksquashfs gives the root directory its own owner and time."""
