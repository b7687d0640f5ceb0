"""Disks of virtual machines, and file systems in files, as sources.

They are read in a sandboxed process, without a mount; a file system that it cannot read is mounted by the kernel.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import BinaryIO, Self

from ltsp.disk.image import make_scratch_file
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.host.privilege import may_mount
from ltsp.inspection.found_system import SystemChoice
from ltsp.inspection.live_medium import LiveMedium
from ltsp.sandbox.client import SandboxReader, refuse_key, start_reader
from ltsp.source.disk.disk_files import DiskFiles
from ltsp.source.disk.kernel_mounts import BY_ROOT, KernelMounts
from ltsp.source.disk.kernel_volumes import KernelVolumes
from ltsp.source.disk.volume_key import check_key_file, find_volume_key
from ltsp.source.source import ClosedSource, Plan, SourcePart
from ltsp.source.spec import DEFAULT_OPTIONS, SUBVOLUME, DiskOptions, ImageSpec
from ltsp.storage import compressed
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree

_DISK_SESSION, _VOLUME_SESSION = "ltsp.sandbox.disk_session", "ltsp.sandbox.volume_session"


@dataclass(frozen=True, slots=True)
class _ReaderProcess:
    """A running sandboxed process, and the files that it reads."""

    reader: SandboxReader
    files: DiskFiles
    scratch: Sequence[BinaryIO]
    """Temporary files that it may write to."""
    unpacks: bool
    """Whether a disk is compressed."""
    opened: ExitStack
    """Closed before the process ends."""


@dataclass(frozen=True, slots=True)
class DiskSource(ClosedSource):
    """A disk, from which one system is taken, or with `whole` unset any file system."""

    name: str
    path: str
    """As the user gave it."""
    others: tuple[str, ...] = ()
    """Disks of the same system; a name that starts with neither / nor . is relative to the first disk."""
    choice: dict[str, object] = field(default_factory=dict)
    options: DiskOptions = DEFAULT_OPTIONS
    seen: Plan | None = None
    """What inspecting it found."""
    live: LiveMedium | None = None
    """Set if it is a live medium."""
    reader: str = ""
    """Which reader it needs, if known."""
    warnings: tuple[str, ...] = ()
    key_errors: dict[bytes, LtspError] = field(default_factory=dict, compare=False, repr=False)
    """Why the volumes with these headers could not be unlocked: a key slot may take seconds, so it is tried once."""

    @property
    def description(self) -> str:
        return self.seen.included[0].description if self.seen else f"disk {self.path}"

    @property
    def kind(self) -> str:
        return "disk"

    def plan(self) -> Plan:
        plan = self.seen or Plan(included=(SourcePart("", self.description),))
        return replace(plan, warnings=(*plan.warnings, *self.warnings), reader=self.reader or self.options.reader)

    def inspect(self) -> Self:
        """The source with the result of an inspection, unless the disk would have to be unpacked or copied for it.

        Raises LtspError.
        """
        if self.options.reader == "kernel":
            if not may_mount():
                what = f"--reader=kernel mounts {printable(self.path)}, which only root can"
                raise SourceError(what, f"{BY_ROOT}, or omit --reader=kernel")
            return self._inspect_by_kernel()
        try:
            with self._start_reader() as started:
                if started.unpacks:
                    return self
                seen = started.reader.query({})
        except LtspError as error:
            if not self._may_try_kernel(error):
                raise
            return self._inspect_by_kernel()
        found = replace(self._with_reply(seen), reader="user")
        if self.options.reader == "auto" and isinstance(seen, dict) and seen.get("unread") is True:
            return self._complete(found)
        return found

    def _complete(self, found: Self) -> Self:
        """The source with the parts that only the kernel can read, if it can without copies."""
        left_out = len(found.plan().left_out)
        if left_out and may_mount():
            with suppress(LtspError):
                whole = self._inspect_by_kernel()
                if whole.seen and len(whole.plan().left_out) < left_out:
                    return whole
        return found

    def _inspect_by_kernel(self) -> Self:
        with self._open_volumes() as volumes:
            with self._name_in_errors():
                found = volumes.find_system_without_copies(*self._choice())
            if found is not None:
                return replace(
                    self._with_reply(found.to_json(volumes.formats, volumes.volumes.warnings)), reader="kernel"
                )
        copied = (f"{printable(name)} (up to {-(-size >> 20)} MiB)" for name, size in volumes.pending_copies.items())
        note = f"volumes that the kernel needs are copied to TMPDIR or /var/tmp first: {', '.join(copied)}"
        return replace(self, reader="kernel", warnings=(*self.warnings, note))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        """Raises LtspError, including FileChanged if the file was written to while it was being read."""
        with ExitStack() as opened:
            yield self._tree(selection, faults, opened)

    def _tree(self, selection: Selection, faults: Faults, opened: ExitStack) -> Tree:
        if self.reader != "kernel" and self.options.reader != "kernel":
            try:
                with ExitStack() as trial:
                    started = trial.enter_context(self._start_reader())
                    with self._name_in_errors():
                        tree = started.reader.tree({}, selection)
                    opened.push(trial.pop_all())
            except LtspError as error:
                if not self._may_try_kernel(error):
                    raise
            else:
                return tree
        volumes = opened.enter_context(self._open_volumes())
        with self._name_in_errors():
            found = volumes.find_system(*self._choice())
        volumes.mounts.faults = faults
        return found.tree(lambda paths: [selection(path, True) is Inclusion.ALL for path in paths]).select(selection)

    def _may_try_kernel(self, error: LtspError) -> bool:
        """Whether to try the kernel after this error of the first reader: not if the disk is damaged or in use."""
        return self.options.reader == "auto" and type(error) in {LtspError, SourceError}

    def _choice(self) -> tuple[SystemChoice, bool]:
        words = (str(self.choice.get(key, "")) for key in ("partition", "subvolume", "holding"))
        return SystemChoice(*words), bool(self.choice.get("whole", True))

    @contextmanager
    def _start_reader(self, module: str = _DISK_SESSION) -> Iterator[_ReaderProcess]:
        """Start the process, with the disks open."""
        with DiskFiles(self.options.backing, self.options.force) as files:
            paths = [self.path, *(_sibling_path(self.path, other) for other in self.others)]
            disks = [files.open(path) for path in paths]
            _check_distinct(paths, disks)
            unpacks = any(map(_is_compressed, disks))
            scratch: list[BinaryIO] = []
            with ExitStack() as opened:

                def open_other(name: str) -> BinaryIO:
                    if name:
                        number, _, own = name.partition("/")
                        return files.open_sibling(paths[int(number)], own)
                    scratch.append(opened.enter_context(make_scratch_file()))
                    return os.fdopen(os.dup(scratch[-1].fileno()), "r+b", buffering=0)

                with self._name_in_errors():
                    writes = unpacks or module == _VOLUME_SESSION
                    choice = dict(self.choice)
                    started = start_reader(module, disks, open_other, choice, unpacks=writes, find_key=self._find_key)
                    reader = opened.enter_context(started)
                yield _ReaderProcess(reader, files, scratch, unpacks, opened)
            files.check_unchanged()

    def _find_key(self, header: bytes) -> bytes:
        if not self.options.key_file:
            return refuse_key(header)
        digest = sha256(header).digest()
        if digest in self.key_errors:
            raise self.key_errors[digest]
        try:
            return find_volume_key(header, self.options.key_file)
        except LtspError as error:
            self.key_errors[digest] = error
            raise

    @contextmanager
    def _open_volumes(self) -> Iterator[KernelVolumes]:
        """The volumes of the disk, for the kernel to mount."""
        with self._start_reader(_VOLUME_SESSION) as started:
            with self._name_in_errors():
                volumes = KernelVolumes(
                    started.reader,
                    lambda: [file for _, file, _ in started.files.opened],
                    started.scratch,
                    str(self.choice.get("fstype", "")),
                    kernel_only=self.options.reader == "kernel",
                    mounts=KernelMounts(started.opened, Faults(skip_unreadable=True)),
                )
            yield volumes

    @contextmanager
    def _name_in_errors(self) -> Iterator[None]:
        """Prefix errors with the path of the disk."""
        try:
            yield
        except (FormatError, SourceError) as error:
            raise type(error)(f"{printable(self.path)}: {error.message}", error.hint) from error

    def _with_reply(self, seen: object) -> Self:
        """The source with the reply of an inspection. Raises FormatError for an invalid one."""
        try:
            match seen:
                case {"root": str(root), "parts": list(parts), "left_out": list(left_out), "live": live, **rest}:
                    formats = ", ".join(map(str, _as_list(rest.get("formats"))))
                    title = str(rest.get("title", ""))
                    disks = f"disks {self.path}, {', '.join(self.others)}" if self.others else f"disk {self.path}"
                    what = f"{f'{title}, ' if title else ''}{root} in {formats} {disks}"
                    plan = Plan(
                        (SourcePart("", what), *(SourcePart(path, text, reason) for path, text, reason in parts)),
                        tuple(SourcePart(path, text, reason) for path, text, reason in left_out),
                        tuple(printable(str(each)) for each in _as_list(rest.get("warnings"))),
                    )
                    return replace(self, seen=plan, live=LiveMedium.from_json(live))
        except (ValueError, TypeError):
            pass
        raise FormatError(f"{printable(self.path)}: invalid reply from the disk reader process")


def _sibling_path(path: str, other: str) -> str:
    return other if other.startswith(("/", ".")) else os.path.join(os.path.dirname(path), other)


def _check_distinct(paths: Sequence[str], disks: Sequence[BinaryIO]) -> None:
    """Raises SourceError if a disk is given twice: everything on it would appear twice."""
    seen: set[tuple[int, int]] = set()
    for path, file in zip(paths, disks, strict=True):
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) in seen:
            raise SourceError(f"{printable(path)} is given twice", "name each disk once")
        seen.add((status.st_dev, status.st_ino))


def _is_compressed(file: BinaryIO) -> bool:
    return bool(compressed.detect_compression(os.pread(file.fileno(), compressed.LONGEST_MAGIC, 0)))


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def disk_source(
    path: str, name: str, image_spec: ImageSpec, options: DiskOptions, *, system: bool, holding: str = ""
) -> DiskSource:
    """The disk that a part of the source names; with `system`, it has to contain a system, or the path `holding`.

    Raises FormatError, and SourceError, also for an invalid key file that no volume turns out to need.
    """
    if options.key_file:
        check_key_file(options.key_file)
    subvolume = next((each.removeprefix(SUBVOLUME) for each in image_spec.options if each.startswith(SUBVOLUME)), "")
    others = [each for each in image_spec.options if not each.startswith(SUBVOLUME)]
    choice = {"partition": image_spec.partition, "subvolume": subvolume, "fstype": image_spec.fstype, "whole": system}
    choice |= {"unlock": bool(options.key_file), "holding": holding}
    warnings = (f"{printable(path)} is not mounted: {printable(','.join(others))} has no effect",) if others else ()
    return DiskSource(name, path, image_spec.disks, choice, options, warnings=warnings).inspect()
