"""An image's modprobe.d(5), as far as it applies before the image is mounted.

Files are read as by kmod (libkmod/libkmod-config.c): for each name, the file of the first directory that has it; then
all files in the order of their names. `install` commands are not run: their programs are in the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, Self

from ltsp.errors import LtspError
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

DIRECTORIES: Final = (
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
)
"""In order of precedence. modprobe.d(5)"""
_SUFFIXES: Final = (".conf", ".alias")
_MAX_SIZE: Final = 1 << 20
"""Maximum bytes of a file."""
_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_PATTERN: Final = re.compile(r"[!-~]{1,1024}")
_OPTIONS: Final = re.compile(r"[ -~]{1,4096}")
_LOAD_COMMAND: Final = re.compile(r"(?:^|[\s/;&|(])(?:modprobe|insmod)\s")


@dataclass(frozen=True, slots=True)
class ModprobeRule:
    """A line about modules whose names match a shell pattern."""

    pattern: str
    text: str
    path: str
    """Of the file that contains the line."""


@dataclass(frozen=True, slots=True)
class SoftDependency:
    """Modules, by name or alias, to load before and after a module, although it works without them."""

    name: str
    pre_modules: tuple[str, ...]
    post_modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModprobeConf:
    """Names of modules have underscores."""

    blacklist: Mapping[str, str] = field(default_factory=dict)
    """Modules that are loaded only by name, not for a device or a request of the kernel; and the file that says so."""
    install_rules: Sequence[ModprobeRule] = ()
    """Commands that are run instead of loading a module; the first match counts."""
    options: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[ModprobeRule] = ()
    """Patterns of aliases that have precedence over those in the modules, and names of modules."""
    softdeps: Sequence[SoftDependency] = ()

    @classmethod
    def read(cls, tree: Tree) -> Self:
        """Raises LtspError if a file cannot be read."""
        blacklist: dict[str, str] = {}
        options: dict[str, str] = {}
        install_rules, aliases, softdeps = [], [], []
        for path in _list_files(tree):
            for words in _read_lines(tree, path):
                match words:
                    case ["blacklist", name, *_]:
                        blacklist.setdefault(replace_hyphens(name), path)
                    case ["options", name, text] if _OPTIONS.fullmatch(text):
                        name = replace_hyphens(name)
                        options[name] = f"{options[name]} {text}" if name in options else text
                    case ["install", name, text]:
                        install_rules.append(ModprobeRule(replace_hyphens(name), text, path))
                    case ["alias", pattern, name] if _PATTERN.fullmatch(pattern):
                        aliases.append(ModprobeRule(replace_hyphens(pattern), replace_hyphens(name.split()[0]), path))
                    case ["softdep", name, text]:
                        softdeps.append(parse_soft_dependency(name, text))
        return cls(blacklist, install_rules, options, aliases, softdeps)

    def find_blocking_file(self, name: str) -> str | None:
        """The file that blocks loading a module for a device; None if no file does."""
        rule = self.find_disabling_rule(name)
        return rule.path if rule is not None else self.blacklist.get(name)

    def find_disabling_rule(self, name: str) -> ModprobeRule | None:
        """The command that is run instead of loading a module and does not load it, such as `/bin/false`."""
        rule = self.find_install_rule(name)
        return None if rule is None or _is_loaded_by(rule.text, name) else rule

    def find_install_rule(self, name: str) -> ModprobeRule | None:
        """The command that is run instead of loading this module."""
        return next((rule for rule in self.install_rules if fnmatchcase(name, rule.pattern)), None)


def parse_soft_dependency(name: str, text: str) -> SoftDependency:
    """Parse a line `softdep NAME pre: OTHER … post: OTHER …`; names before `pre:` and `post:` are ignored."""
    found: dict[str, list[str]] = {"pre:": [], "post:": [], "": []}
    part = ""
    for word in text.split():
        if word in found:
            part = word
        else:
            found[part].append(replace_hyphens(word))
    return SoftDependency(replace_hyphens(name), tuple(found["pre:"]), tuple(found["post:"]))


def replace_hyphens(text: str) -> str:
    """Replace hyphens by underscores, except between brackets, where they are ranges."""
    return "".join(part if part.startswith("[") else part.replace("-", "_") for part in re.split(r"(\[[^]]*\])", text))


def _is_loaded_by(command: str, name: str) -> bool:
    """Whether the command loads the module itself, as in `modprobe --ignore-install NAME && …`."""
    return bool(_LOAD_COMMAND.search(command)) and name in _NAME.findall(replace_hyphens(command))


def _list_files(tree: Tree) -> list[str]:
    """The files to read. A link to /dev/null, or a dangling one, also hides files of its name."""
    found: dict[str, str] = {}
    for directory in DIRECTORIES:
        node = tree.follow(directory)
        for name in node.entries if isinstance(node, Directory) else ():
            path = f"{directory}/{name}"
            if name.endswith(_SUFFIXES) and not name.startswith(".") and not isinstance(tree.follow(path), Directory):
                found.setdefault(name, path)
    return [found[name] for name in sorted(found)]


def _read_lines(tree: Tree, path: str) -> Iterator[list[str]]:
    """The command of each line, its first argument and the rest; a backslash at the end of a line continues it."""
    file = tree.follow(path)
    if not isinstance(file, File):
        return
    try:
        text = decode(read_small_file(file, path, _MAX_SIZE))
    except OSError as error:
        raise LtspError(f"cannot read /{printable(path)} of the image: {error.strerror or error}") from error
    for line in text.replace("\\\n", "").split("\n"):
        words = line.strip().split(None, 2)
        if words and not words[0].startswith("#"):
            yield words
