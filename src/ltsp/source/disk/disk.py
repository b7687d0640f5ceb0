"""Disks of virtual machines, and file systems in files, as sources.

They are read in a process of their own, without a mount; where that cannot read a file system, the kernel mounts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import BinaryIO, Self

from ltsp.disk.image import temporary
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.host.privilege import may_mount
from ltsp.inspection.live_medium import Carried
from ltsp.inspection.search import Choice
from ltsp.sandbox.client import Reader, no_key, reading
from ltsp.source.disk.disk_files import DiskFiles
from ltsp.source.disk.disk_options import ANY, Wishes
from ltsp.source.disk.kernel_mounts import BY_ROOT, Mounts
from ltsp.source.disk.kernel_volumes import KernelVolumes
from ltsp.source.disk.volume_key import volume_key
from ltsp.source.source import Part, Plan
from ltsp.source.spec import SUBVOLUME, Layer
from ltsp.storage import compressed
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import Selection, Take
from ltsp.tree.tree import Tree

_MODULE, _OF_VOLUMES = "ltsp.sandbox.disk_session", "ltsp.sandbox.volume_session"


@dataclass(frozen=True, slots=True)
class _Started:
    """A process that reads some disks."""

    reader: Reader
    files: DiskFiles
    scratch: Sequence[BinaryIO]
    """What it was given to write to."""
    unpacks: bool
    """Whether a disk is compressed."""
    opened: ExitStack
    """What closes before it ends."""


@dataclass(frozen=True, slots=True)
class DiskSource:
    """A disk, of which one system is taken, or with `whole` unset any file system."""

    name: str
    path: str
    """As the user gave it."""
    others: tuple[str, ...] = ()
    """Disks of the same system; a name that begins with neither / nor . lies beside the first one."""
    choice: dict[str, object] = field(default_factory=dict)
    wishes: Wishes = ANY
    seen: Plan | None = None
    """What was found when it was looked into."""
    live: Carried | None = None
    """What is on it, where it is a live medium."""
    reader: str = ""
    """Who reads it, as far as that is settled."""
    warnings: tuple[str, ...] = ()
    locked: dict[bytes, LtspError] = field(default_factory=dict, compare=False, repr=False)
    """Why no key is known of the volumes with these headers: a slot may take seconds, and is tried once."""

    @property
    def description(self) -> str:
        return self.seen.taken[0].description if self.seen else f"disk {self.path}"

    @property
    def kind(self) -> str:
        return "disk"

    def plan(self) -> Plan:
        plan = self.seen or Plan(taken=(Part("", self.description),))
        return replace(plan, warnings=(*plan.warnings, *self.warnings), reader=self.reader or self.wishes.reader)

    def looked_into(self) -> Self:
        """With what there is; a disk that has to be unpacked or copied for that stays as it is.

        Raises LtspError.
        """
        if self.wishes.reader == "kernel":
            if not may_mount():
                what = f"--reader=kernel has {printable(self.path)} mounted, which only root may"
                raise SourceError(what, f"{BY_ROOT}, or leave --reader=kernel out")
            return self._looked_into_by_kernel()
        try:
            with self._started() as started:
                if started.unpacks:
                    return self
                seen = started.reader.look({})
        except LtspError as error:
            if not self._may_be_mounted(error):
                raise
            return self._looked_into_by_kernel()
        found = replace(self._with(seen), reader="user")
        if self.wishes.reader == "auto" and isinstance(seen, dict) and seen.get("unread") is True:
            return self._completed(found)
        return found

    def _completed(self, found: Self) -> Self:
        """With the parts that were left out and that the kernel reads, where it can without copies."""
        left_out = len(found.plan().left_out)
        if left_out and may_mount():
            with suppress(LtspError):
                whole = self._looked_into_by_kernel()
                if whole.seen and len(whole.plan().left_out) < left_out:
                    return whole
        return found

    def _looked_into_by_kernel(self) -> Self:
        with self._volumes() as volumes:
            with self._told():
                found = volumes.system_without_copies(*self._choice())
            if found is not None:
                return replace(self._with(found.told(volumes.formats, volumes.volumes.warnings)), reader="kernel")
        copied = (f"{printable(name)} (up to {-(-size >> 20)} MiB)" for name, size in volumes.wanting.items())
        note = f"the kernel reads copies in TMPDIR or /var/tmp, of what of this it needs: {', '.join(copied)}"
        return replace(self, reader="kernel", warnings=(*self.warnings, note))

    def outline(self, selection: Selection) -> AbstractContextManager[None]:  # noqa: ARG002 - a process would have to be started for it
        return nullcontext()

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        """Raises LtspError, of which Changed when the file was written to while it was read."""
        with ExitStack() as opened:
            yield self._tree(selection, faults, opened)

    def _tree(self, selection: Selection, faults: Faults, opened: ExitStack) -> Tree:
        if self.reader != "kernel" and self.wishes.reader != "kernel":
            try:
                with ExitStack() as trial:
                    started = trial.enter_context(self._started())
                    with self._told():
                        tree = started.reader.tree({}, selection)
                    opened.push(trial.pop_all())
            except LtspError as error:
                if not self._may_be_mounted(error):
                    raise
            else:
                return tree
        volumes = opened.enter_context(self._volumes())
        with self._told():
            found = volumes.system(*self._choice())
        volumes.mounts.faults = faults
        return found.tree(lambda paths: [selection(path, True) is Take.ALL for path in paths]).select(selection)

    def _may_be_mounted(self, error: LtspError) -> bool:
        """Whether the kernel is asked where the first reader gave this error: not for what is damaged, or in use."""
        return self.wishes.reader == "auto" and type(error) in {LtspError, SourceError}

    def _choice(self) -> tuple[Choice, bool]:
        words = (str(self.choice.get(key, "")) for key in ("partition", "subvolume", "holding"))
        return Choice(*words), bool(self.choice.get("whole", True))

    def hold_packages(
        self,
        timeout: float,  # noqa: ARG002 - no package manager works in a disk that lies there
        waiting: Callable[[str], None],  # noqa: ARG002 - likewise
    ) -> AbstractContextManager[list[str]]:
        return nullcontext([])

    @contextmanager
    def _started(self, module: str = _MODULE) -> Iterator[_Started]:
        """The process, with the disks."""
        with DiskFiles(self.wishes.backing, self.wishes.force) as files:
            paths = [self.path, *(_beside(self.path, other) for other in self.others)]
            disks = [files.open(path) for path in paths]
            _see_that_they_differ(paths, disks)
            unpacks = any(map(_is_compressed, disks))
            scratch: list[BinaryIO] = []
            with ExitStack() as opened:

                def open_other(name: str) -> BinaryIO:
                    if name:
                        number, _, own = name.partition("/")
                        return files.beside(paths[int(number)], own)
                    scratch.append(opened.enter_context(temporary()))
                    return os.fdopen(os.dup(scratch[-1].fileno()), "r+b", buffering=0)

                with self._told():
                    writes = unpacks or module == _OF_VOLUMES
                    choice = dict(self.choice)
                    started = reading(module, disks, open_other, choice, unpacks=writes, find_key=self._find_key)
                    reader = opened.enter_context(started)
                yield _Started(reader, files, scratch, unpacks, opened)
            files.settled()

    def _find_key(self, header: bytes) -> bytes:
        if not self.wishes.key_file:
            return no_key(header)
        digest = sha256(header).digest()
        if digest in self.locked:
            raise self.locked[digest]
        try:
            return volume_key(header, self.wishes.key_file)
        except LtspError as error:
            self.locked[digest] = error
            raise

    @contextmanager
    def _volumes(self) -> Iterator[KernelVolumes]:
        """What is on it, for the kernel."""
        with self._started(_OF_VOLUMES) as started:
            with self._told():
                volumes = KernelVolumes(
                    started.reader,
                    lambda: [file for _, file, _ in started.files.opened],
                    started.scratch,
                    str(self.choice.get("fstype", "")),
                    alone=self.wishes.reader == "kernel",
                    mounts=Mounts(started.opened, Faults(skip_unreadable=True)),
                )
            yield volumes

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
                case {"root": str(root), "parts": list(parts), "left_out": list(left_out), "live": live, **rest}:
                    formats = ", ".join(map(str, _list(rest.get("formats"))))
                    title = str(rest.get("title", ""))
                    disks = f"disks {self.path}, {', '.join(self.others)}" if self.others else f"disk {self.path}"
                    what = f"{f'{title}, ' if title else ''}{root} in {formats} {disks}"
                    plan = Plan(
                        (Part("", what), *(Part(path, text, reason) for path, text, reason in parts)),
                        tuple(Part(path, text, reason) for path, text, reason in left_out),
                        tuple(printable(str(each)) for each in _list(rest.get("warnings"))),
                    )
                    return replace(self, seen=plan, live=Carried.told(live))
        except (ValueError, TypeError):
            pass
        raise FormatError(f"{printable(self.path)}: what its reader says makes no sense")


def _beside(path: str, other: str) -> str:
    return other if other.startswith(("/", ".")) else os.path.join(os.path.dirname(path), other)


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


def disk_source(path: str, name: str, layer: Layer, wishes: Wishes, *, system: bool, holding: str = "") -> DiskSource:
    """The disk that a part of the notation names; with `system`, there has to be a system on it, or what is `holding`.

    Raises FormatError and SourceError.
    """
    subvolume = next((each.removeprefix(SUBVOLUME) for each in layer.options if each.startswith(SUBVOLUME)), "")
    others = [each for each in layer.options if not each.startswith(SUBVOLUME)]
    choice = {"partition": layer.partition, "subvolume": subvolume, "fstype": layer.fstype, "whole": system}
    choice |= {"unlock": bool(wishes.key_file), "holding": holding}
    warnings = (f"{printable(path)} is not mounted: {printable(','.join(others))} has no effect",) if others else ()
    return DiskSource(name, path, layer.disks, choice, wishes, warnings=warnings).looked_into()
