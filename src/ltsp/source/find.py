"""Finds the source that the user named: a chroot, disk, image, archive or live medium."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ltsp.errors import LtspError, SourceError, UsageError
from ltsp.host.root import is_chroot
from ltsp.inspection import live_medium, root_file_systems
from ltsp.inspection.live_medium import LiveMedium
from ltsp.inspection.root_file_systems import NestedRoot
from ltsp.settings import naming
from ltsp.source import spec
from ltsp.source.combine import CombinedSource, OverlayEntry
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.location import STANDARD_INPUT, ImageReference, is_path, locate_source, suggest_local_path
from ltsp.source.names import derive_name
from ltsp.source.snapshot.snapshot import NONE
from ltsp.source.source import Source
from ltsp.source.spec import DEFAULT_OPTIONS, DiskOptions, ImageSpec, check_no_disk_options
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.selection import Inclusion


def find_source(
    argument: str,
    base_dir: str,
    *,
    name: str = "",
    excluded_directories: tuple[str, ...] = (),
    find_recorded: Callable[[str], str] = lambda _name: "",
    recompress: bool = False,
    disks: DiskOptions = DEFAULT_OPTIONS,
    snapshots: str = NONE,
    user_rule: str = "",
    keep: ExitStack | None = None,
) -> Source:
    """The source that a command line argument stands for.

    `name` overrides the image name that the argument implies. `excluded_directories` of the host are in no tree.
    `find_recorded` maps the name of a published image to the source that it was made from, or to nothing; `recompress`
    allows such an image to be its own source. `snapshots` is the kind of snapshot to read directories from. `user_rule`
    is the user's rule for finding a kernel, which may match that of a live medium. A process that read
    the source to find out what it is ends with this call; if `keep` is given, it waits for the source to be opened,
    until `keep` closes.

    Raises UsageError for a bad name or notation, LtspError if nothing is found, SourceError if it is not a system.
    """
    first, *others = spec.parse(argument)
    finder = _SourceFinder(base_dir, excluded_directories, find_recorded, recompress, disks, snapshots, user_rule, keep)
    if others and not others[0].image.startswith("/") and not others[0].subdir:
        inner = others.pop(0)
        base: Source = finder.find_inner(finder.find_base(first, name, inner.image), first.image, inner)
    else:
        base = finder.find_base(first, name)
    if not others:
        return base
    overlays = tuple(
        OverlayEntry(image_spec, finder.find_part(image_spec) if image_spec.image.startswith("/") else None)
        for image_spec in others
    )
    warnings = tuple(warning for image_spec in others if (warning := _warn_of_ignored_options(image_spec)))
    return CombinedSource(base, overlays, finder.open_image, warnings)


@dataclass(frozen=True, slots=True)
class _SourceFinder:
    base_dir: str
    excluded_directories: tuple[str, ...]
    find_recorded: Callable[[str], str]
    recompress: bool
    disks: DiskOptions
    snapshots: str
    user_rule: str
    keep: ExitStack | None

    def find_base(self, image_spec: ImageSpec, name: str, inner: str = "") -> Source:
        """The first part, which names the image and has to be a system, unless its file `inner` is one."""
        reference = ImageReference.parse(image_spec.image)
        if reference is not None:
            return _source_from_reference(reference, name, image_spec)
        if not name and "/" not in image_spec.image and not is_path(image_spec.image):
            _check_is_name(image_spec.image, self.base_dir)
        path, note = locate_source(image_spec.image, self.base_dir)
        checked_name = _check_image_name(name or derive_name(path))
        if not name and not self.recompress and _is_same_file(path, f"{self.base_dir}/images/{checked_name}.img"):
            return self._find_recorded_source(path, checked_name)
        notes = tuple(filter(None, (note, _warn_of_ignored_options(image_spec))))
        if not os.path.isdir(encode(path)):
            return self._source_from_file(path, checked_name, image_spec, notes, inner)
        source = self._source_from_directory(path, checked_name, image_spec)
        missing = root_file_systems.explain_missing_root(path)
        if not missing:
            return replace(source, warnings=notes)
        return self._source_from_carrier(source, image_spec.image, missing, notes, inner)

    def _source_from_carrier(
        self, carrier: DirectorySource, argument: str, missing: str, notes: tuple[str, ...], inner: str
    ) -> Source:
        """What is in a directory that is not a root file system itself, because of what is missing."""
        from ltsp.inspection import exported_disk  # noqa: PLC0415 -- root file systems do without, as below

        with replace(carrier, snapshots=NONE).open(_select_markers, Faults()) as tree:
            live, nested = LiveMedium.of(tree), root_file_systems.find_nested_roots(tree)
            if nested and not inner:
                return self._source_from_nested_root(
                    carrier, root_file_systems.choose_bootable_root(tree, nested), notes
                )
            disks = exported_disk.find_disks(tree)
            remedy = (
                exported_disk.suggest_command(carrier.path, disks) if disks else root_file_systems.suggest_remedy(tree)
            )
        if live is not None or inner:
            return self._make_live_source(carrier, argument, live, notes, inner)
        raise SourceError(f"{printable(carrier.path)}: {missing}", remedy)

    def _source_from_file(
        self, path: str, name: str, image_spec: ImageSpec, notes: tuple[str, ...], inner: str
    ) -> Source:
        from ltsp.source.image_file import source_from_file  # noqa: PLC0415 -- directories do without, as below

        image = source_from_file(
            path, name, image_spec, self.disks, require_system=True, required_path=inner, keep=self.keep
        )
        if image.kind == "archive":
            return self._make_live_source(image, image_spec.image, None, notes, inner, is_archive=True)
        if image.kind != "disk":
            return image
        from ltsp.source.disk.disk import DiskSource  # noqa: PLC0415

        if isinstance(image, DiskSource) and (image.live or image.inspected_plan is None):
            return self._make_live_source(image, image_spec.image, image.live, notes, inner)
        return image

    def _source_from_nested_root(self, carrier: DirectorySource, nested: NestedRoot, notes: tuple[str, ...]) -> Source:
        """The root file system in a directory, with the directories that its carrier mounts into it."""

        def directory(path: str, at: str = "") -> DirectorySource:
            full_path = f"{carrier.path.rstrip('/')}/{path}"
            return self._source_from_directory(full_path, carrier.name, ImageSpec(full_path, subdir=at))

        base = replace(directory(nested.path), warnings=notes)
        overlays = tuple(OverlayEntry(ImageSpec(path, subdir=at), directory(path, at)) for at, path in nested.overlays)
        return CombinedSource(base, overlays, self.open_image) if overlays else base

    def find_inner(self, base: Source, argument: str, image_spec: ImageSpec) -> Source:
        """A file or directory of the first part, taken in its place."""
        from ltsp.source.live.live_source import LiveSource  # noqa: PLC0415

        notes = tuple(filter(None, (_warn_of_ignored_options(image_spec),)))
        if not isinstance(base, LiveSource):
            base = LiveSource(base, self.open_image, argument, None, user_rule=self.user_rule)
        return replace(base, inner_path=image_spec.image, warnings=(*base.warnings, *notes))

    def _make_live_source(
        self,
        medium: Source,
        argument: str,
        live: LiveMedium | None,
        notes: tuple[str, ...],
        inner: str,
        *,
        is_archive: bool = False,
    ) -> Source:
        """Raises SourceError if the user has to choose a system, and `inner` is empty."""
        from ltsp.source.live.live_source import LiveSource  # noqa: PLC0415

        user_rule = self.user_rule
        source = LiveSource(
            medium, self.open_image, argument, live, is_archive=is_archive, warnings=notes, user_rule=user_rule
        )
        if not inner:
            source.check_system_chosen()
        return source

    def find_part(self, image_spec: ImageSpec) -> Source:
        """Another part: a directory or image of the host."""
        if not os.path.exists(encode(image_spec.image)):
            raise LtspError(
                f"{printable(image_spec.image)} not found", "give an absolute path: only the first part may be a name"
            )
        if os.path.isdir(encode(image_spec.image)):
            return self._source_from_directory(image_spec.image, derive_name(image_spec.image), image_spec)
        from ltsp.source.image_file import source_from_file  # noqa: PLC0415

        name = derive_name(image_spec.image)
        return source_from_file(image_spec.image, name, image_spec, self.disks, keep=self.keep)

    def open_image(self, path: str, keep: ExitStack) -> Source:
        """An image inside a source: what the user allows for disks on the command line does not apply to it."""
        from ltsp.source.image_file import source_from_file  # noqa: PLC0415

        return source_from_file(path, "", ImageSpec(path), DiskOptions(reader=self.disks.reader), keep=keep)

    def _find_recorded_source(self, path: str, name: str) -> Source:
        """The source that a published image was made from, if the argument named only the image itself."""
        argument = self.find_recorded(name)
        if argument in ("", name, STANDARD_INPUT) or _is_same_file(argument, path):
            raise LtspError(
                f"{printable(path)} is a published image, and its source is unknown",
                f"use --recompress to rebuild it from itself, or its path with --name for an image other than {name}",
            )
        return find_source(
            argument,
            self.base_dir,
            name=name,
            excluded_directories=self.excluded_directories,
            disks=self.disks,
            snapshots=self.snapshots,
            user_rule=self.user_rule,
            keep=self.keep,
        )

    def _source_from_directory(self, path: str, name: str, image_spec: ImageSpec) -> DirectorySource:
        options = (
            ("fstype", image_spec.fstype),
            ("partition", image_spec.partition),
            ("disk", ",".join(image_spec.disks)),
        )
        for option, value in options:
            if value:
                raise UsageError(
                    f"{option}={printable(value)} does not apply to {printable(path)}, which is a directory",
                    f"omit {option}=",
                )
        real = decode(os.path.realpath(encode(path)))
        kind = "chroot" if is_chroot(encode(path)) else "directory"
        description = "the running system" if real == "/" else f"{kind} {path}"
        source = DirectorySource(
            name, path, description, self.excluded_directories, subdir=image_spec.subdir, snapshots=self.snapshots
        )
        source.check_snapshots()
        return source


def _check_image_name(name: str) -> str:
    """Raises UsageError, with a suggestion, for an invalid image name."""
    if fault := naming.find_fault(name):
        raise UsageError(f"image name {name!a} {fault}", f"choose another: --name={naming.suggest_name(name)}")
    return name


def _check_is_name(text: str, base_dir: str) -> None:
    """Raises UsageError for text that is neither a valid name nor a path (which starts with / or .)."""
    if fault := naming.find_fault(text):
        raise UsageError(f"image name {text!a} {fault}", _suggest_argument(text, base_dir))


def _suggest_argument(text: str, base_dir: str) -> str:
    """What to type in place of an invalid name: the path of that name, or the closest valid name."""
    likely = naming.suggest_name(derive_name(text))
    if suggestion := suggest_local_path(text):
        return f"to use the one in the current directory, type {suggestion} --name={likely}"
    if path := _find_in_base_dir(text, base_dir):
        return f"type {shlex.quote(printable(path))} --name={likely}"
    if path := _find_in_base_dir(likely, base_dir):
        return f"for {printable(path)}, type {likely}"
    return f"give its path (starting with / or .) and --name={likely}"


def _find_in_base_dir(name: str, base_dir: str) -> str:
    """The path of that name in the base directory; empty if there is none."""
    try:
        return locate_source(name, base_dir)[0]
    except LtspError:
        return ""


def _source_from_reference(reference: ImageReference, name: str, image_spec: ImageSpec) -> Source:
    """The source that a reference stands for.

    Raises UsageError if the image has no name, LtspError if it does not exist.
    """
    if not name and not reference.name_path:
        raise UsageError(
            "an image from standard input needs a name", "podman export CONTAINER | ltsp image - --name NAME"
        )
    check_no_disk_options(reference.path, image_spec)
    from ltsp.source.archive import archive_source  # noqa: PLC0415 -- as for images

    return archive_source(reference, _check_image_name(name or derive_name(reference.name_path)))


def _warn_of_ignored_options(image_spec: ImageSpec) -> str:
    """The warning for options of mount(8), which have no effect: nothing is mounted."""
    if not image_spec.options:
        return ""
    options = printable(",".join(image_spec.options))
    return f"mount options for {printable(image_spec.image)} have no effect, because it is not mounted: {options}"


def _select_markers(path: str, directory: bool) -> Inclusion:
    """Selects the files that identify a live medium or a nested root file system."""
    top, _, below = path.partition("/")
    return (
        Inclusion.ALL
        if top in live_medium.MEDIUM_DIRECTORIES and not (directory and below)
        else root_file_systems.select_markers(path, directory)
    )


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(encode(path), encode(other))
    except OSError:
        return False
