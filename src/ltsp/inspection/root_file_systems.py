"""Root file systems: whether a tree or a directory of the host is one, and those in the directories of a carrier.

One is recognized by /etc/passwd and /usr. Links in a directory of the host are resolved inside it, as its own programs
would. Carriers are container exports and ostree deployments, whose paths follow the conventions of the tools:
lxc.container.conf(5); Incus, doc/image-handling.md and backups; ostree, docs/deployment.md and atomic-upgrades.md;
UAPI.1, the Boot Loader Specification.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ltsp.boot.kernel_header import version_key
from ltsp.errors import FormatError, SourceError
from ltsp.host.root import CHROOT_MARKS, is_chroot, leads_to
from ltsp.tree.faults import read_small_file
from ltsp.tree.name import decode, encode, printable, sort_names
from ltsp.tree.node import Directory, File
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_ACCOUNTS_FILE: Final = "etc/passwd"
_MARK_DIRECTORIES: Final = tuple(map(decode, CHROOT_MARKS))
_MAX_SHOWN_ENTRIES = 6
"""How many of the entries that were found instead are listed."""
ROOTFS_HINT = "a root file system has /etc/passwd and /usr"


def is_system(tree: Tree) -> bool:
    """Whether it has the marks of a root file system."""
    return not explain_missing_root_in_tree(tree)


def explain_missing_root_in_tree(tree: Tree) -> str:
    """Why a tree is not a root file system, and what it contains; empty if it is one."""
    directory = any(isinstance(tree.follow(each), Directory) for each in _MARK_DIRECTORIES)
    return _describe_missing(isinstance(tree.follow(_ACCOUNTS_FILE), File), directory, tree.root.entries)


def explain_missing_root(path: str) -> str:
    """Why a directory is not a root file system, and what it contains; empty if it is one.

    Raises SourceError if it cannot be read.
    """
    try:
        entries = [decode(name) for name in os.listdir(encode(path))]
    except OSError as error:
        raise SourceError(f"cannot read {printable(path)}: {error.strerror}", "run as root") from error
    return _describe_missing(
        leads_to(encode(path), encode(_ACCOUNTS_FILE), stat.S_ISREG), is_chroot(encode(path)), entries
    )


def _describe_missing(accounts: bool, directory: bool, entries: Iterable[str]) -> str:
    missing = [path for path, there in ((_ACCOUNTS_FILE, accounts), (_MARK_DIRECTORIES[0], directory)) if not there]
    if not missing:
        return ""
    found = sort_names(list(entries))
    shown = ", ".join(map(printable, found[:_MAX_SHOWN_ENTRIES])) + (", …" if len(found) > _MAX_SHOWN_ENTRIES else "")
    absent = " and ".join(f"/{path}" for path in missing)
    verb = "is" if len(missing) == 1 else "are"
    return f"it is not a Linux root file system: {absent} {verb} missing; found {shown or 'nothing'}"


_CONTAINER_ROOTS: Final = ("rootfs", "backup/container/rootfs")
"""LXC, Incus and LXD: in a container's directory, image or volume, and in the output of `incus export`."""
_OPTIMIZED_EXPORTS: Final = ("backup/container.bin", "backup/virtual-machine.bin")
"""The output of `incus export --optimized-storage`: a stream of btrfs or ZFS."""
_OSTREE_DEPLOY_DIR: Final = "ostree/deploy"
_DEPLOYMENT_PATH: Final = re.compile(r"ostree/deploy/([^/]+)/deploy/[^/]+")
_BOOT_ENTRY_DIRS: Final = ("boot/loader/entries", "loader/entries")
_MAX_TEXT_SIZE: Final = 64 << 10
_MAX_ENTRIES: Final = 64
"""Limit on the deployments and boot loader entries that are examined; ostree keeps two or three."""
_MAX_SHOWN: Final = 6

_ROOT_PATTERN: Final = r"(rootfs|backup/container/rootfs|ostree/deploy/[^/]+/deploy/[^/]+)"
_SEARCHED_DIRECTORIES: Final = re.compile(
    rf"{_ROOT_PATTERN}(/etc)?|backup(/container)?|ostree(/deploy(/[^/]+(/deploy)?)?)?|ostree/boot\.[^/]*(/[^/]+){{0,2}}"
    r"|(boot/)?loader[^/]*(/entries)?|boot"
)
_MARKER_DIRECTORIES: Final = re.compile(rf"{_ROOT_PATTERN}/(usr|proc|var)|ostree/deploy/[^/]+/var")


@dataclass(frozen=True, slots=True)
class NestedRoot:
    path: str
    """The root's path in the carrier's tree."""
    overlays: tuple[tuple[str, str], ...] = ()
    """Mount points in the root, such as `var`, and the directories of the carrier that go there."""

    def tree(self, carrier: Tree) -> Tree:
        """Raises SourceError if the directory does not exist."""
        root = carrier.get(self.path)
        if not isinstance(root, Directory):
            raise SourceError(f"directory {printable(self.path)} not found in it")
        return Tree(root).edit(
            {at: node for at, path in self.overlays if isinstance(node := carrier.get(path), Directory)}
        )

    def selection(self, inner: Selection) -> Selection:
        """A selection of the root, translated to the carrier's tree."""
        return _NestedSelection(self, inner)

    def outer_path(self, path: str) -> str:
        """The path in the carrier's tree of a path in the root."""
        for at, place in self.overlays:
            if path == at or path.startswith(f"{at}/"):
                return place + path[len(at) :]
        return f"{self.path}/{path}"

    def inner_path(self, path: str) -> str | None:
        """The path in the root of a path in the carrier's tree; None if it is outside the root."""
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
    """Selects the files that identify nested root file systems, and the one that boots."""
    if _SEARCHED_DIRECTORIES.fullmatch(path if directory else path.rpartition("/")[0]):
        return Inclusion.ALL
    if directory and _MARKER_DIRECTORIES.fullmatch(path):
        return Inclusion.EMPTIED
    return Inclusion.ALL if not directory and "/" not in path else Inclusion.NOTHING


def find_nested_roots(carrier: Tree) -> list[NestedRoot]:
    """The root file systems nested in a tree; none if it is one itself."""
    if is_system(carrier):
        return []
    plain = [NestedRoot(path) for path in _CONTAINER_ROOTS if _is_root(carrier, path)]
    return plain or list(_list_deployments(carrier))


def suggest_remedy(carrier: Tree) -> str:
    """The hint for a tree that neither is nor contains a root file system."""
    if any(carrier.get(path) is not None for path in _OPTIMIZED_EXPORTS):
        return "export the container again without --optimized-storage"
    return ROOTFS_HINT


def enter_nested_root(carrier: Tree) -> Tree:
    """The root file system nested in a tree, or the tree itself if there is none.

    Raises SourceError if there are several and none is the default.
    """
    roots = find_nested_roots(carrier)
    return choose_bootable_root(carrier, roots).tree(carrier) if roots else carrier


def choose_bootable_root(carrier: Tree, roots: Sequence[NestedRoot], others: Sequence[Tree] = ()) -> NestedRoot:
    """The one that boots: the only one, or the one in the newest boot loader entry. `others` may have entries.

    Raises SourceError if no entry selects one.
    """
    if len(roots) == 1:
        return roots[0]
    for text in _read_boot_entries((carrier, *others)):
        path = _find_kernel_option(text, "ostree")
        target = carrier.resolve(path) if path else None
        for each in roots:
            if each.path == target:
                return each
    raise ambiguous_error(roots)


def ambiguous_error(roots: Sequence[NestedRoot]) -> SourceError:
    shown = ", ".join(printable(each.path) for each in roots[:_MAX_SHOWN]) + (", …" if len(roots) > _MAX_SHOWN else "")
    return SourceError(
        f"it is an ostree system with several deployments, and no boot loader entry selects one: {shown}",
        f"choose one: FILE,subvol={printable(roots[0].path)}, or name the directory",
    )


def find_nested_root_at(carrier: Tree, path: str) -> NestedRoot | None:
    """The root file system in a directory; None if it is not one."""
    path = path.strip("/")
    if not path or not _is_root(carrier, path):
        return None
    match = _DEPLOYMENT_PATH.fullmatch(path)
    return _make_deployment(carrier, path, match[1]) if match else NestedRoot(path)


def _list_deployments(carrier: Tree) -> Iterator[NestedRoot]:
    count = 0
    for system in _list_names(carrier, _OSTREE_DEPLOY_DIR):
        for name in _list_names(carrier, f"{_OSTREE_DEPLOY_DIR}/{system}/deploy"):
            path = f"{_OSTREE_DEPLOY_DIR}/{system}/deploy/{name}"
            if count < _MAX_ENTRIES and _is_root(carrier, path):
                count += 1
                yield _make_deployment(carrier, path, system)


def _make_deployment(carrier: Tree, path: str, system: str) -> NestedRoot:
    """Ostree mounts /var, shared by all deployments, and /boot from the carrier's root."""
    overlays = [("var", f"{_OSTREE_DEPLOY_DIR}/{system}/var")]
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
    """The texts of boot loader entries, in boot order."""
    texts = []
    for tree in trees:
        for place in _BOOT_ENTRY_DIRS:
            directory = tree.follow(place)
            files = directory.entries.items() if isinstance(directory, Directory) else ()
            entries = [(node, name) for name, node in files if isinstance(node, File) and name.endswith(".conf")]
            texts += [_read_text(node, name) for node, name in entries[:_MAX_ENTRIES]]
    return sorted(texts, key=lambda text: version_key(_find_value(text, "version")), reverse=True)


def _read_text(file: File, name: str) -> str:
    try:
        return decode(read_small_file(file, name, _MAX_TEXT_SIZE))
    except (OSError, FormatError):
        return ""


def _find_value(text: str, key: str) -> str:
    """The value of a key in an entry."""
    lines = (line.split(None, 1) for line in text.splitlines())
    return next((words[1].strip() for words in lines if len(words) == 2 and words[0] == key), "")


def _find_kernel_option(text: str, name: str) -> str:
    """The value of a kernel parameter in an entry."""
    words = _find_value(text, "options").split()
    return next((word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}=")), "")
