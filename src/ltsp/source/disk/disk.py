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

from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.host.privilege import can_mount
from ltsp.inspection.found_system import SystemChoice
from ltsp.inspection.live_medium import LiveMedium
from ltsp.sandbox.client import DISKS, SandboxReader, refuse_key, start_reader
from ltsp.sandbox.disk_messages import FindSystem, OpenDisks, PartReport, ReadSystem, SystemReport
from ltsp.sandbox.messages import SCRATCH, protocol_error
from ltsp.source.disk.disk_files import DiskFiles, ScratchFiles
from ltsp.source.disk.kernel_mounts import RUN_AS_ROOT_HINT, KernelMounts
from ltsp.source.disk.kernel_volumes import KernelVolumes
from ltsp.source.disk.volume_key import check_key_file, find_volume_key
from ltsp.source.source import Kept, Plan, SelfContainedSource, SourcePart
from ltsp.source.spec import DEFAULT_OPTIONS, SUBVOLUME, DiskOptions, ImageSpec
from ltsp.storage import compressed
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable
from ltsp.tree.selection import Inclusion, Selection
from ltsp.tree.tree import Tree


@dataclass(frozen=True, slots=True)
class _ReaderProcess:
    """A sandboxed process with a session for some disks, and the files that it reads."""

    reader: SandboxReader
    files: DiskFiles
    scratch: ScratchFiles
    unpacks: bool
    """Whether a disk is compressed."""
    opened: ExitStack
    """Closed before the process ends."""


@dataclass(frozen=True, slots=True)
class DiskSource(SelfContainedSource):
    """A disk, from which one system is taken, or with `require_system` unset any file system."""

    name: str
    path: str
    """As the user gave it."""
    other_disks: tuple[str, ...] = ()
    """Disks of the same system; a name that starts with neither / nor . is relative to the first disk."""
    choice: SystemChoice = field(default_factory=SystemChoice)
    require_system: bool = True
    """Whether it has to be a system."""
    fstype: str = ""
    """As the user gave it."""
    options: DiskOptions = DEFAULT_OPTIONS
    inspected_plan: Plan | None = None
    """What inspecting it found."""
    live: LiveMedium | None = None
    """Set if it is a live medium."""
    reader: str = ""
    """Which reader it needs, if known."""
    warnings: tuple[str, ...] = ()
    key_errors: dict[bytes, LtspError] = field(default_factory=dict, compare=False, repr=False)
    """Why the volumes with these headers could not be unlocked: a key slot may take seconds, so it is tried once."""
    kept: Kept[_ReaderProcess] | None = field(default=None, compare=False, repr=False)
    """The process that inspected it, for its opening."""

    @property
    def description(self) -> str:
        return self.inspected_plan.included[0].description if self.inspected_plan else f"disk {self.path}"

    @property
    def kind(self) -> str:
        return "disk"

    def plan(self) -> Plan:
        plan = self.inspected_plan or Plan(included=(SourcePart("", self.description),))
        return replace(plan, warnings=(*plan.warnings, *self.warnings), reader=self.reader or self.options.reader)

    def inspect(self, keep: ExitStack | None = None, kept_reader: Kept[SandboxReader] | None = None) -> Self:
        """The source with the result of an inspection, unless the disk had to be unpacked or copied for it.

        The process is kept until the source is opened or `keep` closes; `kept_reader` is one to use.
        Raises LtspError.
        """
        if self.options.reader == "kernel" and not can_mount():
            what = f"--reader=kernel requires root: it mounts {printable(self.path)}"
            raise SourceError(what, f"{RUN_AS_ROOT_HINT}, or omit --reader=kernel")
        with ExitStack() as opened:
            process = opened.enter_context(self._start_reader(kept_reader))
            found = self._inspect(process)
            process.files.check_unchanged()
            if keep is None:
                return found
            return replace(found, kept=Kept(process, opened.pop_all(), keep))

    def _inspect(self, process: _ReaderProcess) -> Self:
        if self.options.reader == "kernel":
            return self._inspect_by_kernel(process)
        try:
            with self._name_in_errors():
                report = process.reader.ask(FindSystem(self.choice, self.require_system), SystemReport)
        except LtspError as error:
            if not self._may_try_kernel(error):
                raise
            return self._inspect_by_kernel(process)
        if process.unpacks:
            return self
        found = replace(self._with_report(report), reader="user")
        return self._add_kernel_parts(found, process) if self.options.reader == "auto" and report.unread else found

    def _add_kernel_parts(self, found: Self, process: _ReaderProcess) -> Self:
        """The source with the parts that only the kernel can read, if it can without copies."""
        left_out = len(found.plan().left_out)
        if left_out and can_mount():
            with suppress(LtspError):
                whole = self._inspect_by_kernel(process)
                if whole.inspected_plan and len(whole.plan().left_out) < left_out:
                    return whole
        return found

    def _inspect_by_kernel(self, process: _ReaderProcess) -> Self:
        with ExitStack() as mounted, self._name_in_errors():
            volumes = self._open_volumes(process, mounted)
            found = volumes.find_system_without_copies(self.choice, self.require_system)
            if found is not None:
                report = SystemReport.of(found, volumes.formats, volumes.volumes.warnings)
                return replace(self._with_report(report), reader="kernel")
        copied = (f"{printable(name)} (up to {-(-size >> 20)} MiB)" for name, size in volumes.pending_copies.items())
        note = f"volumes that the kernel needs are copied to TMPDIR or /var/tmp first: {', '.join(copied)}"
        return replace(self, reader="kernel", warnings=(*self.warnings, note))

    @contextmanager
    def open(self, selection: Selection, faults: Faults) -> Iterator[Tree]:
        """Raises LtspError, including FileChanged if the file was written to while it was being read."""
        with ExitStack() as opened:
            process = self._take_kept(opened) or opened.enter_context(self._start_reader())
            yield self._open_tree(selection, faults, process)
            process.files.check_unchanged()

    def _take_kept(self, opened: ExitStack) -> _ReaderProcess | None:
        """The process that inspected the disk, unless the disk has changed since. Raises LockHeld if it is in use."""
        if self.kept is None:
            return None
        with ExitStack() as trial:
            process = self.kept.take(trial)
            if process is None or not process.reader.is_running() or not process.files.are_unchanged():
                return None
            opened.enter_context(trial.pop_all())
            return process

    def _open_tree(self, selection: Selection, faults: Faults, process: _ReaderProcess) -> Tree:
        if self.reader != "kernel" and self.options.reader != "kernel":
            try:
                with self._name_in_errors():
                    return process.reader.tree(ReadSystem(self.choice, self.require_system), selection)
            except LtspError as error:
                if not self._may_try_kernel(error):
                    raise
        with self._name_in_errors():
            volumes = self._open_volumes(process, process.opened)
            found = volumes.find_system(self.choice, self.require_system)
        volumes.mounts.faults = faults
        return found.tree(lambda paths: [selection(path, True) is Inclusion.ALL for path in paths]).select(selection)

    def _may_try_kernel(self, error: LtspError) -> bool:
        """Whether to try the kernel after this error of the first reader: not if the disk is damaged or in use."""
        return self.options.reader == "auto" and type(error) in {LtspError, SourceError}

    @contextmanager
    def _start_reader(self, kept_reader: Kept[SandboxReader] | None = None) -> Iterator[_ReaderProcess]:
        """A process with the disks open: that one, or a new one."""
        with DiskFiles(self.options.allowed_directories, self.options.force) as files, ExitStack() as opened:
            paths = [self.path, *(_sibling_path(self.path, other) for other in self.other_disks)]
            disks = [files.open(path) for path in paths]
            _check_distinct(paths, disks)
            unpacks = any(map(_is_compressed, disks))
            scratch = ScratchFiles(opened, is_allowed=unpacks)

            def open_other(name: str) -> BinaryIO:
                if name == SCRATCH:
                    return scratch.make()
                number, _, file_name = name.partition("/")
                if not number.isdecimal() or int(number) >= len(paths):
                    raise protocol_error()
                return files.open_sibling(paths[int(number)], file_name)

            with self._name_in_errors():
                reader = kept_reader.take(opened) if kept_reader else None
                if reader is None or not reader.is_running():
                    reader = opened.enter_context(start_reader([DISKS], may_write=True))
                request = OpenDisks(self.fstype, unlock=bool(self.options.key_file))
                reader.open(request, disks, open_other, self._find_key)
            yield _ReaderProcess(reader, files, scratch, unpacks, opened)

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

    def _open_volumes(self, process: _ReaderProcess, mounted: ExitStack) -> KernelVolumes:
        """The volumes of the disk, for the kernel to mount."""
        return KernelVolumes(
            process.reader,
            lambda: [file for _, file, _ in process.files.opened],
            process.scratch,
            self.fstype,
            kernel_only=self.options.reader == "kernel",
            mounts=KernelMounts(mounted, Faults(skip_unreadable=True)),
        )

    @contextmanager
    def _name_in_errors(self) -> Iterator[None]:
        """Prefix errors with the path of the disk."""
        try:
            yield
        except (FormatError, SourceError) as error:
            raise type(error)(f"{printable(self.path)}: {error.message}", error.hint) from error

    def _with_report(self, report: SystemReport) -> Self:
        """The source with the report of an inspection."""
        disks = f"disks {self.path}, {', '.join(self.other_disks)}" if self.other_disks else f"disk {self.path}"
        title = f"{report.title}, " if report.title else ""
        what = f"{title}{report.root} in {', '.join(report.formats)} {disks}"
        plan = Plan(
            (SourcePart("", what), *map(_make_part, report.parts)),
            tuple(map(_make_part, report.left_out)),
            tuple(map(printable, report.warnings)),
        )
        return replace(self, inspected_plan=plan, live=report.live)


def _make_part(part: PartReport) -> SourcePart:
    return SourcePart(part.path, part.description, part.reason)


def _sibling_path(path: str, other: str) -> str:
    return other if other.startswith(("/", ".")) else os.path.join(os.path.dirname(path), other)


def _check_distinct(paths: Sequence[str], disks: Sequence[BinaryIO]) -> None:
    """Raises SourceError if a disk is given twice: everything on it would appear twice."""
    identities: set[tuple[int, int]] = set()
    for path, file in zip(paths, disks, strict=True):
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) in identities:
            raise SourceError(f"{printable(path)} is given twice", "name each disk once")
        identities.add((status.st_dev, status.st_ino))


def _is_compressed(file: BinaryIO) -> bool:
    return bool(compressed.detect_compression(os.pread(file.fileno(), compressed.MAX_MAGIC_SIZE, 0)))


def disk_source(
    path: str,
    name: str,
    image_spec: ImageSpec,
    options: DiskOptions,
    *,
    require_system: bool,
    required_path: str = "",
    keep: ExitStack | None = None,
    kept_reader: Kept[SandboxReader] | None = None,
) -> DiskSource:
    """The disk that a part of the source names; with `require_system`, it has to contain a system or `required_path`.

    `keep` and `kept_reader` are those of `DiskSource.inspect`. Raises FormatError, and SourceError, also for an invalid
    key file that no volume turns out to need.
    """
    if options.key_file:
        check_key_file(options.key_file)
    subvolume = next((each.removeprefix(SUBVOLUME) for each in image_spec.options if each.startswith(SUBVOLUME)), "")
    others = [each for each in image_spec.options if not each.startswith(SUBVOLUME)]
    choice = SystemChoice(image_spec.partition, subvolume, required_path)
    listed = printable(",".join(others))
    warning = f"mount options for {printable(path)} have no effect, because it is not mounted: {listed}"
    warnings = (warning,) if others else ()
    source = DiskSource(
        name, path, image_spec.disks, choice, require_system, image_spec.fstype, options, warnings=warnings
    )
    return source.inspect(keep, kept_reader)
