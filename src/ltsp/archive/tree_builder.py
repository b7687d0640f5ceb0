"""Build a tree from the members of an archive, or of the layers of a container image.

Nothing is ever resolved outside the tree. A name with `..` in it is refused; a leading slash means the root of the
tree. A symbolic link in the directories of a member's path is followed as in a chroot, like containers/storage and
umoci do; a member itself replaces a link. A hard link is another name of the node at its target, from any layer.

Whiteouts are those of the OCI image specification, layer.md: `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq`
everything that they have in the directory; neither hides anything of its own layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from ltsp.archive.input import ArchiveUsage
from ltsp.archive.member import ArchiveMember, MemberKind
from ltsp.errors import FormatError
from ltsp.tree.name import decode, printable
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Node, Symlink
from ltsp.tree.tree import Tree

_DEFAULT_METADATA: Final = Metadata(0o755)
"""Metadata of directories that no member describes."""
_WHITEOUT: Final = ".wh."
_OPAQUE_WHITEOUT: Final = ".wh..wh..opq"
_RESERVED_PREFIX: Final = ".wh..wh."
"""Prefix of names that aufs reserves."""
_MAX_NAME_SIZE: Final = 255
_MAX_PATH_SIZE: Final = 4096
"""Bytes. NAME_MAX and PATH_MAX of linux/limits.h"""
_MAX_LINKS: Final = 40
_MAX_MAJOR: Final = 0xFFF
_MAX_MINOR: Final = 0xFFFFF
"""linux/kdev_t.h"""
_DIRECTORY_MEMORY: Final = 600
"""Approximate bytes of a directory."""


@dataclass(slots=True, eq=False)
class _DirectoryBuilder:
    """A directory under construction."""

    metadata: Metadata
    entries: dict[str, _DirectoryBuilder | Node] = field(default_factory=dict)
    last_changed_layer: int = -1
    """The last layer that added something here or below."""
    names_in_layer: set[str] = field(default_factory=set)
    """Names that this layer added here, except directories."""
    last_cleared_layer: int = -1
    """The last layer that hid the earlier content."""


class ArchiveTreeBuilder:
    def __init__(self, usage: ArchiveUsage) -> None:
        self._usage = usage
        self._root = _DirectoryBuilder(_DEFAULT_METADATA)
        self._layer = 0
        self._layered = False
        self._directory_cache: dict[bytes, _DirectoryBuilder] = {}
        """Directories by path: the next member is mostly in the directory of the last."""
        self._metadata: dict[Metadata, Metadata] = {}
        """Shared metadata: most files of a system have the same as others."""

    def next_layer(self) -> None:
        """Start a new layer: members that follow are added over the earlier ones, and may hide them."""
        self._layered = True
        self._layer += 1
        self._directory_cache.clear()

    def add(self, member: ArchiveMember) -> None:
        """Raises FormatError if it has no place in the tree, or Linux does not support it."""
        names = _split_path(member.path)
        if not names:
            if member.kind is not MemberKind.DIRECTORY:
                raise FormatError(f"has a {member.kind.value} in place of its root directory")
            self._mark_changed(self._root)
            self._root.metadata = member.metadata
            return
        if self._layered and any(name.startswith(_WHITEOUT) for name in names):
            self._apply_whiteout(names)
            return
        parent = self._find_parent(member.path, names[:-1])
        name = names[-1]
        if member.kind is MemberKind.DIRECTORY:
            self._put_directory(parent, name, member.metadata)
        else:
            self._put(parent, name, self._make_node(member))

    def finish(self) -> Tree:
        """The tree as it is now; nothing can be added to it afterwards."""
        top: dict[str, Node] = {}
        pending = [(self._root, top)]
        while pending:
            directory, entries = pending.pop()
            for name, entry in directory.entries.items():
                if isinstance(entry, _DirectoryBuilder):
                    inside: dict[str, Node] = {}
                    entries[name] = Directory(entry.metadata, inside)
                    pending.append((entry, inside))
                else:
                    entries[name] = entry
            directory.entries.clear()
        return Tree(Directory(self._root.metadata, top))

    def _put_directory(self, parent: _DirectoryBuilder, name: str, metadata: Metadata) -> None:
        existing = parent.entries.get(name)
        if not isinstance(existing, _DirectoryBuilder):
            existing = _DirectoryBuilder(metadata)
            self._usage.take_memory(_DIRECTORY_MEMORY)
            self._put(parent, name, existing)
        existing.metadata = metadata
        self._mark_changed(existing)

    def _put(self, parent: _DirectoryBuilder, name: str, entry: _DirectoryBuilder | Node) -> None:
        self._invalidate_cache(parent.entries.get(name))
        parent.entries[name] = entry
        if self._layered:
            parent.names_in_layer.add(name)

    def _invalidate_cache(self, entry: _DirectoryBuilder | Node | None) -> None:
        """Forget directories that were found through an entry that is now removed."""
        if isinstance(entry, _DirectoryBuilder | Symlink):
            self._directory_cache.clear()

    def _make_node(self, member: ArchiveMember) -> Node:
        metadata = self._metadata.setdefault(member.metadata, member.metadata)
        shown = printable(decode(member.path))
        match member.kind:
            case MemberKind.FILE:
                assert member.content is not None
                return File(metadata, member.content)
            case MemberKind.SYMLINK:
                target = decode(member.target)
                if not target or "\0" in target or len(member.target) >= _MAX_PATH_SIZE:
                    raise FormatError(f"has a symbolic link with an invalid target: {shown}")
                return Symlink(metadata, target)
            case MemberKind.CHARACTER | MemberKind.BLOCK:
                if member.major > _MAX_MAJOR or member.minor > _MAX_MINOR:
                    raise FormatError(f"has a device with an invalid number: {shown}")
                kind = DeviceKind.BLOCK if member.kind is MemberKind.BLOCK else DeviceKind.CHARACTER
                return Device(metadata, kind, member.major, member.minor)
            case MemberKind.FIFO:
                return Fifo(metadata)
            case MemberKind.HARD_LINK:
                return self._find_link_target(member)
            case MemberKind.DIRECTORY:
                raise AssertionError(shown)
            case _:
                assert_never(member.kind)

    def _find_link_target(self, member: ArchiveMember) -> Node:
        names = _split_path(member.target)
        directory = self._find_directory(names[:-1]) if names else None
        node = directory.entries.get(names[-1]) if directory is not None else None
        if node is None or isinstance(node, _DirectoryBuilder):
            what = "a directory" if isinstance(node, _DirectoryBuilder) or not names else "a missing file"
            raise FormatError(
                f"has a hard link to {what}: {printable(decode(member.path))} to {printable(decode(member.target))}"
            )
        return node

    def _find_parent(self, path: bytes, names: Sequence[str]) -> _DirectoryBuilder:
        """The directory of a member, created if it is missing."""
        key = path.rstrip(b"/").rpartition(b"/")[0]
        found = self._directory_cache.get(key)
        if found is None:
            found = self._directory_cache[key] = self._make_directories(names)
        return found

    def _make_directories(self, names: Sequence[str]) -> _DirectoryBuilder:
        found = self._resolve_directory(names, make=True)
        assert found is not None
        return found

    def _find_directory(self, names: Sequence[str]) -> _DirectoryBuilder | None:
        return self._resolve_directory(names, make=False)

    def _resolve_directory(self, names: Sequence[str], *, make: bool) -> _DirectoryBuilder | None:
        """The directory at a path, symbolic links followed inside the tree.

        With `make`, missing parts of the path itself are created, and its directories count as changed by this layer;
        but the target of a link must exist. Raises FormatError if something else is in the way.
        """
        rest = list(reversed(names))
        path_parts_left = len(rest)
        """How many of the rest belong to the path, not to a link's target."""
        directory_stack = [self._root]
        links = 0
        while rest:
            name = rest.pop()
            in_link_target = len(rest) >= path_parts_left
            path_parts_left = min(path_parts_left, len(rest))
            if name in ("", "."):
                continue
            if name == "..":
                if len(directory_stack) > 1:
                    directory_stack.pop()
                continue
            entry = directory_stack[-1].entries.get(name)
            match entry:
                case _DirectoryBuilder():
                    directory_stack.append(entry)
                case Symlink(target=target):
                    links += 1
                    parts = target.split("/")
                    self._usage.count_link_components(len(parts))
                    if links > _MAX_LINKS:
                        raise FormatError(
                            f"has a path through more than {_MAX_LINKS} symbolic links: {_printable_path(names)}"
                        )
                    rest.extend(reversed(parts))
                    if target.startswith("/"):
                        del directory_stack[1:]
                case None if make and not in_link_target:
                    made = _DirectoryBuilder(_DEFAULT_METADATA)
                    self._usage.take_memory(_DIRECTORY_MEMORY)
                    directory_stack[-1].entries[name] = made
                    directory_stack.append(made)
                case _ if make:
                    what = "missing" if entry is None else "not a directory"
                    raise FormatError(f"has files below /{_printable_path(names)}, but {printable(name)} is {what}")
                case _:
                    return None
        if make:
            for directory in directory_stack:
                self._mark_changed(directory)
        return directory_stack[-1]

    def _mark_changed(self, directory: _DirectoryBuilder) -> None:
        if directory.last_changed_layer != self._layer:
            directory.last_changed_layer = self._layer
            directory.names_in_layer.clear()

    def _apply_whiteout(self, names: Sequence[str]) -> None:
        last = names[-1]
        if last != _OPAQUE_WHITEOUT and (last.startswith(_RESERVED_PREFIX) or not last.startswith(_WHITEOUT)):
            return  # reserved by aufs, or below such a name
        hidden = last.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise FormatError(f"has a whiteout without a name: {_printable_path(names)}")
        directory = self._find_directory(names[:-1])
        if directory is None:
            return  # nothing to hide
        if last == _OPAQUE_WHITEOUT:
            self._clear(directory)
        else:
            self._hide(directory, hidden)

    def _hide(self, directory: _DirectoryBuilder, name: str) -> None:
        entry = directory.entries.get(name)
        if isinstance(entry, _DirectoryBuilder) and entry.last_changed_layer == self._layer:
            self._clear(entry)
        elif entry is not None and not (
            directory.last_changed_layer == self._layer and name in directory.names_in_layer
        ):
            self._invalidate_cache(entry)
            del directory.entries[name]

    def _clear(self, directory: _DirectoryBuilder) -> None:
        """Hide the content of a directory from the layers below, once a layer: later members belong to this one."""
        pending = [directory]
        while pending:
            directory = pending.pop()
            if directory.last_cleared_layer == self._layer:
                continue
            directory.last_cleared_layer = self._layer
            names_in_layer = directory.names_in_layer if directory.last_changed_layer == self._layer else frozenset()
            kept: dict[str, _DirectoryBuilder | Node] = {}
            for name, entry in directory.entries.items():
                if isinstance(entry, _DirectoryBuilder) and entry.last_changed_layer == self._layer:
                    kept[name] = entry
                    pending.append(entry)
                elif name in names_in_layer:
                    kept[name] = entry
            if len(kept) < len(directory.entries):
                self._directory_cache.clear()
                directory.entries.clear()
                directory.entries.update(kept)


def _split_path(path: bytes) -> list[str]:
    """The names of a path.

    Raises FormatError if it contains `..`, or is not valid on Linux.
    """
    if len(path) >= _MAX_PATH_SIZE or b"\0" in path:
        raise FormatError(f"has a path that is not valid on Linux: {_printable_path([decode(path[:200])])}")
    names = [name for name in path.split(b"/") if name and name != b"."]
    if b".." in names:
        raise FormatError(f"has a path with ..: {_printable_path([decode(path)])}")
    if any(len(name) > _MAX_NAME_SIZE for name in names):
        raise FormatError(f"has a name that is too long: {_printable_path([decode(path)])}")
    return [decode(name) for name in names]


def _printable_path(names: Sequence[str]) -> str:
    shown = printable("/".join(names))
    return shown if len(shown) <= 300 else f"{shown[:300]}…"
