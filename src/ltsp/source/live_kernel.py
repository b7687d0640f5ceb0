"""The kernel of a live medium, for the system on it that has none: Ubuntu's installer would add it from a package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice

from ltsp.boot.kernel import find_kernel
from ltsp.errors import LtspError, Unreadable
from ltsp.tree.node import Directory, File, Node
from ltsp.tree.tree import Tree

TOPS = frozenset({"boot", "casper", "images", "isolinux", "live"})
"""Where live media have kernels; an installer's own, in other directories, does not boot the system."""
_MODULES, _FIRMWARE = "lib/modules", "lib/firmware"
_MERGED = "usr"
"""Where a layer has `lib` whose link to it is in a layer below."""
_MOST_LOOKED_INTO = 8


def with_kernel(system: Tree, medium: Tree, others: Iterable[Tree]) -> Tree:
    """The system, with the kernel of the medium where it has none and the modules for it are there.

    These may be the system's, or those of one of `others`, which are looked into only then: Ubuntu has them, with the
    firmware, in the layer of the live session.
    """
    kernels = {name: node for name, node in medium.root.entries.items() if name in TOPS}
    if _has_kernel(system) or _found(medium, kernels, None) is None:
        return system
    for tree in chain((system,), islice(others, _MOST_LOOKED_INTO)):
        modules = _directory(tree, _MODULES)
        if modules is not None and (found := _found(medium, kernels, modules)):
            added = {f"{_MODULES}/{found.version}": modules.entries[found.version]}
            firmware = _directory(tree, _FIRMWARE)
            if firmware is not None:
                added[_FIRMWARE] = firmware
            return _with(system, added, found.files)
    return system


def _directory(tree: Tree, path: str) -> Directory | None:
    found = (tree.follow(path), tree.follow(f"{_MERGED}/{path}"))
    return next((node for node in found if isinstance(node, Directory)), None)


def _has_kernel(tree: Tree) -> bool:
    try:
        find_kernel(tree, "")
    except Unreadable:
        return True
    except LtspError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Found:
    files: Mapping[str, Node]
    version: str


def _found(medium: Tree, kernels: Mapping[str, Node], modules: Directory | None) -> _Found | None:
    """The medium's kernel for modules; for none, any that says its version."""
    entries = dict(kernels)
    if modules is not None:
        entries["lib"] = replace(modules, entries={"modules": modules})
    tree = Tree(replace(medium.root, entries=entries))
    try:
        kernel = find_kernel(tree, "")
    except LtspError:
        return None
    if kernel.version is None:
        return None
    if modules is not None and not isinstance(modules.entries.get(kernel.version), Directory):
        return None
    paths = filter(None, (kernel.path, kernel.initrd_path))
    return _Found({path: node for path in paths if isinstance(node := tree.follow(path), File)}, kernel.version)


def _with(system: Tree, directories: Mapping[str, Node], files: Mapping[str, Node]) -> Tree:
    """Directories are added where there are none."""
    for path, directory in directories.items():
        if not isinstance(system.follow(path), Directory):
            system = _put(system, path, directory)
    for path, file in files.items():
        system = _put(system, path, file)
    return system


def _put(tree: Tree, path: str, node: Node) -> Tree:
    """With directories above it as there are, links followed, or new ones; as it was where something is in the way."""
    parent, _, name = path.rpartition("/")
    if tree.resolve(parent) is None:
        plain = replace(tree.root.metadata, mode=0o755, xattrs=())
        tree = _put(tree, parent, Directory(plain))
    at = tree.resolve(parent)
    if at is None or not isinstance(tree.get(at), Directory):
        return tree
    return tree.edit({f"{at}/{name}".lstrip("/"): node})
