"""Parse mksquashfs(1) options, as given to `ltsp image -m`: for our own writer, the tree and the output, and those that
only the real mksquashfs supports.

An option counts as supported if the image then fully complies with it; see `parameter_words`.
"""

from __future__ import annotations

import grp
import pwd
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from ltsp.errors import UsageError
from ltsp.mksquashfs.option_tables import (
    ALIASES,
    ALWAYS_DONE,
    ARGUMENTS,
    COMPRESSOR_OPTIONS,
    COMPRESSORS,
    OUTPUT_SWITCHES,
    REFUSED,
    SWITCHES,
    TUNING,
)
from ltsp.squashfs.compression import WRITABLE, Compression
from ltsp.squashfs.superblock import LARGEST_BLOCK, SMALLEST_BLOCK
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.name import printable


class ExcludeStyle(Enum):
    """How the patterns of -e and -ef are interpreted."""

    EXACT = "exact"
    """Each is a path below the root."""
    WILDCARDS = "wildcards"
    """`-wildcards`: fnmatch(3) for each component; `*` does not match a leading dot."""
    REGEX = "regex"
    """`-regex`: a POSIX extended regular expression for each component, found anywhere in the name."""


@dataclass(frozen=True, slots=True)
class Excludes:
    style: ExcludeStyle = ExcludeStyle.EXACT
    patterns: tuple[str, ...] = ()
    """Patterns of -e; relative to the root, or after `... ` for every directory."""
    files: tuple[str, ...] = ()
    """Files of -ef on this machine, with one pattern a line."""

    def __bool__(self) -> bool:
        return bool(self.patterns or self.files)


@dataclass(frozen=True, slots=True)
class Override:
    """Metadata that replaces that of nodes; None keeps it."""

    uid: int | None = None
    gid: int | None = None
    time: int | None = None
    """Seconds since 1970, 0 to 2^32-1."""
    root_mode: int | None = None
    """Permission bits of the root directory only, like the three fields below; the three above take precedence."""
    root_uid: int | None = None
    root_gid: int | None = None
    root_time: int | None = None


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
    high: bool = False
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
        return None if self.compressor is None else Compression(self.compressor, self.level, high=self.high)

    def apply_to(self, options: WriteOptions) -> WriteOptions:
        """The options, with the requested values replaced."""
        compression = self.compression() or options.compression
        return replace(options, compression=compression, **self.changes)


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
    parser.check()
    if parser.faults:
        raise UsageError("mksquashfs parameters: " + "; ".join(parser.faults), "see mksquashfs(1)")
    return parser.parameters()


_LARGEST: Final = (1 << 32) - 1
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
    high: bool = False
    dictionary: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    override: dict[str, int] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    style: ExcludeStyle = ExcludeStyle.EXACT
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
            elif word in REFUSED:
                self.faults.append(f"{word}: {REFUSED[word]}")
            elif self._belongs_to_other_compressor(word):
                self.faults.append(f"{word} is not an option of {self.compressor}; select the compressor with -comp")
            else:
                self._read_argument(ALIASES.get(word, word), argument)

    def _read_switch(self, word: str, words: Iterator[str]) -> str | None:
        """Read an option without an argument, or an unknown one, which takes all words up to the next option.

        Returns the next option, if it was already read.
        """
        name = ALIASES.get(word, word)
        if name in SWITCHES:
            self.changes.update(SWITCHES[name])
        elif name in OUTPUT_SWITCHES:
            self.output.update(OUTPUT_SWITCHES[name])
        elif name in {"-wildcards", "-regex"}:
            self.style = ExcludeStyle(name[1:])
        elif name == "-all-root":
            self.override.update(uid=0, gid=0)
        elif self._belongs_to_other_compressor(name):
            self.faults.append(f"{name} is not an option of {self.compressor}; select the compressor with -comp")
        elif name == "-Xhc":
            self.high = True
        elif name == "-single-reader":
            self.tuning.append(name)
        elif name in REFUSED:
            self.faults.append(f"{printable(word)}: {REFUSED[name]}")
        elif name not in ALWAYS_DONE:
            self.unknown.append(word)
            for argument in words:
                if argument.startswith("-"):
                    return argument
                self.unknown.append(argument)
        return None

    def _belongs_to_other_compressor(self, word: str) -> bool:
        """Whether an option belongs to another compressor than the selected one."""
        own = COMPRESSOR_OPTIONS.get(self.compressor or "")
        return own is not None and word not in own and any(word in others for others in COMPRESSOR_OPTIONS.values())

    def _read_argument(self, word: str, argument: str) -> None:
        match word:
            case "-comp" | "-recovery-path":
                pass  # handled before; only for appending
            case "-b":
                self._block_size(argument)
            case "-Xcompression-level":
                self._level(argument)
            case "-Xdict-size":
                self.dictionary = argument
            case "-processors":
                if threads := self._number(word, argument, 1, (1 << 31) - 1):
                    self.changes["threads"] = threads
            case "-mem":
                if _parse_size(argument) < _LEAST_MEMORY:
                    self.faults.append(f"-mem {printable(argument)} is not a size of 16M or more")
                self.tuning += [word, argument]
            case "-mkfs-time" | "-all-time" | "-root-time":
                self._time(word, argument)
            case "-root-mode":
                self._root_mode(argument)
            case "-force-uid" | "-root-uid":
                self._id(word, argument, self.uid_of, "user")
            case "-force-gid" | "-root-gid":
                self._id(word, argument, self.gid_of, "group")
            case "-ef":
                self.files.append(argument)
            case "-sort":
                self.sort_file = argument
            case "-info-file":
                self.output["info_file"] = argument
            case _ if word in TUNING:
                self._number(word, argument, 0, (1 << 31) - 1)
                self.tuning += [word, argument]
            case _:
                self.unknown += [word, argument]

    def _block_size(self, argument: str) -> None:
        size = _parse_size(argument)
        if size.bit_count() != 1 or not SMALLEST_BLOCK <= size <= LARGEST_BLOCK:
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

    def _time(self, word: str, argument: str) -> None:
        if argument == "inode" and word == "-mkfs-time":
            return  # since 4.6: the newest time of the tree, like our images
        if not argument.isdecimal() and re.search(r"[A-Za-z/@]", argument):
            self.unknown += [word, argument]  # since 4.6: a date as text
            return
        time = self._number(word, argument, 0, _LARGEST)
        if time is not None and word == "-mkfs-time":
            self.changes["time"] = time
        elif time is not None:
            self.override["root_time" if word == "-root-time" else "time"] = time

    def _root_mode(self, argument: str) -> None:
        if re.fullmatch("[0-7]{1,6}", argument) and int(argument, 8) <= 0o7777:
            self.override["root_mode"] = int(argument, 8)
        elif re.search("[=+-]", argument):
            self.unknown += ["-root-mode", argument]  # since 4.6: chmod(1)'s symbolic modes
        else:
            self.faults.append(f"-root-mode {printable(argument)} is not an octal mode up to 7777")

    def _id(self, word: str, argument: str, find: Callable[[str], int | None], kind: str) -> None:
        number = int(argument) if re.fullmatch(r"[0-9]{1,10}", argument) else find(argument)
        if number is None or number > _LARGEST:
            self.faults.append(f"{word} {printable(argument)} is neither a {kind} on this machine nor an id")
        else:
            self.override[word.removeprefix("-").removeprefix("force-").replace("-", "_")] = number

    def _number(self, word: str, argument: str, least: int, most: int) -> int | None:
        if re.fullmatch(r"[0-9]{1,20}", argument) and least <= int(argument) <= most:
            return int(argument)
        self.faults.append(f"{word} {printable(argument)} is not a number from {least} to {most}")
        return None

    def check(self) -> None:
        """Checks after all words were read."""
        if self.dictionary is not None:
            self._check_dictionary(self.dictionary, self.changes.get("block_size", 128 << 10))

    def _check_dictionary(self, argument: str, block: int) -> None:
        """Our writer's dictionary is as large as the block; other sizes are left to the real mksquashfs."""
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
        return Parameters(
            compressor=ours,
            foreign_compressor=None if ours else self.compressor,
            level=self.level,
            high=self.high,
            changes=self.changes,
            override=Override(**self.override),
            excludes=Excludes(self.style, tuple(self.patterns), tuple(self.files)),
            sort_file=self.sort_file,
            output=OutputOptions(**self.output),
            tuning=tuple(self.tuning),
            unknown=(*foreign, *self.unknown),
        )


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
