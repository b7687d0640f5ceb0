"""What live media carry, found by what is on them: the file with the system, or several that lie over each other.

Ubuntu's have layers, named by what they lie over: `a.b.squashfs` lies over `a.squashfs`, as casper and its installer
mount them. `install-sources.yaml` says which of them make systems that are installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ltsp.errors import FormatError, SourceError
from ltsp.tree.name import decode, printable, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.tree import Tree

SINGLE = ("casper/filesystem.squashfs", "live/filesystem.squashfs", "LiveOS/squashfs.img", "LiveOS/rootfs.img")
"""Where the system itself is one file: Ubuntu, Debian, Fedora, which has an ext4 in a squashfs."""
_LAYERS, _SUFFIX = "casper", ".squashfs"
_INSTALLABLE = f"{_LAYERS}/install-sources.yaml"
TOPS = frozenset({"casper", "live", "LiveOS"})
"""Directories that tell a live medium."""
_MOST_TEXT = 1 << 20
_SHOWN = 6
_MOST_LAYERS = 16
_LIVE_WORDS = frozenset({"live", "installer"})
_NOT_INSTALLED = re.compile(r"live|installer|enhanced-secureboot|no-languages|[a-z]{2,3}([_-][A-Za-z]{2,4})?")
"""Names of layers beside those of an installed system: of the live session, of the installer, of single languages."""


@dataclass(frozen=True, slots=True)
class LiveMedium:
    """The systems on a live medium, each by the path of its file, or of its uppermost layer."""

    systems: tuple[str, ...]
    chosen: str
    """The one that is meant where none is named; empty where that cannot be told."""

    @classmethod
    def of(cls, tree: Tree) -> LiveMedium | None:
        """None for a tree that is no live medium's."""
        single = next((path for path in SINGLE if isinstance(tree.follow(path), File)), "")
        if single:
            return cls((single,), single)
        layers = _list_layers(tree)
        if not layers:
            return None
        installable = [each for each in _read_installable(tree) if each.name in layers]
        if installable:
            systems = tuple(dict.fromkeys(each.name for each in installable))
            default = [each.name for each in installable if each.default]
            return cls(_layer_paths(systems), _layer_path(default[0]) if default else _only_path(systems))
        usual = [name for name in layers if not any(map(_NOT_INSTALLED.fullmatch, name.split(".")[1:]))] or layers
        longest = max(name.count(".") for name in usual)
        systems = tuple(name for name in usual if name.count(".") == longest)
        return cls(_layer_paths(systems), _only_path(systems))

    @classmethod
    def from_json(cls, value: object) -> LiveMedium | None:
        """What another process found. Raises ValueError."""
        match value:
            case None:
                return None
            case [str(chosen), list(systems)] if all(isinstance(each, str) for each in systems):
                return cls(tuple(systems), chosen)
        raise ValueError(value)

    def to_json(self) -> list[object]:
        """JSON, for `from_json`."""
        return [self.chosen, list(self.systems)]

    def ambiguous_error(self, medium: str) -> SourceError:
        """`medium` is how the user names it, safe to print."""
        return SourceError(
            f"it is a live medium with several systems, and none is its default: {format_paths(self.systems)}",
            f"name one: {medium},,{printable(self.systems[0])}",
        )


def format_paths(paths: Sequence[str]) -> str:
    return ", ".join(map(printable, paths[:_SHOWN])) + (", …" if len(paths) > _SHOWN else "")


def find_layer_chain(tree: Tree, path: str) -> list[str]:
    """The files to lay over each other for the system of one of them, the lowest first.

    Raises SourceError where some are not there, or too many are.
    """
    parent, slash, name = path.rpartition("/")
    if parent.rpartition("/")[2] != _LAYERS or not name.endswith(_SUFFIX):
        return [path]
    words = name.removesuffix(_SUFFIX).split(".")
    if len(words) > _MOST_LAYERS:
        raise SourceError(f"{printable(path)} would lie over {len(words) - 1} layers, which no live medium has")
    every = [f"{parent}{slash}{'.'.join(words[:end])}{_SUFFIX}" for end in range(1, len(words) + 1)]
    missing = [each for each in every[:-1] if not isinstance(tree.follow(each), File)]
    if len(missing) == len(every) - 1:
        return [path]
    if missing:
        raise SourceError(f"{printable(path)} lies over {format_paths(missing)}, which is not on the live medium")
    return every


def find_other_layers(tree: Tree, taken: Sequence[str]) -> list[str]:
    """Layers beside those that are taken; first those over them, of these those that run live, the lowest before."""
    over = taken[-1].removesuffix(_SUFFIX) + "."

    def order(path: str) -> tuple[bool, bool, int]:
        return not path.startswith(over), _LIVE_WORDS.isdisjoint(path.split(".")), path.count(".")

    return sorted((path for path in _layer_paths(_list_layers(tree)) if path not in taken), key=order)


def _list_layers(tree: Tree) -> list[str]:
    """Their names, without what all of them end with."""
    directory = tree.follow(_LAYERS)
    names = sort_names(list(directory.entries)) if isinstance(directory, Directory) else []
    files = [name for name in names if name.endswith(_SUFFIX) and isinstance(tree.follow(f"{_LAYERS}/{name}"), File)]
    return [name.removesuffix(_SUFFIX) for name in files]


def _layer_path(name: str) -> str:
    return f"{_LAYERS}/{name}{_SUFFIX}"


def _layer_paths(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_layer_path, names))


def _only_path(names: Sequence[str]) -> str:
    return _layer_path(names[0]) if len(names) == 1 else ""


@dataclass(slots=True)
class _Installable:
    """An entry of install-sources.yaml."""

    name: str = ""
    default: bool = False


def _read_installable(tree: Tree) -> list[_Installable]:
    """Those that the installer offers; none where the file does not say it as Ubuntu's do.

    Of YAML this reads what the file needs: a list of maps, at the top or below `sources:`, of which two keys with plain
    or quoted words matter.
    """
    file = tree.follow(_INSTALLABLE)
    if not isinstance(file, File):
        return []
    try:
        text = decode(read_small_file(file, _INSTALLABLE, _MOST_TEXT))
    except (OSError, FormatError):
        return []
    found: list[_Installable] = []
    for begins, key, value in _parse_pairs(text):
        if begins:
            found.append(_Installable())
        if key == "path":
            found[-1].name = value.removesuffix(_SUFFIX) if value.endswith(_SUFFIX) else ""
        elif key == "default":
            found[-1].default = value in {"true", "True", "TRUE"}
    return [each for each in found if each.name]


def _parse_pairs(text: str) -> Iterator[tuple[bool, str, str]]:
    """Keys and values of the list's maps, and whether an entry begins with them: those of maps in these are passed."""
    margin = inner = -1
    for line in text.splitlines():
        match = re.fullmatch(r"( *)(- +)?([A-Za-z_]+):(?: +(.*?))?\s*", line)
        if match is None:
            continue
        indent, dash, key, value = len(match[1]), match[2] or "", match[3], match[4] or ""
        if dash and margin in {-1, indent}:
            margin, inner = indent, indent + len(dash)
            yield True, key, _parse_word(value)
        elif indent <= margin:
            return
        elif indent == inner and not dash:
            yield False, key, _parse_word(value)


def _parse_word(value: str) -> str:
    quoted = re.fullmatch(r"(?:'([^']*)'|\"([^\"\\]*)\")(?:\s+#.*)?", value)
    return value.partition(" #")[0].rstrip() if quoted is None else quoted[1] or quoted[2] or ""
