"""What each format cannot store of a tree, as data: the reason, and the tree without it.

A comparison with what is left is strict both ways: a loss that does not happen is a difference, too.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from corpus import tree_snapshot
from corpus.tree_snapshot import Entry, Snapshot


@dataclass(frozen=True, slots=True)
class Loss:
    reason: str
    left: Callable[[Snapshot], Snapshot]
    """What a snapshot is without it."""
    refused: bool = False
    """Whether the tool ends with an error there, so that it has to be taken away before."""
    varies: bool = False
    """Whether some versions of the tool have it and others not: it is taken from both sides."""


def differences(whole: Snapshot, found: Snapshot, losses: Iterable[Loss]) -> list[str]:
    """In words, between what is left of a tree and what was found of it."""
    losses = tuple(losses)
    return tree_snapshot.differences(left(whole, losses), left(found, [loss for loss in losses if loss.varies]))


def without_refused(tree: Path, holds: Snapshot, losses: Iterable[Loss], target: Path) -> Path:
    """A copy of the tree without what a tool refuses; the tree itself where it has nothing of that."""
    kept = left(holds, [loss for loss in losses if loss.refused])
    gone = sorted(holds.keys() - kept.keys(), reverse=True)
    if not gone:
        return tree
    subprocess.run(["cp", "-a", "--sparse=always", tree, target], check=True)
    for path in gone:
        full = os.fsencode(target) + b"/" + path
        above = os.path.dirname(full)
        time = os.lstat(above).st_mtime_ns
        (os.rmdir if holds[path].kind == "d" else os.unlink)(full)
        os.utime(above, ns=(time, time))
    return target


def left(whole: Snapshot, losses: Iterable[Loss]) -> Snapshot:
    """What is left of a tree; as many links as it has names in it."""
    for loss in losses:
        whole = loss.left(whole)
    names = {name for name, entry in whole.items() if entry.kind != "d"}
    return {
        path: tree_snapshot.counted(replace(entry, names=tuple(name for name in entry.names if name in names)))
        for path, entry in whole.items()
    }


def each(reason: str, left: Callable[[Entry], Entry]) -> Loss:
    """What an entry becomes."""
    return Loss(reason, lambda whole: {path: left(entry) for path, entry in whole.items()})


def root(reason: str) -> Loss:
    """Mode, owner, time and attributes of the root itself."""

    def bare(whole: Snapshot) -> Snapshot:
        return {path: entry if path else Entry(entry.kind, 0, 0, 0, 0, ()) for path, entry in whole.items()}

    return Loss(reason, bare)


def entries(reason: str, is_lost: Callable[[bytes, Entry], bool]) -> Loss:
    """Single names, by their path and what is there."""
    return Loss(reason, lambda whole: {path: entry for path, entry in whole.items() if not is_lost(path, entry)})


def paths(reason: str, *gone: str) -> Loss:
    """Remove these paths and everything below them."""
    encoded = tuple(path.encode() for path in gone)

    def kept(path: bytes) -> bool:
        return not any(path == one or path.startswith(one + b"/") for one in encoded)

    return Loss(reason, lambda whole: tree_snapshot.selected(whole, kept))


def attributes(reason: str, is_lost: Callable[[bytes, bytes], bool]) -> Loss:
    """Of names and values; where these are lost, the others are kept."""
    return each(reason, lambda entry: replace(entry, xattrs=tuple(pair for pair in entry.xattrs if not is_lost(*pair))))


def kinds(reason: str, gone: str) -> Loss:
    return entries(reason, lambda _path, entry: entry.kind in gone)


def links(reason: str, apart: str) -> Loss:
    """Files of these kinds have one name each: a hard link has become a file of its own."""

    def single(whole: Snapshot) -> Snapshot:
        return {path: replace(entry, names=(path,)) if entry.kind in apart else entry for path, entry in whole.items()}

    return Loss(reason, single)


def times(reason: str, kept: Callable[[int], int]) -> Loss:
    """A time becomes another."""
    return each(reason, lambda entry: replace(entry, mtime=kept(entry.mtime)))
