"""The options of mksquashfs in tables: supported by our writer, passed to the real mksquashfs, or refused.

Covers squashfs-tools 4.5.1 to 4.7.5. An option in no table is passed to the real mksquashfs, which may be newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _split_options(words: str) -> frozenset[str]:
    return frozenset(f"-{word}" for word in words.split())


COMPRESSORS: Final = ("gzip", "lzo", "lz4", "xz", "zstd", "lzma")
COMPRESSOR_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "gzip": _split_options("Xcompression-level Xwindow-size Xstrategy"),
    "lzo": _split_options("Xalgorithm Xcompression-level"),
    "lz4": _split_options("Xhc Xacceleration Xcompression-level"),
    "xz": _split_options("Xbcj Xdict-size"),
    "zstd": _split_options("Xcompression-level"),
    "lzma": frozenset(),
}
"""The options of each compressor."""

ALIASES: Final[Mapping[str, str]] = {
    "-noInodeCompression": "-noI",
    "-noIdTableCompression": "-noId",
    "-noDataCompression": "-noD",
    "-noFragmentCompression": "-noF",
    "-noXattrCompression": "-noX",
    "-root-owned": "-all-root",
    "-fstime": "-mkfs-time",
    "-inode-time": "-all-time",
    "-always-use-fragments": "-tailends",
}
SWITCHES: Final[Mapping[str, Mapping[str, bool]]] = {
    "-noI": {"compress_inodes": False},
    "-noD": {"compress_data": False},
    "-noF": {"compress_fragments": False},
    "-noX": {"compress_xattrs": False},
    "-no-compression": {
        "compress_inodes": False,
        "compress_data": False,
        "compress_fragments": False,
        "compress_xattrs": False,
    },
    "-no-fragments": {"fragments": False},
    "-no-duplicates": {"duplicates": False},
    "-no-xattrs": {"xattrs": False},
    "-xattrs": {"xattrs": True},
    "-no-exports": {"exports": False},
    "-exports": {"exports": True},
}
"""Options without an argument, and the fields of WriteOptions that they set."""
OUTPUT_SWITCHES: Final[Mapping[str, Mapping[str, bool]]] = {
    "-quiet": {"quiet": True},
    "-progress": {"progress": True},
    "-no-progress": {"progress": False},
    "-percentage": {"percentage": True},
    "-info": {"info": True},
}
"""The same for OutputOptions."""
ALWAYS_DONE: Final = frozenset(
    {
        "-tailends",  # our writer packs the ends of files whenever it packs small files
        "-reproducible",  # our images always are
        "-not-reproducible",  # reproducible images are allowed
        "-repro",  # the time of our images is the newest of the tree
        "-noappend",  # an image is always a new file
        "-no-recovery",
        "-exit-on-error",  # errors are never ignored
        "-numeric-owner",
    }
)
"""Options without an argument for what our writer always does."""
TUNING: Final = _split_options(
    "read-queue write-queue fragment-queue mem-percent small-readers block-readers overcommit"
)
"""Options with a number that affect how mksquashfs works, but not its output."""

_SOURCE: Final = "the source is given on the command line of ltsp image"
_WHOLE: Final = "an image for clients is a single new squashfs without anything before it"
_STREAM: Final = "mksquashfs cannot do that with a tar stream, in which ltsp passes it the tree"
_HELP: Final = "run mksquashfs directly for that"
_REASONS: Final = {
    _SOURCE: _split_options(
        "tar zip cpiostyle cpiostyle0 no-strip tarstyle keep-as-directory one-file-system one-file-system-x "
        "dereference deref deref-path"
    ),
    _WHOLE: _split_options("root-becomes recover offset o stream fix"),
    _STREAM: _split_options(
        "action log-action true-action false-action a va ta fa action-file log-action-file true-action-file "
        "false-action-file af vaf taf faf max-depth"
    ),
    _HELP: _split_options(
        "version help h help-option ho help-section hs help-comp help-all ha Xhelp mem-default no-pager cols"
    ),
}
REFUSED: Final[Mapping[str, str]] = {word: reason for reason, words in _REASONS.items() for word in words}
"""Options that are incompatible with ltsp image, and why."""

ARGUMENTS: Final = TUNING | _split_options(
    "comp b mkfs-time fstime all-time inode-time root-mode root-uid root-gid root-time force-uid force-gid processors "
    "mem ef sort info-file recovery-path "
    "Xcompression-level Xwindow-size Xstrategy Xalgorithm Xacceleration Xbcj Xdict-size "
    "throttle limit p pf pd pseudo-dir xattrs-exclude xattrs-include xattrs-add default-mode default-uid default-gid "
    "force-file-mode force-dir-mode uid-gid-offset repro-time log "
    "deref deref-path root-becomes recover offset o fix action log-action true-action false-action a va ta fa "
    "action-file log-action-file true-action-file false-action-file af vaf taf faf max-depth help-option ho "
    "help-section hs help-comp cols"
)
"""Options whose argument is the next word. `option_table` in mksquashfs.c"""
