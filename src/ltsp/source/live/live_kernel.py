"""Adds the kernel of a live medium to its system if that has none; Ubuntu's installer would install a package."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

from ltsp.boot.kernel import find_kernel
from ltsp.boot.kernel_header import looks_like_kernel, read_embedded_version, version_key
from ltsp.boot.kernel_rules import KERNEL_RULES, KernelRule, list_kernel_paths
from ltsp.errors import FileUnreadable, LtspError
from ltsp.tree.node import Directory, File, Node
from ltsp.tree.tree import Tree

KERNEL_DIRECTORIES = frozenset({"boot", "casper", "images", "isolinux", "live"})
"""Where live media keep kernels; an installer's kernel, in other directories, does not boot the system."""
_MODULES, _FIRMWARE = "lib/modules", "lib/firmware"
_USR = "usr"
"""Where a layer has `lib` if the link to it is in a layer below."""
_MAX_LAYERS_SEARCHED = 8
_KERNEL_NAME = re.compile(r"(vmlinuz|linux|bzimage|kernel|gentoo)([-_.\d].*)?", re.IGNORECASE)
"""Names of kernels on media of other layouts: Arch, antiX, Slax, Porteus, Gentoo, SystemRescue."""
_NOT_KERNEL_SUFFIXES = (".c32", ".cfg", ".deb", ".lst", ".rpm", ".sig", ".sfs", ".squashfs", ".txt", ".udeb")
_MAX_KERNELS_READ = 32
"""Limit on the kernels of such a medium that are read for their version."""


def add_kernel(system: Tree, medium: Tree, others: Iterable[Tree], user_rule: str = "") -> Tree:
    """The system, with a kernel of the medium added if it has none and there are modules for it.

    The modules may be the system's, or those of one of `others`, which are searched only then: Ubuntu has them, with
    the firmware, in the layer of the live session. A kernel that matches the user's `user_rule` has precedence, in the
    system and then in the medium. If no kernel fits, those of the medium are added without modules or initrds: then
    nothing is published, and the error names them.
    """
    find_kernel_files = _make_table_finder(medium)
    if (
        user_rule
        and not list_kernel_paths(system, KernelRule.parse(user_rule))
        and list_kernel_paths(medium, KernelRule.parse(user_rule))
    ):
        find_kernel_files = _make_rule_finder(medium, user_rule)
    elif _has_kernel(system):
        return system
    for tree in chain((system,), islice(others, _MAX_LAYERS_SEARCHED)):
        modules = _find_directory(tree, _MODULES)
        if modules is not None and (found := find_kernel_files(modules)):
            added = {f"{_MODULES}/{found.version}": modules.entries[found.version]}
            firmware = _find_directory(tree, _FIRMWARE)
            if firmware is not None:
                added[_FIRMWARE] = firmware
            return _add_files(system, added, found.files)
    modules = _find_directory(system, _MODULES)
    if modules is None or not modules.entries:
        return system
    # The later search for a kernel reports why these cannot be booted.
    unusable = _find_unusable_kernels(medium, user_rule)
    return _add_files(system, {}, {path: file for path, file in unusable.items() if system.resolve(path) is None})


def _find_unusable_kernels(medium: Tree, user_rule: str) -> Mapping[str, Node]:
    """Kernels without modules in the system, and files that are not kernels, by their path in the system."""
    user_rules = [KernelRule.parse(user_rule)] if user_rule else []
    found = [(medium, user_rules), (_keep_kernel_directories(medium), [rule for rule in KERNEL_RULES if rule.live])]
    paths = (path for tree, rules in found for rule in rules for path in list_kernel_paths(tree, rule))
    files = {path: node for path in islice(paths, _MAX_KERNELS_READ) if isinstance(node := medium.follow(path), File)}
    if files:
        return {path: file for path, file in files.items() if _identifies_itself(file)}
    return {f"boot/vmlinuz-{version}": file for version, file in _find_by_name(medium)}


def _identifies_itself(file: File) -> bool:
    """Whether it is a kernel that states its version, or not a kernel; others would match any modules."""
    try:
        return read_embedded_version(file.content) is not None or not looks_like_kernel(file.content)
    except OSError:
        return False


def _find_directory(tree: Tree, path: str) -> Directory | None:
    found = (tree.follow(path), tree.follow(f"{_USR}/{path}"))
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


def _make_table_finder(medium: Tree) -> _KernelFinder:
    kernels = _keep_kernel_directories(medium)
    versioned_kernels: list[tuple[str, File]] | None = None

    def find_kernel_files(modules: Directory) -> _KernelFiles | None:
        nonlocal versioned_kernels
        found = _find_in_layout(kernels, modules)
        if found is not None:
            return found
        if versioned_kernels is None:
            versioned_kernels = list(_find_by_name(medium))
        fit = [
            (version, file)
            for version, file in versioned_kernels
            if isinstance(modules.entries.get(version), Directory)
        ]
        version, file = max(fit, key=lambda each: version_key(each[0]), default=("", None))
        return None if file is None else _KernelFiles({f"boot/vmlinuz-{version}": file}, version)

    return find_kernel_files


def _keep_kernel_directories(medium: Tree) -> Tree:
    """The directories of the medium that may hold a kernel of the system."""
    return Tree(
        replace(
            medium.root,
            entries={name: node for name, node in medium.root.entries.items() if name in KERNEL_DIRECTORIES},
        )
    )


def _make_rule_finder(medium: Tree, user_rule: str) -> _KernelFinder:
    return lambda modules: _find_in_layout(medium, modules, user_rule)


def _find_in_layout(medium: Tree, modules: Directory, user_rule: str = "") -> _KernelFiles | None:
    """The kernel and initrd at the paths where systems have theirs."""
    lib_directory = replace(modules, entries={"modules": modules})
    tree = Tree(replace(medium.root, entries={**medium.root.entries, "lib": lib_directory}))
    try:
        kernel = find_kernel(tree, "", user_rule or None)
    except LtspError:
        return None
    if kernel.version is None or not isinstance(modules.entries.get(kernel.version), Directory):
        return None
    paths = filter(None, (kernel.path, kernel.initrd_path))
    return _KernelFiles({path: node for path in paths if isinstance(node := tree.follow(path), File)}, kernel.version)


def _find_by_name(medium: Tree) -> Iterator[tuple[str, File]]:
    """Files named like kernels, each with the version that it states."""
    named = (
        node
        for path, node in medium.walk()
        if isinstance(node, File)
        if _KERNEL_NAME.fullmatch(name := path.rpartition("/")[2]) and not name.lower().endswith(_NOT_KERNEL_SUFFIXES)
    )
    for file in islice(named, _MAX_KERNELS_READ):
        with suppress(OSError):
            if version := read_embedded_version(file.content):
                yield version, file


def _add_files(system: Tree, directories: Mapping[str, Node], files: Mapping[str, Node]) -> Tree:
    """The system with these files, and those of the directories that it lacks."""
    for path, directory in directories.items():
        if not isinstance(system.follow(path), Directory):
            system = _put_node(system, path, directory)
    for path, file in files.items():
        system = _put_node(system, path, file)
    return system


def _put_node(tree: Tree, path: str, node: Node) -> Tree:
    """The tree with the node, creating missing directories above it; unchanged if something is in the way."""
    parent, _, name = path.rpartition("/")
    if tree.resolve(parent) is None:
        plain = replace(tree.root.metadata, mode=0o755, xattrs=())
        tree = _put_node(tree, parent, Directory(plain))
    at = tree.resolve(parent)
    if at is None or not isinstance(tree.get(at), Directory):
        return tree
    return tree.edit({f"{at}/{name}".lstrip("/"): node})
