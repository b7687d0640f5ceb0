"""The facts stated in a kernel's file: whether it is a kernel, its version, and the size of a bzImage.

bzImage: Documentation/arch/x86/boot.rst of Linux. Other formats contain the banner of init/version.c, most of them
compressed: Image.gz, uImage (include/image.h of U-Boot), zImage (arch/arm/boot/compressed/head.S), and the EFI "zboot"
format (drivers/firmware/efi/libstub/zboot-header.S).

6.10 comes after 6.9, and a release after its candidates. Of the kernels of one release, the one for ordinary computers
comes last.
"""

from __future__ import annotations

import lzma
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from ltsp.tree.content import Content, Stream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BANNER: Final = re.compile(rb"Linux version ([0-9][^\s\0]{0,127}) ")
_VERSION_DIRECTORY: Final = re.compile(r"[0-9][!-.0-~]{0,127}")
"""A possible name of a directory in lib/modules."""
_BZIMAGE_HEADER_SIZE: Final = 0x210
"""Bytes from the start of a bzImage that contain the fields read here."""
_MAGICS: Final[tuple[tuple[int, bytes], ...]] = (
    (0x202, b"HdrS"),  # bzImage: Documentation/arch/x86/boot.rst
    (0x38, b"ARM\x64"),  # Image: arch/arm64/booting.rst; older ones have no PE header
    (0x38, b"RSC\x05"),  # arch/riscv/boot-image-header.rst
    (0x24, b"\x18\x28\x6f\x01"),  # zImage: arch/arm/boot/compressed/head.S
    (0x04, b"zimg"),  # drivers/firmware/efi/libstub/zboot-header.S
    (0x10008, b"S390EP"),  # arch/s390/boot/head.S
    (0, b"\x7fELF"),  # vmlinux: of ppc64el and mips
    (0, b"\x27\x05\x19\x56"),  # uImage: include/image.h of U-Boot
    (0, b"\xd0\x0d\xfe\xed"),  # FIT, a flattened device tree: doc/usage/fit of U-Boot
    (0, b"ANDROID!"),  # system/tools/mkbootimg of Android
    # Compressed whole: scripts/Makefile.lib of Linux, for Image.gz and its like.
    *((0, magic) for magic in (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x5d\0\0", b"(\xb5/\xfd", b"\x89LZO\0")),
    (0, b"\x02\x21\x4c\x18"),  # lz4 -l
)
"""Offset and magic number of each format of kernels."""
_HEAD_SIZE: Final = 0x11000
"""Bytes from the start that contain all magic numbers."""
_CHUNK_SIZE: Final = 1 << 20
_OVERLAP_SIZE: Final = 256
_MAX_SEARCH_SIZE: Final = 256 << 20
"""Maximum bytes to search, after decompression."""
_MAX_CODEC_MEMORY: Final = 256 << 20
"""Maximum bytes of memory for xz and lzma; kernels need a few dozen MiB."""
_MAX_PAYLOAD_OFFSETS: Final = 8
"""Maximum number of offsets in the head of a zImage at which its payload may begin."""


class _Decompressor(Protocol):
    """The interface of the decompressors of `lzma` and `zstd`; `max_length` is in bytes."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


class _GzipDecompressor:
    """The same interface for gzip."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)


_DECOMPRESSORS: Final[Mapping[bytes, Callable[[], _Decompressor]]] = {
    b"\x1f\x8b\x08": _GzipDecompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _MAX_CODEC_MEMORY),
    b"\x5d\0\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, _MAX_CODEC_MEMORY),
    b"(\xb5/\xfd": zstd.ZstdDecompressor,
}
"""By the magic number of the payload. scripts/extract-vmlinux of Linux, which also supports lz4 and lzo."""
_KERNEL_NAME: Final = re.compile(r"(?:vmlinu[xz]|z?Image|kernel)-(\d[^/]*)")
"""The name of a kernel with its version, for targets of links and files found by the user's rule."""


def is_kernel_version(text: str) -> bool:
    """Whether the text is a possible kernel version, not a path or control sequence."""
    return _VERSION_DIRECTORY.fullmatch(text) is not None


def looks_like_kernel(kernel: Content) -> bool:
    """Whether the file begins like any format of kernels. Raises OSError."""
    with kernel.open() as stream:
        head = stream.read(_HEAD_SIZE)
    return _is_efi(head) or any(head.startswith(magic, at) for at, magic in _MAGICS)


def _is_efi(head: bytes) -> bool:
    """Whether it is an EFI program, as all kernels with an EFI stub are. PE/COFF"""
    return head.startswith(b"MZ") and head[(at := int.from_bytes(head[0x3C:0x40], "little")) : at + 4] == b"PE\0\0"


def read_bzimage_size(kernel: Content) -> int:
    """The minimum size in bytes of a bzImage's file; 0 for other formats, or if not stated. Raises OSError.

    boot.rst, "Details of Header Fields": setup_sects, syssize. A signature may follow.
    """
    with kernel.open() as stream:
        head = stream.read(_BZIMAGE_HEADER_SIZE)
    if len(head) < _BZIMAGE_HEADER_SIZE or head[0x202:0x206] != b"HdrS":
        return 0
    (protocol,) = struct.unpack_from("<H", head, 0x206)
    (paragraphs,) = struct.unpack_from("<I" if protocol >= 0x204 else "<H", head, 0x1F4)
    return 512 * ((head[0x1F1] or 4) + 1) + 16 * paragraphs if paragraphs else 0


def read_embedded_version(kernel: Content) -> str | None:
    """The version, or None if the file does not state it in a known format. Raises OSError."""
    with kernel.open() as stream:
        head = stream.read(_CHUNK_SIZE)
    if head[0x202:0x206] == b"HdrS":
        return _parse_bzimage_version(head)
    found = (_find_banner_version(kernel, start) for start in _find_payload_offsets(head))
    return next((version for version in found if version is not None), None)


def _parse_bzimage_version(head: bytes) -> str | None:
    (offset,) = struct.unpack_from("<H", head, 0x20E)
    text = head[offset + 0x200 : offset + 0x200 + 256].split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    return text if offset and is_kernel_version(text) else None


def _find_payload_offsets(head: bytes) -> Iterator[int]:
    """Offsets at which the payload may begin."""
    if head[4:8] == b"zimg":
        yield int.from_bytes(head[8:12], "little")
    elif head[:4] == b"\x27\x05\x19\x56":
        yield 64  # uImage
    elif head[0x24:0x28] == b"\x18\x28\x6f\x01":
        magic = re.compile(b"|".join(map(re.escape, _DECOMPRESSORS)))
        yield from islice((match.start() for match in magic.finditer(head, 0x30)), _MAX_PAYLOAD_OFFSETS)
    else:
        yield 0


def _find_banner_version(kernel: Content, start: int) -> str | None:
    tail = b""
    with kernel.open() as stream:
        for piece in _read_payload(stream, start):
            found = _BANNER.search(tail + piece)
            if found is not None:
                text = found[1].decode("ascii", "replace")
                return text if is_kernel_version(text) else None
            tail = (tail + piece)[-_OVERLAP_SIZE:]
    return None


def _read_payload(stream: Stream, start: int) -> Iterator[bytes]:
    """The decompressed bytes of the payload, up to the first damaged byte or the limit."""
    while start and (skipped := stream.read(min(start, _CHUNK_SIZE))):
        start -= len(skipped)
    piece = stream.read(_CHUNK_SIZE)
    codec = next((codec for magic, codec in _DECOMPRESSORS.items() if piece.startswith(magic)), None)
    pieces = _read_pieces(piece, stream) if codec is None else _decompress(codec(), piece, stream)
    yielded = 0
    for data in pieces:
        yield data
        yielded += len(data)
        if yielded >= _MAX_SEARCH_SIZE:
            return


def _read_pieces(piece: bytes, stream: Stream) -> Iterator[bytes]:
    while piece:
        yield piece
        piece = stream.read(_CHUNK_SIZE)


def _decompress(codec: _Decompressor, piece: bytes, stream: Stream) -> Iterator[bytes]:
    """The data before the first damaged byte."""
    try:
        while piece and not codec.eof:
            yield codec.decompress(piece, 4 * _CHUNK_SIZE)
            while not codec.eof and not codec.needs_input:
                yield codec.decompress(b"", 4 * _CHUNK_SIZE)
            piece = stream.read(_CHUNK_SIZE)
    except (zlib.error, lzma.LZMAError, zstd.ZstdError):
        return


CLOUD_FLAVOURS = ("kvm", "virtual", "aws", "azure", "gcp", "gke", "oracle", "ibm")
"""Suffixes of Ubuntu's kernels for virtual machines. linux-meta"""
_SPECIAL_FLAVOURS = (
    *("cloud", "rt", "dbg"),  # Debian, debian/config: for virtual machines, real time, debuggers
    *CLOUD_FLAVOURS,
    *("realtime", "64k"),  # Ubuntu, linux-meta
    *("debug", "16k", "64k-debug", "rt-debug"),  # Fedora and RHEL, redhat/kernel.spec.template
    "virt",  # Alpine, main/linux-lts
    "2712",  # Raspberry Pi OS: for the fifth model alone
)
"""Suffixes and parts of versions of kernels that are not for ordinary computers."""
_SORTS_EARLIER = re.compile(rf"[-._~]?(rc\d)|\.(old)$|[-+]({'|'.join(_SPECIAL_FLAVOURS)})(?=[-+]|$)")
"""Marks of versions that sort before the same version without the mark."""
_VERSION_TOKEN = re.compile(r"\d+|\D")

VersionKey = tuple[tuple[int, int], ...]


def version_key(version: str) -> VersionKey:
    """The key that sorts versions from old to new, of Debian, rpm and the kernel itself.

    A run of digits counts as a number; `~` and pre-release marks sort before the end, a revision right after it, then
    letters, then other characters.
    deb-version(7)
    """
    marked = _SORTS_EARLIER.sub(lambda match: "~" + (match[1] or match[2] or match[3]), version)
    return (*(_rank_token(token) for token in _VERSION_TOKEN.findall(marked)), (1, 0))


def _rank_token(part: str) -> tuple[int, int]:
    if part == "~":
        return 0, 0
    if part == "-":
        return 1, 1  # what follows is a revision
    if part.isdigit():
        return 4, int(part[:30])
    return (2, ord(part)) if part.isalpha() else (3, ord(part))


def parse_version_from_name(path: str) -> str | None:
    """The version at the end of a kernel's name."""
    match = _KERNEL_NAME.fullmatch(path.rpartition("/")[2])
    return None if match is None else match[1]
