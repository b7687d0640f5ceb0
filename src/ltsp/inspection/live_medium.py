"""Finds the systems on live media: the file that holds a system, or a stack of several.

Ubuntu's media have layers whose names tell their order: `a.b.squashfs` goes on top of `a.squashfs`, as casper and the
installer mount them. `install-sources.yaml` lists the layers that make up installable systems.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ltsp.errors import FormatError, SourceError
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode, printable, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.tree import Tree

SINGLE_FILE_PATHS = (
    "casper/filesystem.squashfs",
    "live/filesystem.squashfs",
    "LiveOS/squashfs.img",
    "LiveOS/rootfs.img",
)
"""Paths at which the system is a single file: Ubuntu, Debian, Fedora (an ext4 in a squashfs)."""
_LAYER_DIRECTORY, _LAYER_SUFFIX = "casper", ".squashfs"
_INSTALL_SOURCES = f"{_LAYER_DIRECTORY}/install-sources.yaml"
MEDIUM_DIRECTORIES = frozenset({"casper", "live", "LiveOS"})
"""Directories that identify a live medium."""
_MAX_TEXT_SIZE = 1 << 20
_MAX_SHOWN = 6
_MAX_LAYERS = 16
_LIVE_WORDS = frozenset({"live", "installer"})
_NOT_INSTALLED_LAYER = re.compile(r"live|installer|enhanced-secureboot|no-languages|[a-z]{2,3}([_-][A-Za-z]{2,4})?")
"""Names of layers that are not part of an installed system: for the live session, the installer, single languages."""


@dataclass(frozen=True, slots=True)
class LiveMedium:
    """The systems on a live medium, each by the path of its file, or of its uppermost layer."""

    systems: tuple[str, ...]
    default_path: str
    """The default; empty if there is none."""

    @classmethod
    def of(cls, tree: Tree) -> LiveMedium | None:
        """None if the tree is not a live medium."""
        single = next((path for path in SINGLE_FILE_PATHS if isinstance(tree.follow(path), File)), "")
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
        usual = [name for name in layers if not any(map(_NOT_INSTALLED_LAYER.fullmatch, name.split(".")[1:]))] or layers
        longest = max(name.count(".") for name in usual)
        systems = tuple(name for name in usual if name.count(".") == longest)
        return cls(_layer_paths(systems), _only_path(systems))

    def ambiguous_error(self, medium: str) -> SourceError:
        """`medium` is how the user names it, safe to print."""
        return SourceError(
            f"it is a live medium with several systems and no default: {format_paths(self.systems)}",
            f"name one: {medium},,{printable(self.systems[0])}",
        )


def format_paths(paths: Sequence[str]) -> str:
    return ", ".join(map(printable, paths[:_MAX_SHOWN])) + (", …" if len(paths) > _MAX_SHOWN else "")


def find_layer_chain(tree: Tree, path: str) -> list[str]:
    """The layers of the system whose uppermost layer is `path`, the lowest first.

    Raises SourceError if some are missing, or there are too many.
    """
    parent, slash, name = path.rpartition("/")
    if parent.rpartition("/")[2] != _LAYER_DIRECTORY or not name.endswith(_LAYER_SUFFIX):
        return [path]
    words = name.removesuffix(_LAYER_SUFFIX).split(".")
    if len(words) > _MAX_LAYERS:
        raise SourceError(f"{printable(path)} needs {len(words) - 1} layers below it; the limit is {_MAX_LAYERS - 1}")
    every = [f"{parent}{slash}{'.'.join(words[:end])}{_LAYER_SUFFIX}" for end in range(1, len(words) + 1)]
    missing = [each for each in every[:-1] if not isinstance(tree.follow(each), File)]
    if len(missing) == len(every) - 1:
        return [path]
    if missing:
        raise SourceError(f"{printable(path)} needs {format_paths(missing)}, not found on the live medium")
    return every


def find_other_layers(tree: Tree, used_layers: Sequence[str]) -> list[str]:
    """The other layers: first those on top of the given ones, of these the live session's first, lower ones before."""
    child_prefix = used_layers[-1].removesuffix(_LAYER_SUFFIX) + "."

    def order(path: str) -> tuple[bool, bool, int]:
        return not path.startswith(child_prefix), _LIVE_WORDS.isdisjoint(path.split(".")), path.count(".")

    return sorted((path for path in _layer_paths(_list_layers(tree)) if path not in used_layers), key=order)


def _list_layers(tree: Tree) -> list[str]:
    """The names of the layers, without their suffix."""
    directory = tree.follow(_LAYER_DIRECTORY)
    names = sort_names(list(directory.entries)) if isinstance(directory, Directory) else []
    files = [
        name
        for name in names
        if name.endswith(_LAYER_SUFFIX) and isinstance(tree.follow(f"{_LAYER_DIRECTORY}/{name}"), File)
    ]
    return [name.removesuffix(_LAYER_SUFFIX) for name in files]


def _layer_path(name: str) -> str:
    return f"{_LAYER_DIRECTORY}/{name}{_LAYER_SUFFIX}"


def _layer_paths(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_layer_path, names))


def _only_path(names: Sequence[str]) -> str:
    return _layer_path(names[0]) if len(names) == 1 else ""


@dataclass(slots=True)
class _InstallSource:
    """An entry of install-sources.yaml."""

    name: str = ""
    default: bool = False


def _read_installable(tree: Tree) -> list[_InstallSource]:
    """The systems that the installer offers; none if the file does not look like Ubuntu's.

    This reads only a subset of YAML: a list of maps, at the top or below `sources:`, in which two keys with plain or
    quoted words matter.
    """
    file = tree.follow(_INSTALL_SOURCES)
    if not isinstance(file, File):
        return []
    try:
        text = decode(read_small_file(file, _INSTALL_SOURCES, _MAX_TEXT_SIZE))
    except (OSError, FormatError):
        return []
    found: list[_InstallSource] = []
    for starts_entry, key, value in _parse_pairs(text):
        if starts_entry:
            found.append(_InstallSource())
        if key == "path":
            found[-1].name = value.removesuffix(_LAYER_SUFFIX) if value.endswith(_LAYER_SUFFIX) else ""
        elif key == "default":
            found[-1].default = value in {"true", "True", "TRUE"}
    return [each for each in found if each.name]


def _parse_pairs(text: str) -> Iterator[tuple[bool, str, str]]:
    """Keys and values of the list's maps, and whether they start an entry; nested maps are skipped."""
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
