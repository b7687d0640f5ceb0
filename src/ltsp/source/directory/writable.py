"""A source that commands may change before it is read: they see a writable view, and the source itself is unchanged.

The view consists of overlays in a private mount namespace, with their upper layers in memory. So the kernel has to be
able to mount the source, and what overlayfs uses for itself is not visible in the view: devices 0:0, and attributes
trusted.overlay.*. Kernel: overlayfs.rst
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from stat import S_IMODE

from ltsp.errors import SourceError
from ltsp.host import command, mounts
from ltsp.host.namespaces import enter_mount_namespace
from ltsp.inspection import root_file_systems
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.snapshot.snapshot import AUTO, NONE
from ltsp.source.source import Source, SourceWrapper
from ltsp.source.squashfs import SquashfsSource
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable, sort_names
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree

_VIEW_DIRECTORY = b"/run/ltsp"
"""Where the view is mounted; in other mount namespaces it remains an empty directory."""
_VIEW_ROOT = _VIEW_DIRECTORY + b"/root"


@dataclass(frozen=True, slots=True)
class WritableSource(SourceWrapper):
    """A source, and a change that is applied to its view each time it is opened.

    The locks are those of the source itself; the view has others, so commands may install packages.
    """

    base: DirectorySource | SquashfsSource
    change: Callable[[str], None]
    """Called with the path of the view. An exception aborts the opening."""

    def peek_tree(self, selection: Selection) -> AbstractContextManager[None]:  # noqa: ARG002 - the view is created when it is opened
        return nullcontext()

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        with enter_mount_namespace():
            view = _mount_view(self.base)
            self.change(view.path)
            with view.open(selection, faults) as tree:
                yield tree


def make_writable(source: Source, change: Callable[[str], None], wanted_by: str) -> WritableSource:
    """The source with `change` applied to its view.

    Raises SourceError, before anything is done, if the kernel cannot mount the source; it names `wanted_by`.
    """
    if isinstance(source, DirectorySource) and source.snapshots not in (AUTO, NONE):
        raise SourceError(
            f"{wanted_by} uses LTSP_ROOT, which cannot be a writable view of a {source.snapshots} snapshot",
            "give --snapshot=none",
        )
    if isinstance(source, DirectorySource | SquashfsSource):
        return WritableSource(source, change)
    raise SourceError(
        f"{wanted_by} uses LTSP_ROOT, but {printable(source.description)} cannot be mounted as one writable tree",
        "convert it to one directory or image first, or do not use LTSP_ROOT",
    )


def _mount_view(source: DirectorySource | SquashfsSource) -> DirectorySource:
    """The view as a source. Raises SourceError if the kernel cannot mount it."""
    os.makedirs(_VIEW_DIRECTORY, mode=0o700, exist_ok=True)
    try:
        mounts.mount_tmpfs(_VIEW_DIRECTORY)
        os.mkdir(_VIEW_ROOT)
        if isinstance(source, SquashfsSource):
            return _mount_view_of_image(source)
        return _mount_view_of_directory(source)
    except OSError as error:
        raise SourceError(
            f"cannot mount a writable view of {printable(source.description)}: {error.strerror}",
            "the kernel needs overlayfs, and a file system that can be its lower layer",
        ) from error


def _mount_view_of_image(source: SquashfsSource) -> DirectorySource:
    lower = _VIEW_DIRECTORY + b"/image"
    os.mkdir(lower)
    # mount(8) sets up a loop device that is freed with its last user.
    image = decode(os.path.realpath(encode(source.path)))
    command.run(["mount", "-t", "squashfs", "-o", "loop,ro", "--", image, decode(lower)], package="mount")
    _mount_overlay(lower, _VIEW_ROOT, b"0")
    view = DirectorySource(source.name, decode(_VIEW_ROOT), source.description)
    with view.open(root_file_systems.select_markers, Faults()) as tree:
        inside = root_file_systems.find_nested_roots(tree)
        return (
            replace(view, path=f"{view.path}/{root_file_systems.choose_bootable_root(tree, inside).path}")
            if inside
            else view
        )


def _mount_view_of_directory(source: DirectorySource) -> DirectorySource:
    plan = source.plan()
    base = os.path.realpath(encode(source.path))
    included_paths = [part.path for part in plan.included]
    outputs = [inside for directory in source.excluded_directories if (inside := _path_below(base, directory))]
    hidden_paths = {part.path for part in plan.left_out} - set(map(decode, outputs))
    for number, path in enumerate(sort_names([*included_paths, *hidden_paths])):
        inner = encode(path)
        mount_point = os.path.join(_VIEW_ROOT, inner) if path else _VIEW_ROOT
        if path in hidden_paths:
            _hide_mount(mount_point)
            continue
        lower = _VIEW_DIRECTORY + b"/lower%d" % number
        os.mkdir(lower)
        mounts.bind_mount(os.path.join(base, inner), lower)
        _mount_overlay(lower, mount_point, b"%d" % number)
    view = replace(
        source,
        path=decode(_VIEW_ROOT),
        snapshots=NONE,
        excluded_directories=tuple(decode(os.path.join(_VIEW_ROOT, inside)) for inside in outputs),
    )
    if missing := set(included_paths) - {part.path for part in view.plan().included}:
        raise SourceError(
            f"/{printable(min(missing))} of {printable(source.description)} cannot be part of a writable view",
            "do not use LTSP_ROOT in commands",
        )
    return view


def _path_below(base: bytes, directory: str) -> bytes:
    """The path of a directory relative to the base; empty if it is not below it."""
    path = os.path.realpath(encode(directory))
    prefix = base.rstrip(b"/") + b"/"
    return path.removeprefix(prefix) if path.startswith(prefix) else b""


def _mount_overlay(lower: bytes, mount_point: bytes, number: bytes) -> None:
    upper, work = _VIEW_DIRECTORY + b"/upper" + number, _VIEW_DIRECTORY + b"/work" + number
    os.mkdir(upper)
    os.mkdir(work)
    # The root of an overlay shows the metadata of its upper directory, so copy it from the lower one.
    status = os.stat(lower)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, S_IMODE(status.st_mode))
    for name in _list_xattrs(lower):
        os.setxattr(upper, name, os.getxattr(lower, name))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    mounts.mount_overlay([lower], upper, work, mount_point)


def _list_xattrs(path: bytes) -> list[str]:
    """Names; none if the file system does not support attributes, as a squashfs may not."""
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _hide_mount(mount_point: bytes) -> None:
    """Mount something empty over a file system that the image does not include."""
    if os.path.isdir(mount_point):
        mounts.mount_tmpfs(mount_point)
    elif os.path.lexists(mount_point):
        empty = _VIEW_DIRECTORY + b"/empty"
        with open(empty, "ab"):
            mounts.bind_mount(empty, mount_point)
