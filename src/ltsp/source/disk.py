"""Disks of virtual machines, and file systems in files, as sources: read in a process of their own, without a mount."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Self

from ltsp.disk.image import temporary
from ltsp.errors import FormatError, SourceError
from ltsp.source.disk_files import DiskFiles
from ltsp.source.layers import Layer
from ltsp.source.reader import Reader, reading
from ltsp.source.source import Part, Plan
from ltsp.storage import compressed
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import Selection
from ltsp.tree.tree import Tree

_MODULE = "ltsp.source.disk_session"
_SUBVOLUME = "subvol="
_NO_EFFECT = frozenset({"ro", "loop", "defaults", "noload", "norecovery", "nodev", "nosuid", "noexec"})
"""Options for mount(8) which say what is so anyway."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user allows."""

    backing: tuple[str, ...] = ()
    """Directories, below which a disk may name other files too."""
    force: bool = False
    """Whether disks that others write to are taken."""


ANY = Wishes()
"""Nothing beyond the ordinary."""


@dataclass(frozen=True, slots=True)
class DiskSource:
    """A disk, of which one system is taken, or with `whole` unset any file system."""

    name: str
    path: str
    """As the user gave it."""
    others: tuple[str, ...] = ()
    """Disks of the same system; a name without a slash lies beside the first one."""
    choice: dict[str, object] = field(default_factory=dict)
    wishes: Wishes = ANY
    seen: Plan | None = None
    """What was found when it was looked into."""
    live: str = ""
    """The path of the file in it that holds the system, where it is a live medium."""
    warnings: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        return self.seen.taken[0].description if self.seen else f"disk {self.path}"

    @property
    def kind(self) -> str:
        return "disk"

    def plan(self) -> Plan:
        plan = self.seen or Plan(taken=(Part("", self.description),))
        return replace(plan, warnings=(*plan.warnings, *self.warnings))

    def looked_into(self) -> Self:
        """With what there is; a compressed disk stays as it is, since it has to be unpacked for that.

        Raises FormatError and SourceError.
        """
        with self._started() as (reader, is_compressed):
            if is_compressed:
                return self
            seen = reader.look({})
        return self._with(seen)

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:  # noqa: ARG002 - it is whole or damaged
        """Raises FormatError, SourceError, and Changed when the file was written to while it was read."""
        with self._started() as (reader, _):
            with self._told():
                tree = reader.tree({})
            yield tree.select(selection)

    def hold_packages(
        self,
        timeout: float,  # noqa: ARG002 - no package manager works in a disk that lies there
        waiting: Callable[[str], None],  # noqa: ARG002 - likewise
    ) -> AbstractContextManager[list[str]]:
        return nullcontext([])

    @contextmanager
    def _started(self) -> Iterator[tuple[Reader, bool]]:
        """The process, and whether the disk is compressed."""
        with DiskFiles(self.wishes.backing, self.wishes.force) as files:
            paths = [self.path, *(_beside(self.path, other) for other in self.others)]
            disks = [files.open(path) for path in paths]
            _see_that_they_differ(paths, disks)
            is_compressed = any(map(_is_compressed, disks))

            def open_other(name: str) -> BinaryIO:
                number, _, own = name.partition("/")
                return files.beside(paths[int(number)], own) if name else temporary()

            with ExitStack() as opened:
                with self._told():
                    started = reading(_MODULE, disks, open_other, dict(self.choice), unpacks=is_compressed)
                    reader = opened.enter_context(started)
                yield reader, is_compressed
            files.settled()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Names the file in what goes wrong."""
        try:
            yield
        except (FormatError, SourceError) as error:
            raise type(error)(f"{printable(self.path)}: {error.message}", error.hint) from error

    def _with(self, seen: object) -> Self:
        """Raises FormatError where the answer is none."""
        try:
            match seen:
                case {"root": str(root), "parts": list(parts), "left_out": list(left_out), "live": str(live), **rest}:
                    formats = ", ".join(map(str, _list(rest.get("formats"))))
                    title = str(rest.get("title", ""))
                    disks = f"disks {self.path}, {', '.join(self.others)}" if self.others else f"disk {self.path}"
                    what = f"{f'{title}, ' if title else ''}{root} in {formats} {disks}"
                    plan = Plan(
                        (Part("", what), *(Part(path, text, "its fstab says so") for path, text in parts)),
                        tuple(Part(path, text, reason) for path, text, reason in left_out),
                        tuple(printable(str(each)) for each in _list(rest.get("warnings"))),
                    )
                    return replace(self, seen=plan, live=live)
        except (ValueError, TypeError):
            pass
        raise FormatError(f"{printable(self.path)}: what its reader says makes no sense")


def _beside(path: str, other: str) -> str:
    return other if "/" in other else os.path.join(os.path.dirname(path), other)


def _see_that_they_differ(paths: Sequence[str], disks: Sequence[BinaryIO]) -> None:
    """Raises SourceError where one is given twice: everything on it would be there twice."""
    seen: set[tuple[int, int]] = set()
    for path, file in zip(paths, disks, strict=True):
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) in seen:
            raise SourceError(f"{printable(path)} is given twice", "name each disk once")
        seen.add((status.st_dev, status.st_ino))


def _is_compressed(file: BinaryIO) -> bool:
    return bool(compressed.kind_of(os.pread(file.fileno(), compressed.LONGEST_MAGIC, 0)))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def disk_source(path: str, name: str, layer: Layer, wishes: Wishes, *, system: bool) -> DiskSource:
    """The disk that a part of the notation names; with `system`, there has to be a system on it.

    Raises FormatError and SourceError.
    """
    subvolume = next((each.removeprefix(_SUBVOLUME) for each in layer.options if each.startswith(_SUBVOLUME)), "")
    others = [each for each in layer.options if not each.startswith(_SUBVOLUME) and each not in _NO_EFFECT]
    choice = {"partition": layer.partition, "subvolume": subvolume, "fstype": layer.fstype, "whole": system}
    warnings = (f"{printable(path)} is not mounted: {printable(','.join(others))} has no effect",) if others else ()
    return DiskSource(name, path, layer.disks, choice, wishes, warnings=warnings).looked_into()
