"""Root file systems that lie in a directory of what carries them: exports of containers, and ostree's deployments.

Where they lie is the carriers' own convention: lxc.container.conf(5); Incus, doc/image-handling.md and backups;
ostree, docs/deployment.md and atomic-upgrades.md; UAPI.1, the Boot Loader Specification.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.boot.kernel_version import version_key
from ltsp.errors import FormatError, SourceError
from ltsp.inspection.rootfs_check import ROOTFS_HINT, is_system
from ltsp.tree.name import decode, printable, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.read_file import read_small_file
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_OF_CONTAINERS: Final = ("rootfs", "backup/container/rootfs")
"""LXC, Incus and LXD: of a container's directory, image or volume, and of what `incus export` writes."""
_OPTIMIZED: Final = ("backup/container.bin", "backup/virtual-machine.bin")
"""What `incus export --optimized-storage` writes: a stream of btrfs or ZFS."""
_DEPLOYMENTS: Final = "ostree/deploy"
_OSTREE: Final = re.compile(r"ostree/deploy/([^/]+)/deploy/[^/]+")
_ENTRIES: Final = ("boot/loader/entries", "loader/entries")
_MOST_TEXT: Final = 64 << 10
_MOST: Final = 64
"""Deployments, and entries of a boot loader, that are looked into; ostree keeps two or three."""
_SHOWN: Final = 6

_ROOT: Final = r"(rootfs|backup/container/rootfs|ostree/deploy/[^/]+/deploy/[^/]+)"
_LOOKED_INTO: Final = re.compile(
    rf"{_ROOT}(/etc)?|backup(/container)?|ostree(/deploy(/[^/]+(/deploy)?)?)?|ostree/boot\.[^/]*(/[^/]+){{0,2}}"
    r"|(boot/)?loader[^/]*(/entries)?|boot"
)
_SEEN: Final = re.compile(rf"{_ROOT}/(usr|proc|var)|ostree/deploy/[^/]+/var")


@dataclass(frozen=True, slots=True)
class NestedRoot:
    path: str
    """Of the root, in the carrier's tree."""
    overlays: tuple[tuple[str, str], ...] = ()
    """Other directories of the carrier by where they are laid, as `var`."""

    def tree(self, carrier: Tree) -> Tree:
        """Raises SourceError where it is not there."""
        root = carrier.get(self.path)
        if not isinstance(root, Directory):
            raise SourceError(f"there is no directory {printable(self.path)} in it")
        return Tree(root).edit(
            {at: node for at, path in self.overlays if isinstance(node := carrier.get(path), Directory)}
        )

    def selection(self, inner: Selection) -> Selection:
        """For the carrier's tree, what a selection takes in of the root."""
        return _NestedSelection(self, inner)

    def outer_path(self, path: str) -> str:
        """A path of the root's, in the carrier's tree."""
        for at, place in self.overlays:
            if path == at or path.startswith(f"{at}/"):
                return place + path[len(at) :]
        return f"{self.path}/{path}"

    def inner_path(self, path: str) -> str | None:
        """A path in the carrier's tree, as the root's; None where it is not in it."""
        for at, place in (*self.overlays, ("", self.path)):
            if path == place or path.startswith(f"{place}/"):
                return f"{at}{path[len(place) :]}".lstrip("/")
        return None


@dataclass(frozen=True, slots=True)
class _NestedSelection:
    nested: NestedRoot
    inner: Selection

    def __call__(self, path: str, directory: bool) -> Inclusion:
        within = self.nested.inner_path(path)
        if within is not None:
            return self.inner(within, directory) if within else Inclusion.ALL
        places = (self.nested.path, *(place for _, place in self.nested.overlays))
        on_the_way = directory and any(place.startswith(f"{path}/") for place in places)
        return Inclusion.ALL if on_the_way else Inclusion.NOTHING

    def entered(self, paths: Sequence[str]) -> Sequence[bool]:
        asked = getattr(self.inner, "entered", None)
        if asked is None:
            return [True] * len(paths)
        inner = [self.nested.inner_path(path) for path in paths]
        answers = iter(asked([path for path in inner if path]))
        return [next(answers) if path else True for path in inner]


def select_markers(path: str, directory: bool) -> Inclusion:
    """A selection that takes in what tells of root file systems that lie in a tree, and which of them boots."""
    if _LOOKED_INTO.fullmatch(path if directory else path.rpartition("/")[0]):
        return Inclusion.ALL
    if directory and _SEEN.fullmatch(path):
        return Inclusion.EMPTIED
    return Inclusion.ALL if not directory and "/" not in path else Inclusion.NOTHING


def find_nested_roots(carrier: Tree) -> list[NestedRoot]:
    """The root file systems that lie in a tree; none where it is one itself."""
    if is_system(carrier):
        return []
    plain = [NestedRoot(path) for path in _OF_CONTAINERS if _is_root(carrier, path)]
    return plain or list(_list_deployments(carrier))


def suggest_remedy(carrier: Tree) -> str:
    """What to do about a tree that is no root file system, and in which none lies."""
    if any(carrier.get(path) is not None for path in _OPTIMIZED):
        return "export the container again without --optimized-storage"
    return ROOTFS_HINT


def enter_nested_root(carrier: Tree) -> Tree:
    """The root file system that lies in a tree, or the tree itself where there is none.

    Raises SourceError where it cannot be told which is meant.
    """
    every = find_nested_roots(carrier)
    return choose_bootable(carrier, every).tree(carrier) if every else carrier


def choose_bootable(carrier: Tree, every: Sequence[NestedRoot], others: Sequence[Tree] = ()) -> NestedRoot:
    """The one that boots: the only one, or what the newest entry of a boot loader says. `others` may have entries.

    Raises SourceError where that is not said.
    """
    if len(every) == 1:
        return every[0]
    for text in _read_boot_entries((carrier, *others)):
        path = _find_kernel_option(text, "ostree")
        target = carrier.resolve(path) if path else None
        for each in every:
            if each.path == target:
                return each
    raise ambiguous_error(every)


def ambiguous_error(every: Sequence[NestedRoot]) -> SourceError:
    shown = ", ".join(printable(each.path) for each in every[:_SHOWN]) + (", …" if len(every) > _SHOWN else "")
    return SourceError(
        f"it is an ostree system with several deployments, and no boot loader's entry says which one boots: {shown}",
        f"choose one: FILE,subvol={printable(every[0].path)}, or name the directory",
    )


def find_nested_root_at(carrier: Tree, path: str) -> NestedRoot | None:
    """The root file system in a directory; None where there is none."""
    path = path.strip("/")
    if not path or not _is_root(carrier, path):
        return None
    match = _OSTREE.fullmatch(path)
    return _make_deployment(carrier, path, match[1]) if match else NestedRoot(path)


def _list_deployments(carrier: Tree) -> Iterator[NestedRoot]:
    count = 0
    for system in _list_names(carrier, _DEPLOYMENTS):
        for name in _list_names(carrier, f"{_DEPLOYMENTS}/{system}/deploy"):
            path = f"{_DEPLOYMENTS}/{system}/deploy/{name}"
            if count < _MOST and _is_root(carrier, path):
                count += 1
                yield _make_deployment(carrier, path, system)


def _make_deployment(carrier: Tree, path: str, system: str) -> NestedRoot:
    """Ostree mounts the /var that all deployments share, and /boot from its own root."""
    overlays = [("var", f"{_DEPLOYMENTS}/{system}/var")]
    if not _list_names(carrier, f"{path}/boot"):
        overlays.append(("boot", "boot"))
    return NestedRoot(
        path, tuple((place, other) for place, other in overlays if isinstance(carrier.get(other), Directory))
    )


def _is_root(carrier: Tree, path: str) -> bool:
    directory = carrier.get(path)
    return isinstance(directory, Directory) and is_system(Tree(directory))


def _list_names(tree: Tree, path: str) -> list[str]:
    directory = tree.get(path)
    return sort_names(list(directory.entries)) if isinstance(directory, Directory) else []


def _read_boot_entries(trees: Sequence[Tree]) -> list[str]:
    """The texts of boot loaders' entries, the one that boots first."""
    texts = []
    for tree in trees:
        for place in _ENTRIES:
            directory = tree.follow(place)
            files = directory.entries.items() if isinstance(directory, Directory) else ()
            entries = [(node, name) for name, node in files if isinstance(node, File) and name.endswith(".conf")]
            texts += [_read_text(node, name) for node, name in entries[:_MOST]]
    return sorted(texts, key=lambda text: version_key(_find_value(text, "version")), reverse=True)


def _read_text(file: File, name: str) -> str:
    try:
        return decode(read_small_file(file, name, _MOST_TEXT))
    except (OSError, FormatError):
        return ""


def _find_value(text: str, key: str) -> str:
    """What stands behind a key of an entry."""
    lines = (line.split(None, 1) for line in text.splitlines())
    return next((words[1].strip() for words in lines if len(words) == 2 and words[0] == key), "")


def _find_kernel_option(text: str, name: str) -> str:
    """The value of a parameter of the kernel in an entry."""
    words = _find_value(text, "options").split()
    return next((word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}=")), "")
