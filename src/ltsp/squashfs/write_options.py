"""Options for writing an image."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ltsp.errors import UsageError
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.format import METADATA_STORED, XATTR_PREFIXES
from ltsp.squashfs.superblock import LARGEST_BLOCK, SMALLEST_BLOCK


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """The equivalents of mksquashfs options."""

    compression: Compression = field(default_factory=Compression)
    block_size: int = 131072
    """Bytes; a power of two from 4096 to 1 MiB."""
    threads: int = 0
    """Compression threads; 0 means one for each processor that this process may use."""
    xattrs: bool = True
    xattr_namespaces: Collection[str] = XATTR_PREFIXES
    """Namespaces to keep, a subset of XATTR_PREFIXES."""
    time: int | None = None
    """Time of the image in seconds since 1970; None means the newest time in the tree."""
    first: Mapping[str, int] = field(default_factory=dict)
    """Priorities of files by path: those above 0 come before all others, those below 0 after, the highest first."""

    def __post_init__(self) -> None:
        size = self.block_size
        if not SMALLEST_BLOCK <= size <= LARGEST_BLOCK or size & (size - 1):
            raise UsageError(f"invalid block size of {size} bytes", "choose a power of two from 4K to 1M")

    @property
    def is_compressed(self) -> bool:
        """Whether contents and tables are compressed."""
        return self.compression.name != "none"

    @property
    def record(self) -> bytes:
        """The compressor options after the superblock as a metadata block, or empty."""
        options = self.compression.options() if self.is_compressed else b""
        return (len(options) | METADATA_STORED).to_bytes(2, "little") + options if options else b""
