"""Merge trees like the kernel's overlayfs. Documentation/filesystems/overlayfs.rst

A directory over a directory shows the entries of both and its own metadata; anything else hides what is below it.
Whiteouts and opaque directories are supported; files whose content is elsewhere in the layers are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ltsp.errors import FormatError
from ltsp.tree.name import printable
from ltsp.tree.node import Device, DeviceKind, Directory, File, Metadata, Node
from ltsp.tree.tree import Tree

_OVERLAY_PREFIXES = ("trusted.overlay.", "user.overlay.")
"""Extended attributes reserved by overlayfs; the second for mounts with `userxattr`."""
_UNSUPPORTED_XATTRS = ("redirect", "metacopy")
_ESCAPE_PREFIX = "overlay."
"""In a layer that was stored through an overlay, `trusted.overlay.overlay.x` means `trusted.overlay.x`."""
_HAS_WHITEOUTS = b"x"
"""Value of `opaque`: empty files in the directory may be whiteouts."""


def merge_layers(layers: Sequence[Tree]) -> Tree:
    """The merged tree of layers, lowest first; at least one.

    Raises FormatError if the content of a file is elsewhere in the layers.
    """
    below: Directory | None = None
    for layer in layers:
        below = _merge(below, layer.root)
    assert below is not None
    tree = Tree(below)
    for path, node in (("", tree.root), *tree.walk()):
        for key in _UNSUPPORTED_XATTRS:
            if _overlay_xattr(node.metadata, key) is not None:
                raise FormatError(
                    f"/{printable(path)} has overlay.{key}: its content is elsewhere in the layers",
                    "mount the layers as an overlay (mount -t overlay), and pass the mount point",
                )
    return tree.map(_strip_overlay_xattrs)


def _merge(lower: Directory | None, upper: Directory) -> Directory:
    """Merge without recursion: a layer may nest deeper than the interpreter's stack."""
    pending = [_begin_directory("", lower, upper)]
    while True:
        name, directory, rest, entries = pending[-1]
        for child, node in rest:
            if _is_whiteout(node, directory):
                entries.pop(child, None)
                continue
            if isinstance(node, Directory):
                below = entries.get(child)
                pending.append(_begin_directory(child, below if isinstance(below, Directory) else None, node))
                break
            entries[child] = node
        else:
            pending.pop()
            built = replace(directory, entries=entries)
            if not pending:
                return built
            pending[-1][3][name] = built


def _begin_directory(
    name: str, lower: Directory | None, upper: Directory
) -> tuple[str, Directory, Iterator[tuple[str, Node]], dict[str, Node]]:
    seen = {} if lower is None or _overlay_xattr(upper.metadata, "opaque") == b"y" else dict(lower.entries)
    return name, upper, iter(upper.entries.items()), seen


def _is_whiteout(node: Node, directory: Directory) -> bool:
    match node:
        case Device(kind=DeviceKind.CHARACTER, major=0, minor=0):
            return True
        case File(metadata=metadata, content=content):
            named = content.size == 0 and _overlay_xattr(metadata, "whiteout") is not None
            return named and _overlay_xattr(directory.metadata, "opaque") == _HAS_WHITEOUTS
        case _:
            return False


def _overlay_xattr(metadata: Metadata, key: str) -> bytes | None:
    """An overlayfs attribute of a node, or None."""
    return next(
        (value for name, value in metadata.xattrs if name in {prefix + key for prefix in _OVERLAY_PREFIXES}), None
    )


def _strip_overlay_xattrs(node: Node) -> Node:
    """The node without attributes reserved by overlayfs."""
    if not any(name.startswith(_OVERLAY_PREFIXES) for name, _ in node.metadata.xattrs):
        return node
    kept = [(shown, value) for name, value in node.metadata.xattrs if (shown := _unescape_xattr_name(name))]
    return replace(node, metadata=replace(node.metadata, xattrs=tuple(sorted(kept))))


def _unescape_xattr_name(name: str) -> str:
    """The visible name of an attribute; empty if it is hidden."""
    for prefix in _OVERLAY_PREFIXES:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return prefix + rest.removeprefix(_ESCAPE_PREFIX) if rest.startswith(_ESCAPE_PREFIX) else ""
    return name
