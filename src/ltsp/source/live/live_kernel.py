"""Adds the kernel of a live medium to its system if that has none; Ubuntu's installer would install a package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

from ltsp.boot.kernel import find_kernel
from ltsp.boot.kernel_header import has_header, read_stated_version, version_key
from ltsp.boot.kernel_rules import KERNEL_RULES, KernelRule, list_kernel_paths
from ltsp.errors import FileUnreadable, LtspError
from ltsp.tree.node import Directory, File, Node
from ltsp.tree.tree import Tree

TOPS = frozenset({"boot", "casper", "images", "isolinux", "live"})
"""Where live media keep kernels; an installer's kernel, in other directories, does not boot the system."""
_MODULES, _FIRMWARE = "lib/modules", "lib/firmware"
_MERGED = "usr"
"""Where a layer has `lib` if the link to it is in a layer below."""
_MOST_LOOKED_INTO = 8
_KERNEL = re.compile(r"(vmlinuz|linux|bzimage|kernel|gentoo)([-_.\d].*)?", re.IGNORECASE)
"""Names of kernels on media of other layouts: Arch, antiX, Slax, Porteus, Gentoo, SystemRescue."""
_NOT_KERNEL = (".c32", ".cfg", ".deb", ".lst", ".rpm", ".sig", ".sfs", ".squashfs", ".txt", ".udeb")
_MOST_ASKED = 32
"""Limit on the kernels of such a medium that are read for their version."""


def add_kernel(system: Tree, medium: Tree, others: Iterable[Tree], own_rule: str = "") -> Tree:
    """The system, with a kernel of the medium added if it has none and there are modules for it.

    The modules may be the system's, or those of one of `others`, which are searched only then: Ubuntu has them, with
    the firmware, in the layer of the live session. A kernel that matches the user's `own_rule` has precedence, in the
    system and then in the medium. If no kernel fits, those of the medium are added without modules or initrds: then
    nothing is published, and the error names them.
    """
    look = _find_by_table(medium)
    if (
        own_rule
        and not list_kernel_paths(system, KernelRule.parse(own_rule))
        and list_kernel_paths(medium, KernelRule.parse(own_rule))
    ):
        look = _find_by_rule(medium, own_rule)
    elif _has_kernel(system):
        return system
    for tree in chain((system,), islice(others, _MOST_LOOKED_INTO)):
        modules = _find_directory(tree, _MODULES)
        if modules is not None and (found := look(modules)):
            added = {f"{_MODULES}/{found.version}": modules.entries[found.version]}
            firmware = _find_directory(tree, _FIRMWARE)
            if firmware is not None:
                added[_FIRMWARE] = firmware
            return _add_files(system, added, found.files)
    modules = _find_directory(system, _MODULES)
    if modules is None or not modules.entries:
        return system
    # The later search for a kernel reports why these cannot be booted.
    misfits = _misfits(medium, own_rule)
    return _add_files(system, {}, {path: file for path, file in misfits.items() if system.resolve(path) is None})


def _misfits(medium: Tree, own_rule: str) -> Mapping[str, Node]:
    """Kernels without modules in the system, and files that are not kernels, by their path in the system."""
    own = [KernelRule.parse(own_rule)] if own_rule else []
    found = [(medium, own), (_kernels(medium), [rule for rule in KERNEL_RULES if rule.live])]
    paths = (path for tree, rules in found for rule in rules for path in list_kernel_paths(tree, rule))
    files = {path: node for path in islice(paths, _MOST_ASKED) if isinstance(node := medium.follow(path), File)}
    if files:
        return {path: file for path, file in files.items() if _is_conclusive(file)}
    return {f"boot/vmlinuz-{version}": file for version, file in _find_anywhere(medium)}


def _is_conclusive(file: File) -> bool:
    """Whether it is a kernel that states its version, or not a kernel; others would match any modules."""
    try:
        return read_stated_version(file.content) is not None or not has_header(file.content)
    except OSError:
        return False


def _find_directory(tree: Tree, path: str) -> Directory | None:
    found = (tree.follow(path), tree.follow(f"{_MERGED}/{path}"))
    return next((node for node in found if isinstance(node, Directory)), None)


def _has_kernel(tree: Tree) -> bool:
    try:
        find_kernel(tree, "")
    except FileUnreadable:
        return True
    except LtspError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _KernelFiles:
    files: Mapping[str, Node]
    """By their path in the system."""
    version: str


_KernelFinder = Callable[[Directory], _KernelFiles | None]
"""Finds a kernel for the modules in a directory."""


def _find_by_table(medium: Tree) -> _KernelFinder:
    kernels = _kernels(medium)
    stated: list[tuple[str, File]] | None = None

    def look(modules: Directory) -> _KernelFiles | None:
        nonlocal stated
        found = _find_in_layout(kernels, modules)
        if found is not None:
            return found
        if stated is None:
            stated = list(_find_anywhere(medium))
        fit = [(version, file) for version, file in stated if isinstance(modules.entries.get(version), Directory)]
        version, file = max(fit, key=lambda each: version_key(each[0]), default=("", None))
        return None if file is None else _KernelFiles({f"boot/vmlinuz-{version}": file}, version)

    return look


def _kernels(medium: Tree) -> Tree:
    """The directories of the medium that may hold a kernel of the system."""
    return Tree(
        replace(medium.root, entries={name: node for name, node in medium.root.entries.items() if name in TOPS})
    )


def _find_by_rule(medium: Tree, own_rule: str) -> _KernelFinder:
    return lambda modules: _find_in_layout(medium, modules, own_rule)


def _find_in_layout(medium: Tree, modules: Directory, own_rule: str = "") -> _KernelFiles | None:
    """The kernel and initrd at the paths where systems have theirs."""
    library = replace(modules, entries={"modules": modules})
    tree = Tree(replace(medium.root, entries={**medium.root.entries, "lib": library}))
    try:
        kernel = find_kernel(tree, "", own_rule or None)
    except LtspError:
        return None
    if kernel.version is None or not isinstance(modules.entries.get(kernel.version), Directory):
        return None
    paths = filter(None, (kernel.path, kernel.initrd_path))
    return _KernelFiles({path: node for path in paths if isinstance(node := tree.follow(path), File)}, kernel.version)


def _find_anywhere(medium: Tree) -> Iterator[tuple[str, File]]:
    """Files named like kernels, each with the version that it states."""
    named = (
        node
        for path, node in medium.walk()
        if isinstance(node, File)
        if _KERNEL.fullmatch(name := path.rpartition("/")[2]) and not name.lower().endswith(_NOT_KERNEL)
    )
    for file in islice(named, _MOST_ASKED):
        with suppress(OSError):
            if version := read_stated_version(file.content):
                yield version, file


def _add_files(system: Tree, directories: Mapping[str, Node], files: Mapping[str, Node]) -> Tree:
    """The system with these files, and those of the directories that it lacks."""
    for path, directory in directories.items():
        if not isinstance(system.follow(path), Directory):
            system = _put(system, path, directory)
    for path, file in files.items():
        system = _put(system, path, file)
    return system


def _put(tree: Tree, path: str, node: Node) -> Tree:
    """The tree with the node, creating missing directories above it; unchanged if something is in the way."""
    parent, _, name = path.rpartition("/")
    if tree.resolve(parent) is None:
        plain = replace(tree.root.metadata, mode=0o755, xattrs=())
        tree = _put(tree, parent, Directory(plain))
    at = tree.resolve(parent)
    if at is None or not isinstance(tree.get(at), Directory):
        return tree
    return tree.edit({f"{at}/{name}".lstrip("/"): node})
