"""What became of a tree that was written: sizes, losses, and where the time went."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.squashfs.output import SealedImage


@dataclass(frozen=True, slots=True)
class LostMetadata:
    """How many of what squashfs cannot hold."""

    times: int
    """Nodes whose time lies before 1970 or after 2106; it became the nearest one."""
    acls: int
    """POSIX ACL attributes."""
    foreign: int
    """Attributes that are not user's, trusted's or security's."""
    too_large: int
    """Attributes beyond what Linux takes."""


@dataclass(frozen=True, slots=True)
class ImageSizes:
    """What the parts of an image take, in bytes of the image."""

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
    """CPU time of the threads that compressed blocks, all together."""
    hash: float
    """Telling duplicates by their sha256."""
    contents: float
    """From the first file to the last block, by the clock; reading, `codec` and `hash` happen within."""
    tables: float
    """By the clock."""
    cpu: float
    """CPU time of the whole process while `write` ran."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What `write` wrote."""

    size: int
    """Bytes, with the padding."""
    sealed: SealedImage
    """What the file holds; whoever wants to know that it arrived, and its sha256, reads it back."""
    inodes: int
    source_bytes: int
    """Of regular files, each inode counted once, duplicates too."""
    duplicates: int
    """Files that share the content of an earlier one."""
    duplicate_bytes: int
    fragment_blocks: int
    lost: LostMetadata
    sizes: ImageSizes
    seconds: WriteSeconds


@dataclass(frozen=True, slots=True)
class MksquashfsResult:
    """What is known of an image that mksquashfs wrote; named as in what our own writer returns."""

    size: int
    inodes: int
    source_bytes: int
    lost: LostMetadata
    sockets: int
    """Left out: tar has no type for them."""
    root_attributes: int
    """Of the root directory, which is not in a tar stream."""
    keeps_root: bool
    """Whether this mksquashfs gives the root directory its own owner and time."""
