"""The contents of a directory, a tree or an image as comparable values, and their differences in words.

Run as a program (`python tree_snapshot.py IMAGE MOUNTPOINT`) it mounts an image where only it can see it and
writes what it found there to standard output: `mounted` runs it so.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

from ltsp.tree.content import Content
from ltsp.tree.name import encode
from ltsp.tree.node import Device, Directory, Fifo, File, Node, Socket, Symlink
from ltsp.tree.tree import Tree

PAGE = 4096
_PIECE = 256 * PAGE
_ZEROS = bytes(_PIECE)
LATEST = 2**32 - 1
"""The last second that squashfs can hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name, with all that an image should keep of it."""

    kind: str
    """One of `d f l c b p s`, as find(1) has it for %y."""
    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: tuple[tuple[bytes, bytes], ...]
    size: int = 0
    digest: str = ""
    """Of each page that is not all zeros, with its place: what is a hole for one reader may be zeros for another."""
    target: bytes = b""
    """Of a symbolic link."""
    device: tuple[int, int] = (0, 0)
    names: tuple[bytes, ...] = ()
    """Every path of the same file, but for directories."""
    links: int = 1
    """As the file system counts them."""


Snapshot = dict[bytes, Entry]
"""By path; the root is the empty one."""

_KINDS = {
    stat.S_IFDIR: "d",
    stat.S_IFREG: "f",
    stat.S_IFLNK: "l",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
}


def directory(root: str | os.PathLike[str], leave_out: Callable[[bytes], bool] = lambda _path: False) -> Snapshot:
    """What lies below a directory on disk. A path that is left out is not opened, nor what lies below it."""
    found: Snapshot = {}
    names: dict[tuple[int, int], list[bytes]] = {}
    inodes: dict[bytes, tuple[int, int]] = {}
    pending = [b""]
    base = os.fsencode(root)
    while pending:
        path = pending.pop()
        full = base + b"/" + path
        status = os.lstat(full)
        inodes[path] = (status.st_dev, status.st_ino)
        found[path] = _entry(full, status)
        if stat.S_ISDIR(status.st_mode):
            inside = (os.path.join(path, name) for name in os.listdir(full))
            pending.extend(child for child in inside if not leave_out(child))
        else:
            names.setdefault(inodes[path], []).append(path)
    return {
        path: entry if entry.kind == "d" else replace(entry, names=tuple(sorted(names[inodes[path]])))
        for path, entry in found.items()
    }


def _entry(path: bytes, status: os.stat_result) -> Entry:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    try:
        attributes = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:  # an image without attributes has none to list
            raise
        attributes = []
    entry = Entry(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns // 10**9,
        tuple(sorted((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in attributes)),
        links=1 if kind == "d" else status.st_nlink,
    )
    match kind:
        case "f":
            return replace(entry, size=status.st_size, digest=_digest(path))
        case "l":
            return replace(entry, target=os.readlink(path))
        case "b" | "c":
            return replace(entry, device=(os.major(status.st_rdev), os.minor(status.st_rdev)))
        case _:
            return entry


def _digest(path: bytes) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        for start, end in _data(file.fileno()):
            for at in range(start, end, _PIECE):
                _add(digest, at, os.pread(file.fileno(), min(_PIECE, end - at), at))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, at: int, data: bytes) -> None:
    if data == _ZEROS[: len(data)]:
        return
    for start in range(0, len(data), PAGE):
        page = data[start : start + PAGE]
        if page != _ZEROS[: len(page)]:
            digest.update((at + start).to_bytes(8, "little") + page)


def _data(descriptor: int) -> Iterator[tuple[int, int]]:
    """Where the file has data, from page to page. lseek(2)"""
    size = os.fstat(descriptor).st_size
    end = 0
    while end < size:
        data = _seek(descriptor, end, os.SEEK_DATA, otherwise=size)
        end = min(-(-_seek(descriptor, data, os.SEEK_HOLE, otherwise=size) // PAGE) * PAGE, size)
        if data < size:
            yield data // PAGE * PAGE, end


def _seek(descriptor: int, position: int, whence: int, otherwise: int) -> int:
    try:
        return os.lseek(descriptor, position, whence)
    except OSError as error:
        # ENXIO: nothing but a hole from here on. EIO: looking for a hole, squashfs of Linux 6.17 and later takes the
        # next inode's first word for a block's size, and fails where that inode has setuid, setgid or sticky bits.
        if error.errno not in {errno.ENXIO, errno.EIO}:
            raise
        return otherwise


def of_tree(tree: Tree) -> Snapshot:
    """What a tree holds, its contents read from start to end."""
    names: dict[int, list[bytes]] = {}
    nodes: list[tuple[str, Node]] = [("", tree.root), *tree.walk()]
    for path, node in nodes:
        names.setdefault(id(node), []).append(encode(path))
    entries = {id(node): _of_node(node) for _, node in nodes}
    return {
        encode(path): entry
        if (entry := entries[id(node)]).kind == "d"
        else replace(entry, names=tuple(sorted(names[id(node)])), links=len(names[id(node)]))
        for path, node in nodes
    }


def _of_node(node: Node) -> Entry:
    metadata = node.metadata
    attributes = tuple(sorted((encode(name), value) for name, value in metadata.xattrs))
    entry = Entry("", metadata.mode, metadata.uid, metadata.gid, metadata.mtime, attributes)
    match node:
        case Directory():
            return replace(entry, kind="d")
        case File(content=content):
            return replace(entry, kind="f", size=content.size, digest=_digest_of_content(content))
        case Symlink(target=target):
            return replace(entry, kind="l", target=encode(target))
        case Device(kind=kind, major=major, minor=minor):
            return replace(entry, kind=kind.value, device=(major, minor))
        case Fifo():
            return replace(entry, kind="p")
        case Socket():
            return replace(entry, kind="s")
        case _:
            assert_never(node)


def _digest_of_content(content: Content) -> str:
    digest = hashlib.sha256()
    at = 0
    with content.open() as stream:
        while at < stream.size:
            if hole := stream.hole_size() // PAGE * PAGE:
                stream.skip(hole)
                at += hole
            elif data := stream.read(min(_PIECE, stream.size - at)):
                _add(digest, at, data)
                at += len(data)
            else:
                break
    return digest.hexdigest()


def counted(entry: Entry) -> Entry:
    """The entry with as many links as it has names in the snapshot."""
    return replace(entry, links=len(entry.names) or 1)


def without_attributes(source: Snapshot) -> Snapshot:
    return {path: replace(entry, xattrs=()) for path, entry in source.items()}


def stated(source: Snapshot) -> Snapshot:
    """The source with the differences that are stated: times are clamped to what 32 unsigned bits hold, attributes
    outside user., trusted. and security. (POSIX ACLs) are lost, and only names in the image count as links.
    """
    return {
        path: replace(
            counted(entry),
            mtime=min(max(entry.mtime, 0), LATEST),
            xattrs=tuple(pair for pair in entry.xattrs if pair[0].startswith((b"user.", b"trusted.", b"security."))),
        )
        for path, entry in source.items()
    }


def selected(source: Snapshot, taken: Callable[[bytes], bool]) -> Snapshot:
    """What is left when only some paths are taken: a file keeps those of its names."""
    return {
        path: replace(entry, names=tuple(filter(taken, entry.names))) for path, entry in source.items() if taken(path)
    }


def differences(expected: Snapshot, found: Snapshot) -> list[str]:
    """In words, one a line, in the order of the paths; empty when there is none."""
    lines = [f"{path!r}: missing" for path in expected.keys() - found.keys()]
    lines += [f"{path!r}: not in the source" for path in found.keys() - expected.keys()]
    for path in expected.keys() & found.keys():
        want, have = expected[path], found[path]
        if want != have:
            lines += [
                f"{path!r}: {name} is {_short(getattr(have, name))}, not {_short(getattr(want, name))}"
                for name in Entry.__slots__
                if getattr(want, name) != getattr(have, name)
            ]
    return sorted(lines)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


def unpacked(image: Path, scratch: Path) -> Snapshot:
    """What unsquashfs unpacks. Needs root, for owners, devices and attributes."""
    target = scratch / f"{image.name}.unpacked"
    call = ["unsquashfs", "-quiet", "-no-progress", "-dest", str(target), str(image)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"unsquashfs: {done.stdout}{done.stderr}"
    assert "failed" not in done.stderr.lower(), done.stderr
    return directory(target)


def mounted(image: Path, scratch: Path) -> Snapshot:
    """What the kernel shows of the image, mounted where nobody else sees it: nothing is left behind by a kill."""
    point = scratch / f"{image.name}.mounted"
    point.mkdir()
    call = ["unshare", "--mount", "--propagation=private", sys.executable, __file__, str(image), str(point)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(call, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found: Snapshot = pickle.loads(done.stdout)
    return found


def main() -> None:
    image, mount_point = sys.argv[1:]
    subprocess.run(["mount", "-t", "squashfs", "-o", "loop,ro", image, mount_point], check=True)
    pickle.dump(directory(mount_point), sys.stdout.buffer)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from corpus import tree_snapshot

    tree_snapshot.main()
