"""Snapshots of btrfs: of the subvolume that a source lies in, and of each one nested in it that is taken in.

They lie in the topmost subvolume, below `.ltsp-snapshots`, in a directory for each run, whose lock (flock(2)) dies with
the run: what is not locked was forgotten, and goes with the next run. All of it is reached through mounts that are in
no mount namespace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from ltsp.errors import SourceError
from ltsp.host import btrfs
from ltsp.host.root import Root
from ltsp.host.system_call import new_mount
from ltsp.source.cleanup import removed_after
from ltsp.source.snapshot.frozen import PRIVATE, READING, Live, Still, Wanted, inside
from ltsp.tree.name import decode, printable
from ltsp.tree.selection import Take

PLACE = ".ltsp-snapshots"
_PLACE = PLACE.encode()
_LISTING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 16
"""Another run may remove the empty place before ours is in it, or take a new directory for a forgotten one."""


@contextmanager
def taken(live: Live, wanted: Wanted) -> Iterator[Sequence[Still]]:
    """Roots to read instead of a mount, and instead of each subvolume nested in it.

    Raises OSError and SourceError.
    """
    where = btrfs.within(live.root.directory(b"").number)
    disk = _Disk.of(live)
    with ExitStack() as opened:
        place = opened.enter_context(_place(opened.enter_context(disk.opened(btrfs.TOP))))
        stills: list[Still] = []
        pending = [_Part(live.path, where.subvolume, where.path)]
        while pending:
            part = pending.pop()
            take = wanted(part.path, live.path) if stills else Take.ALL
            if take is Take.NOTHING:
                continue
            try:
                found = _taken(disk, place, b"%d" % len(stills), part, take)
                mounted = disk.mounted(found.subvolume, READING)
            except FileNotFoundError as error:
                # Between the snapshot of the outer one, where it may be an empty directory, and its turn.
                raise SourceError(f"its subvolume /{printable(part.path)} was removed a moment ago") from error
            if found.live and not stills:
                os.close(mounted)
                raise SourceError(found.live)
            root = opened.enter_context(Root(mounted) if stills else inside(mounted, part.inner, live.root))
            stills.append(Still(part.path, found.kind, decode(disk.device), root, found.device, found.live))
            pending += found.nested
        yield stills


def own_place(live: Live) -> str:
    """Where a live source would show the snapshots: only where it is the topmost subvolume itself; else empty."""
    if live.mount.kind != "btrfs" or live.inner:
        return ""
    return f"{live.path}/{PLACE}" if live.path else PLACE


@dataclass(frozen=True, slots=True)
class _Part:
    """A subvolume to be taken."""

    path: str
    """In the tree, of the directory that is taken in."""
    subvolume: int
    inner: bytes
    """That directory in the subvolume."""


@dataclass(frozen=True, slots=True)
class _Disk:
    """A btrfs, of which each subvolume can be mounted."""

    device: bytes

    @classmethod
    def of(cls, live: Live) -> _Disk:
        """Raises OSError where none of the names of its devices leads to it here."""
        directory = live.root.directory(b"").number
        identity = btrfs.identity(directory)
        failure = OSError(errno.ENODEV, "its device is not found here")
        for device in dict.fromkeys((live.mount.source, *btrfs.devices(directory))):
            disk = cls(device)
            try:
                with disk.opened(btrfs.TOP) as top:
                    if btrfs.identity(top) == identity:
                        return disk
            except OSError as error:
                failure = error
        raise failure

    def mounted(self, subvolume: int, attributes: int) -> int:
        return new_mount(b"btrfs", self.device, {b"subvolid": b"%d" % subvolume}, attributes)

    @contextmanager
    def opened(self, subvolume: int) -> Iterator[int]:
        """Its root directory, in which snapshots can be made."""
        with Root(self.mounted(subvolume, PRIVATE)) as root:
            yield root.directory(b"").number


@dataclass(frozen=True, slots=True)
class _Found:
    """What is read instead of a subvolume."""

    subvolume: int
    device: int
    """Of the live files."""
    kind: str
    live: str = ""
    nested: Sequence[_Part] = ()


def _taken(disk: _Disk, place: int, name: bytes, part: _Part, take: Take) -> _Found:
    """The snapshot, or the subvolume itself where it stays empty in the tree or can have no snapshot."""
    with disk.opened(part.subvolume) as origin:
        device = os.fstat(origin).st_dev
        if take is Take.EMPTIED:
            return _Found(part.subvolume, device, "")
        # Nested ones are asked for twice: one that comes or goes at this moment is in one of the answers.
        nested = {each.path: each.subvolume for each in btrfs.nested(origin)}
        try:
            btrfs.snapshot(origin, place, name)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            subvolume, kind, against = part.subvolume, "", "it holds a swap file that is in use"
        else:
            subvolume, kind, against = _number(name, place), "btrfs", ""
        nested |= {each.path: each.subvolume for each in btrfs.nested(origin)}
    above = part.inner + b"/" if part.inner else b""
    below = part.path and part.path + "/"
    parts = [
        _Part(below + decode(path.removeprefix(above)), number, b"")
        for path, number in nested.items()
        if path.startswith(above)
    ]
    return _Found(subvolume, device, kind, against, parts)


def _number(name: bytes, directory: int) -> int:
    with ExitStack() as opened:
        return btrfs.within(_opened(name, directory, opened)).subvolume


@contextmanager
def _place(top: int) -> Iterator[int]:
    """A new directory for the snapshots of this run, which goes with all that is in it."""
    for _ in range(_TRIES):
        with _unmarked(top), suppress(FileExistsError):
            os.mkdir(_PLACE, 0o700, dir_fd=top)
        with ExitStack() as opened:
            try:
                above = _opened_place(top, opened)
                _see_that_it_is_ours(above)
                _remove_forgotten(above)
                name = secrets.token_hex(8).encode()
                opened.enter_context(removed_after(partial(_remove_all, top, above, name)))
                os.mkdir(name, 0o700, dir_fd=above)
                own = _opened(name, above, opened)
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.stat(name, dir_fd=above)
            except (FileNotFoundError, BlockingIOError):
                continue
            yield own
            return
    raise OSError(errno.EAGAIN, "other runs make and remove snapshots there all the time")


def _remove_forgotten(above: int) -> None:
    """Remove the snapshots of runs that were killed: nobody has the lock of their directory."""
    for name in map(os.fsencode, os.listdir(above)):
        with ExitStack() as opened, suppress(OSError):  # another run removes it just now, or has it
            fcntl.flock(_opened(name, above, opened), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(above, name)


def _remove_all(top: int, above: int, name: bytes) -> None:
    """Remove the place of a run, and that of all runs where it was the last one."""
    _remove(above, name)
    with _unmarked(top), suppress(OSError):  # other runs may have theirs in it
        os.rmdir(_PLACE, dir_fd=top)


def _remove(above: int, name: bytes) -> None:
    with ExitStack() as opened:
        try:
            directory = _opened(name, above, opened)
        except FileNotFoundError:
            return
        for snapshot in map(os.fsencode, os.listdir(directory)):
            btrfs.remove(directory, snapshot)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=above)


def _opened(name: bytes, directory: int, opened: ExitStack) -> int:
    descriptor = os.open(name, _LISTING, dir_fd=directory)
    opened.callback(os.close, descriptor)
    return descriptor


def _opened_place(top: int, opened: ExitStack) -> int:
    try:
        return _opened(_PLACE, top, opened)
    except NotADirectoryError as error:
        raise SourceError(f"{PLACE} at the top of its btrfs is no directory") from error


def _see_that_it_is_ours(place: int) -> None:
    status = os.fstat(place)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise SourceError(f"{PLACE} at the top of its btrfs is not ours: others may write or read there")


@contextmanager
def _unmarked(directory: int) -> Iterator[None]:
    """The directory's time of change stays as it was: a source that is the top itself is not changed by being read."""
    before = os.fstat(directory)
    yield
    if os.fstat(directory).st_mtime_ns != before.st_mtime_ns:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
