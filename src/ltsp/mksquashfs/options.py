"""Parse mksquashfs(1) options, as given to `ltsp image -m`.

The common ones are for our own writer, the tree and the output; all others are handed to the real mksquashfs. Covers
squashfs-tools 4.5.1 to 4.7.5. docs/decisions/0110
"""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ltsp.errors import UsageError
from ltsp.squashfs.compression import WRITABLE, Compression
from ltsp.squashfs.superblock import MAX_BLOCK_SIZE, MIN_BLOCK_SIZE
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.name import printable
from ltsp.tree.node import Node
from ltsp.tree.tree import Tree


def _dashed(words: str) -> frozenset[str]:
    return frozenset(f"-{word}" for word in words.split())


COMPRESSORS: Final = ("gzip", "lzo", "lz4", "xz", "zstd", "lzma")
ARGUMENTS: Final = _dashed("comp b Xcompression-level Xdict-size processors mem force-uid force-gid ef sort info-file")
"""Our options whose argument is the next word."""
_COMPRESSOR_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "gzip": _dashed("Xcompression-level Xwindow-size Xstrategy"),
    "lzo": _dashed("Xalgorithm Xcompression-level"),
    "lz4": _dashed("Xhc Xacceleration Xcompression-level"),
    "xz": _dashed("Xbcj Xdict-size"),
    "zstd": _dashed("Xcompression-level"),
    "lzma": frozenset(),
}
_OUTPUT_SWITCHES: Final[Mapping[str, Mapping[str, bool]]] = {
    "-quiet": {"quiet": True},
    "-progress": {"progress": True},
    "-no-progress": {"progress": False},
    "-percentage": {"percentage": True},
    "-info": {"info": True},
}
"""Options without an argument, and the fields of OutputOptions that they set."""
_ALWAYS_DONE: Final = _dashed("noappend no-recovery exit-on-error reproducible")
"""Options without an argument for what our writer always does."""

_REASONS: Final = {
    "the source is given on the command line of ltsp image": _dashed(
        "tar zip cpiostyle cpiostyle0 no-strip tarstyle keep-as-directory one-file-system one-file-system-x "
        "dereference deref deref-path"
    ),
    "an image for clients is a single new squashfs without anything before it": _dashed(
        "root-becomes recover offset o stream fix"
    ),
    "mksquashfs cannot do that with a tar stream, in which ltsp passes it the tree": _dashed(
        "action log-action true-action false-action a va ta fa action-file log-action-file true-action-file "
        "false-action-file af vaf taf faf max-depth"
    ),
    "run mksquashfs directly for that": _dashed(
        "version help h help-option ho help-section hs help-comp help-all ha Xhelp mem-default no-pager cols"
    ),
}
REFUSED: Final[Mapping[str, str]] = {word: reason for reason, words in _REASONS.items() for word in words}
"""Options that are incompatible with ltsp image, and why."""


@dataclass(frozen=True, slots=True)
class Excludes:
    patterns: tuple[str, ...] = ()
    """Arguments of -e; relative to the root, or after `... ` for every directory."""
    files: tuple[str, ...] = ()
    """Files of -ef on this machine, with one pattern a line."""
    wildcards: bool = False
    """Whether each component is a pattern for fnmatch(3), in which `*` does not match a leading dot; otherwise each is
    a path."""

    def __bool__(self) -> bool:
        return bool(self.patterns or self.files)


@dataclass(frozen=True, slots=True)
class Override:
    """The owner of all nodes; None keeps their own."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """What to print during the build."""

    quiet: bool = False
    progress: bool | None = None
    """None if neither -progress nor -no-progress was given."""
    percentage: bool = False
    info: bool = False
    """Whether to print the path of each file."""
    info_file: str | None = None
    """The file on this machine for the same paths."""


@dataclass(frozen=True, slots=True)
class Parameters:
    compressor: str | None = None
    """None leaves the choice to the settings."""
    foreign_compressor: str | None = None
    """The requested compressor, if only the real mksquashfs supports it."""
    level: int | None = None
    high_compression: bool = False
    """lz4's -Xhc."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of WriteOptions by name."""
    override: Override = Override()
    excludes: Excludes = Excludes()
    sort_file: str | None = None
    output: OutputOptions = OutputOptions()
    tuning: tuple[str, ...] = ()
    """Words that affect how mksquashfs works, but not its output; used only with mksquashfs."""
    unknown: tuple[str, ...] = ()
    """Words for the real mksquashfs; if there are any, our own writer cannot be used."""

    def compression(self) -> Compression | None:
        """The requested codec; None if the settings choose it, or only the real mksquashfs supports it."""
        if self.compressor is None:
            return None
        return Compression(self.compressor, self.level, high_compression=self.high_compression)

    def apply_to(self, options: WriteOptions) -> WriteOptions:
        """The options, with the requested values replaced."""
        compression = self.compression() or options.compression
        return replace(options, compression=compression, **self.changes)


def override_owners(tree: Tree, owner: Override) -> Tree:
    """The tree with the owners of all nodes replaced."""
    if owner == Override():
        return tree

    def changed(node: Node) -> Node:
        own = node.metadata
        uid = own.uid if owner.uid is None else owner.uid
        gid = own.gid if owner.gid is None else owner.gid
        return replace(node, metadata=replace(own, uid=uid, gid=gid))

    return tree.map(changed)


def parse(
    words: Sequence[str],
    *,
    uid_of: Callable[[str], int | None] | None = None,
    gid_of: Callable[[str], int | None] | None = None,
) -> Parameters:
    """The parameters in a list of words; users and groups are looked up on this machine.

    Raises UsageError, which lists every error.
    """
    parser = _Parser(uid_of or _look_up_uid, gid_of or _look_up_gid)
    parser.compressor = _find_compressor(words, parser.faults)
    parser.read(iter(words))
    parser.check_dictionary()
    if parser.faults:
        raise UsageError("mksquashfs parameters: " + "; ".join(parser.faults), "see mksquashfs(1)")
    return parser.parameters()


_LARGEST_ID: Final = (1 << 32) - 1
_SUFFIXES: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LEAST_MEMORY: Final = 16 << 20
_SMALLEST_DICTIONARY: Final = 8192
_OURS: Final = frozenset(WRITABLE) & frozenset(COMPRESSORS)


def _find_compressor(words: Sequence[str], faults: list[str]) -> str | None:
    """The argument of -comp at any position, as -X options before it belong to it, too.

    gzip if there are only such options.
    """
    chosen: list[str] = []
    special = False
    rest = iter(words)
    for word in rest:
        if word == "-e":
            break
        special |= word.startswith("-X")
        argument = next(rest, None) if word in ARGUMENTS else None
        if word == "-comp" and argument is not None and argument not in chosen:
            chosen.append(argument)
    if len(chosen) > 1:
        faults.append("-comp selects several compressors: " + ", ".join(map(printable, chosen)))
    faults += [
        f"-comp {printable(name)} is not a compressor; choose one of {', '.join(COMPRESSORS)}"
        for name in chosen
        if name not in COMPRESSORS
    ]
    return chosen[0] if chosen else "gzip" if special else None


@dataclass(slots=True)
class _Parser:
    """The state of the parser."""

    uid_of: Callable[[str], int | None]
    gid_of: Callable[[str], int | None]
    faults: list[str] = field(default_factory=list)
    compressor: str | None = None
    level: int | None = None
    high_compression: bool = False
    dictionary: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    override: dict[str, int] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    style: str = ""
    """-wildcards or -regex, whichever came last."""
    patterns: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sort_file: str | None = None
    tuning: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def read(self, words: Iterator[str]) -> None:
        pending: str | None = None
        while (word := pending or next(words, None)) is not None:
            pending = None
            if word == "-e":
                self.patterns.extend(words)
                if not self.patterns:
                    self.faults.append("-e has nothing to exclude")
            elif not word.startswith("-") or word == "-":
                self.faults.append(f"{printable(word) or 'an empty word'} does not belong to an option")
            elif word not in ARGUMENTS:
                pending = self._read_switch(word, words)
            elif (argument := next(words, None)) is None:
                self.faults.append(f"{word} needs an argument")
            elif not self._blame_other_compressor(word):
                self._read_argument(word, argument)

    def _read_switch(self, word: str, words: Iterator[str]) -> str | None:
        """Read an option without an argument, or one for the real mksquashfs, with all words up to the next option.

        Returns the next option, if it was already read.
        """
        if word in {"-xattrs", "-no-xattrs"}:
            self.changes["xattrs"] = word == "-xattrs"
        elif word in _OUTPUT_SWITCHES:
            self.output.update(_OUTPUT_SWITCHES[word])
        elif word in {"-wildcards", "-regex"}:
            self.style = word
        elif word == "-all-root":
            self.override.update(uid=0, gid=0)
        elif word == "-Xhc" and self.compressor == "lz4":
            self.high_compression = True
        elif word not in _ALWAYS_DONE:
            return self._hand_over(word, words)
        return None

    def _hand_over(self, word: str, words: Iterator[str]) -> str | None:
        handed = [word]
        following = None
        for argument in words:
            if argument.startswith("-"):
                following = argument
                break
            handed.append(argument)
        if word in REFUSED:
            self.faults.append(f"{word}: {REFUSED[word]}")
        elif not self._blame_other_compressor(word):
            self.unknown += handed
        return following

    def _blame_other_compressor(self, word: str) -> bool:
        """Whether an option belongs to another compressor than the selected one."""
        own = _COMPRESSOR_OPTIONS.get(self.compressor or "")
        if own is None or word in own or not any(word in others for others in _COMPRESSOR_OPTIONS.values()):
            return False
        self.faults.append(f"{word} is not an option of {self.compressor}; select the compressor with -comp")
        return True

    def _read_argument(self, word: str, argument: str) -> None:
        match word:
            case "-b":
                self._block_size(argument)
            case "-Xcompression-level":
                self._level(argument)
            case "-Xdict-size":
                self.dictionary = argument
            case "-processors":
                if re.fullmatch(r"[0-9]{1,20}", argument) and 1 <= int(argument) < 1 << 31:
                    self.changes["threads"] = int(argument)
                else:
                    self.faults.append(f"-processors {printable(argument)} is not a number from 1 to {(1 << 31) - 1}")
            case "-mem":
                if _parse_size(argument) < _LEAST_MEMORY:
                    self.faults.append(f"-mem {printable(argument)} is not a size of 16M or more")
                self.tuning += [word, argument]
            case "-force-uid":
                self._id(word, argument, self.uid_of, "user")
            case "-force-gid":
                self._id(word, argument, self.gid_of, "group")
            case "-ef":
                self.files.append(argument)
            case "-sort":
                self.sort_file = argument
            case "-info-file":
                self.output["info_file"] = argument
            case _:
                assert word == "-comp", word  # handled before

    def _block_size(self, argument: str) -> None:
        size = _parse_size(argument)
        if size.bit_count() != 1 or not MIN_BLOCK_SIZE <= size <= MAX_BLOCK_SIZE:
            self.faults.append(f"-b {printable(argument)} is not a power of two from 4K to 1M")
        self.changes["block_size"] = size

    def _level(self, argument: str) -> None:
        if self.compressor not in {"gzip", "zstd"} or (self.compressor == "zstd" and argument.startswith("-")):
            self.unknown += ["-Xcompression-level", argument]  # lz4's, and zstd's below 0, are since 4.7
        elif not re.fullmatch(r"[0-9]{1,9}", argument):
            self.faults.append(f"-Xcompression-level {printable(argument)} is not a number")
        else:
            try:
                self.level = Compression(self.compressor, int(argument)).level
            except UsageError as error:
                self.faults.append(str(error))

    def _id(self, word: str, argument: str, find: Callable[[str], int | None], kind: str) -> None:
        number = int(argument) if re.fullmatch(r"[0-9]{1,10}", argument) else find(argument)
        if number is None or number > _LARGEST_ID:
            self.faults.append(f"{word} {printable(argument)} is neither a {kind} on this machine nor an id")
        else:
            self.override[word.removeprefix("-force-")] = number

    def check_dictionary(self) -> None:
        """Check the dictionary after all words were read.

        Our writer's is as large as the block; other sizes are left to the real mksquashfs.
        """
        if self.dictionary is None:
            return
        argument, block = self.dictionary, self.changes.get("block_size", 128 << 10)
        if percentage := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", argument):
            size = int(block * float(percentage[1]) / 100)
        else:
            size = _parse_size(argument)
        if not _SMALLEST_DICTIONARY <= size <= block:
            self.faults.append(f"-Xdict-size {printable(argument)} is not a size from 8K to the block size")
        elif size != block:
            self.unknown += ["-Xdict-size", argument]

    def parameters(self) -> Parameters:
        ours = self.compressor if self.compressor in _OURS else None
        foreign = [] if ours or self.compressor is None else ["-comp", self.compressor]
        excludes = Excludes(tuple(self.patterns), tuple(self.files), self.style == "-wildcards")
        regex = self.style == "-regex" and bool(excludes)
        return Parameters(
            compressor=ours,
            foreign_compressor=None if ours else self.compressor,
            level=self.level,
            high_compression=self.high_compression,
            changes=self.changes,
            override=Override(**self.override),
            excludes=Excludes() if regex else excludes,
            sort_file=self.sort_file,
            output=OutputOptions(**self.output),
            tuning=tuple(self.tuning),
            unknown=(*foreign, *self.unknown, *(self._regex_words() if regex else ())),
        )

    def _regex_words(self) -> Iterator[str]:
        """The exclusions by regular expressions; -e comes last, because it takes all words after it."""
        yield "-regex"
        for name in self.files:
            yield from ("-ef", name)
        if self.patterns:
            yield from ("-e", *self.patterns)


def _parse_size(argument: str) -> int:
    """Bytes of a number with a mksquashfs suffix; 0 if it is invalid."""
    found = re.fullmatch(r"([0-9]{1,18})([kmg]?)(?:(?<=[kKmMgG])(?:B|bytes))?", argument, re.IGNORECASE)
    return 0 if found is None else int(found[1]) * _SUFFIXES[found[2].lower()]


def _look_up_uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def _look_up_gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
