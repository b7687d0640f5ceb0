"""From what the user wrote to a source: where chroots, disks and images are looked for, and what is no source."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from ltsp.errors import LtspError, SourceError, UsageError
from ltsp.host.chroot import is_chroot
from ltsp.inspection import carried_disk, live_medium, nested_roots, rootfs_check
from ltsp.inspection.live_medium import Carried
from ltsp.inspection.nested_roots import Nested
from ltsp.settings import image_name
from ltsp.source import spec
from ltsp.source.combine import CombinedSource, Laid
from ltsp.source.directory.directory import DirectorySource
from ltsp.source.disk.disk_options import ANY, Wishes
from ltsp.source.live.live_source import LiveSource
from ltsp.source.location import here, is_path, located
from ltsp.source.names import name_of
from ltsp.source.notation import STANDARD_INPUT, Notation
from ltsp.source.snapshot.snapshot import NONE
from ltsp.source.source import Source
from ltsp.source.spec import Layer, see_that_it_is_no_disk
from ltsp.source.squashfs import SquashfsSource
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.selection import Take

_FETCH = "copy or download it again, or unpack it if it is an archive"


def find(
    argument: str,
    base_dir: str,
    *,
    name: str = "",
    leave_out: tuple[str, ...] = (),
    recorded: Callable[[str], str] = lambda _name: "",
    recompress: bool = False,
    disks: Wishes = ANY,
    snapshots: str = NONE,
    own_rule: str = "",
) -> Source:
    """The source that an argument of the command line stands for.

    `name` is the image's, if not the one that the argument gives. `leave_out` are directories of the host that no tree
    may contain. `recorded` gives the source that an exported image was made from, by its name, or nothing;
    `recompress` allows such an image to be its own source. `snapshots` is the kind from which directories are read.
    `own_rule` is the user's for kernels, which may lead to that of a live medium.

    Raises UsageError for a bad name or notation, LtspError where nothing is found, SourceError for what is no system.
    """
    first, *others = spec.parse(argument)
    search = _Search(base_dir, leave_out, recorded, recompress, disks, snapshots, own_rule)
    if others and not others[0].image.startswith("/") and not others[0].subdir:
        inner = others.pop(0)
        base: Source = search.inside(search.base(first, name, inner.image), first.image, inner)
    else:
        base = search.base(first, name)
    if isinstance(base, LiveSource):
        base.see_that_one_is_meant()
    if not others:
        return base
    laid = tuple(Laid(layer, search.part(layer) if layer.image.startswith("/") else None) for layer in others)
    warnings = tuple(warning for layer in others if (warning := _ignored(layer)))
    return CombinedSource(base, laid, search.open_image, warnings)


@dataclass(frozen=True, slots=True)
class _Search:
    base_dir: str
    leave_out: tuple[str, ...]
    recorded: Callable[[str], str]
    recompress: bool
    disks: Wishes
    snapshots: str
    own_rule: str

    def base(self, layer: Layer, name: str, inner: str = "") -> Source:
        """The first part, which gives the image its name and has to be a system, unless what is `inner` is one."""
        notation = Notation.parse(layer.image)
        if notation is not None:
            return _archived(notation, name, layer)
        if not name and "/" not in layer.image and not is_path(layer.image):
            _see_that_it_is_a_name(layer.image, self.base_dir)
        path, note = located(layer.image, self.base_dir)
        own = _image_name(name or name_of(path))
        if not name and not self.recompress and _same(path, f"{self.base_dir}/images/{own}.img"):
            return self._rebuilt(path, own)
        notes = tuple(filter(None, (note, _ignored(layer))))
        if not os.path.isdir(encode(path)):
            return self._file(path, own, layer, notes, inner)
        source = self._directory(path, own, layer)
        lack = rootfs_check.lack(path)
        if not lack:
            return replace(source, warnings=notes)
        with replace(source, snapshots=NONE).open(_tops, Faults()) as tree:
            carried, inside = Carried.of(tree), nested_roots.found(tree)
            if inside and not inner:
                return self._nested(source, nested_roots.chosen(tree, inside), notes)
            disks = carried_disk.disks(tree)
            remedy = carried_disk.typed(path, disks) if disks else nested_roots.remedy(tree)
        if carried is not None or inner:
            return self._live(source, layer.image, carried, notes)
        raise SourceError(f"{printable(path)}: {lack}", remedy)

    def _file(self, path: str, name: str, layer: Layer, notes: tuple[str, ...], inner: str) -> Source:
        image = _image(path, name, layer, self.disks, system=True, holding=inner)
        if image.kind == "archive":
            return replace(self._live(image, layer.image, None, notes), archive=True)
        if image.kind != "disk":
            return image
        from ltsp.source.disk.disk import DiskSource  # noqa: PLC0415 -- as in _image

        if isinstance(image, DiskSource) and (image.live or image.seen is None):
            return self._live(image, layer.image, image.live, notes)
        return image

    def _nested(self, carrier: DirectorySource, inside: Nested, notes: tuple[str, ...]) -> Source:
        """The root file system in a directory, with what its carrier lays into it."""

        def directory(path: str, at: str = "") -> DirectorySource:
            whole = f"{carrier.path.rstrip('/')}/{path}"
            return self._directory(whole, carrier.name, Layer(whole, subdir=at))

        base = replace(directory(inside.path), warnings=notes)
        laid = tuple(Laid(Layer(path, subdir=at), directory(path, at)) for at, path in inside.laid)
        return CombinedSource(base, laid, self.open_image) if laid else base

    def inside(self, base: Source, written: str, layer: Layer) -> LiveSource:
        """What lies in the first part and takes its place."""
        notes = tuple(filter(None, (_ignored(layer),)))
        if isinstance(base, LiveSource):
            return replace(base, named=layer.image, warnings=(*base.warnings, *notes))
        return replace(self._live(base, written, None, notes), named=layer.image)

    def _live(self, medium: Source, written: str, carried: Carried | None, notes: tuple[str, ...]) -> LiveSource:
        return LiveSource(medium, self.open_image, written, carried, warnings=notes, own_rule=self.own_rule)

    def part(self, layer: Layer) -> Source:
        """Another part: a directory or image of the host."""
        if not os.path.exists(encode(layer.image)):
            raise LtspError(f"there is no {printable(layer.image)}", "parts after the first are absolute paths")
        if os.path.isdir(encode(layer.image)):
            return self._directory(layer.image, name_of(layer.image), layer)
        return _image(layer.image, name_of(layer.image), layer, self.disks)

    def open_image(self, path: str) -> Source:
        """One that lies in a source: what the user allows for disks of his own does not hold for it."""
        return _image(path, "", Layer(path), Wishes(reader=self.disks.reader))

    def _rebuilt(self, path: str, name: str) -> Source:
        """The source of an exported image, of which nothing but itself was found."""
        argument = self.recorded(name)
        if argument in ("", name, STANDARD_INPUT) or _same(argument, path):
            raise LtspError(
                f"{printable(path)} is an exported image, and what it was made from is not known",
                f"give --recompress to make it from itself, or its path with --name for another image than {name}",
            )
        return find(
            argument,
            self.base_dir,
            name=name,
            leave_out=self.leave_out,
            disks=self.disks,
            snapshots=self.snapshots,
            own_rule=self.own_rule,
        )

    def _directory(self, path: str, name: str, layer: Layer) -> DirectorySource:
        options = (("fstype", layer.fstype), ("partition", layer.partition), ("disk", ",".join(layer.disks)))
        for option, value in options:
            if value:
                raise UsageError(f"{option}={printable(value)} is given for the directory {printable(path)}")
        real = decode(os.path.realpath(encode(path)))
        kind = "chroot" if is_chroot(encode(path)) else "directory"
        description = "the running system" if real == "/" else f"{kind} {path}"
        source = DirectorySource(name, path, description, self.leave_out, at=layer.subdir, snapshots=self.snapshots)
        source.see_that_snapshots_can_be_taken()
        return source


def _image_name(name: str) -> str:
    """Raises UsageError for one that cannot be an image's, with another to choose."""
    if fault := image_name.fault(name):
        raise UsageError(f"image name {name!a} {fault}", f"choose another: --name={image_name.suggestion(name)}")
    return name


def _see_that_it_is_a_name(text: str, base_dir: str) -> None:
    """Raises UsageError for what can be neither a name nor, without / or . before it, a path."""
    if fault := image_name.fault(text):
        raise UsageError(f"image name {text!a} {fault}", _typed_instead(text, base_dir))


def _typed_instead(text: str, base_dir: str) -> str:
    """What to type for what is no name: where there is one of that name, or an image of the name most like it."""
    likely = image_name.suggestion(name_of(text))
    if typed := here(text):
        return f"for the one in this directory, type {typed} --name={likely}"
    if path := _path(text, base_dir):
        return f"type {shlex.quote(printable(path))} --name={likely}"
    if path := _path(likely, base_dir):
        return f"for {printable(path)}, type {likely}"
    return f"give its path, which begins with / or ., and --name={likely}"


def _path(name: str, base_dir: str) -> str:
    """Where there is one of that name in the base directory; else empty."""
    try:
        return located(name, base_dir)[0]
    except LtspError:
        return ""


def _archived(notation: Notation, name: str, layer: Layer) -> Source:
    """What a notation stands for.

    Raises UsageError where the image has no name, LtspError where there is nothing.
    """
    if not name and not notation.named_by:
        raise UsageError(
            "what comes from standard input has no name", "podman export CONTAINER | ltsp image - --name NAME"
        )
    see_that_it_is_no_disk(notation.path, layer)
    from ltsp.source.archive import archive_source  # noqa: PLC0415 -- as in _image

    return archive_source(notation, _image_name(name or name_of(notation.named_by)))


def _image(path: str, name: str, layer: Layer, disks: Wishes, *, system: bool = False, holding: str = "") -> Source:
    """A file as a source; with `system`, one has to be in it, or the path of something that is `holding`.

    Raises LtspError where its content is none that can be read.
    """
    from ltsp.disk import probe  # noqa: PLC0415 -- directories do without, as below
    from ltsp.source.file_kind import DISK, SQUASHFS, false_name, kind_of  # noqa: PLC0415

    shown = printable(path)
    try:
        mode = os.stat(encode(path)).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise LtspError(f"{shown} is no file, disk or directory", "name a chroot, a VM disk or an image")
        with open(encode(path), "rb") as file:
            kind, said = kind_of(file), false_name(path, file)
            archive = _archive(path, name, file, shown) if stat.S_ISREG(mode) and kind != SQUASHFS else None
    except OSError as error:
        target = (
            f", which leads to {printable(decode(os.readlink(encode(path))))}" if os.path.islink(encode(path)) else ""
        )
        raise SourceError(f"cannot read {shown}{target}: {error.strerror}") from error
    if archive is not None:
        see_that_it_is_no_disk(path, layer)
        return archive
    if kind not in {DISK, SQUASHFS}:
        raise SourceError(
            f"{shown} is not supported as a source: it holds {probe.named(kind)}",
            probe.remedy(kind).replace("FILE", shlex.quote(shown)),
        )
    if kind != SQUASHFS or layer.partition or layer.disks:
        from ltsp.source.disk.disk import disk_source  # noqa: PLC0415

        try:
            return disk_source(path, name, layer, disks, system=system, holding=holding)
        except SourceError as error:
            if said:
                raise SourceError(error.message, f"it is named as a {said} disk and is none: {_FETCH}") from error
            raise
    if layer.fstype not in ("", "auto", "squashfs"):
        raise UsageError(f"fstype={printable(layer.fstype)} is given for {shown}, which is a squashfs")
    return SquashfsSource(name, path)


def _archive(path: str, name: str, file: BinaryIO, shown: str) -> Source | None:
    from ltsp.source.archive import ArchiveSource, holds_archive  # noqa: PLC0415 -- as in _image

    return ArchiveSource(name, path) if holds_archive(file, shown) else None


def _ignored(layer: Layer) -> str:
    """The warning for options of mount(8), of which nothing is left to do: nothing is mounted."""
    if not layer.options:
        return ""
    return f"{printable(layer.image)} is not mounted: {printable(','.join(layer.options))} has no effect"


def _tops(path: str, directory: bool) -> Take:
    """What tells a live medium, the files in these directories, and a root file system in a directory of another."""
    top, _, below = path.partition("/")
    return Take.ALL if top in live_medium.TOPS and not (directory and below) else nested_roots.look(path, directory)


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(encode(path), encode(other))
    except OSError:
        return False
