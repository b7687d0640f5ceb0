"""Make a version's client initrd and check that clients can boot it, before the image is written."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from ltsp.boot.distribution import detect_distribution
from ltsp.boot.kernel import Kernel
from ltsp.boot.kernel_codecs import choose_initrd_codec, find_squashfs_codecs, read_kernel_options
from ltsp.boot.preflight import PreflightFacts, PreflightProblem, Severity, check_no_errors, find_problems
from ltsp.cpio import compression, newc
from ltsp.errors import LtspError, UsageError
from ltsp.host.files import read_server_file
from ltsp.initrd.client_tree import ClientOptions, build_client_tree
from ltsp.initrd.drivers import find_blocked_drivers, find_network_drivers
from ltsp.initrd.kernel_modules import KernelModules
from ltsp.initrd.program_file import ServerPrograms
from ltsp.publish.manifest import KernelFacts
from ltsp.publish.paths import CLIENT_INITRD, DISTRO_INITRD, KERNEL, NBD_INITRD
from ltsp.publish.version import Version
from ltsp.report.report import Report
from ltsp.settings.image_options import ImageOptions, KernelOptions
from ltsp.tree.content import Bytes, ConcatContent, Content
from ltsp.tree.name import printable
from ltsp.tree.node import Directory
from ltsp.tree.tree import Tree

NO_KERNEL = "none"
"""The value of --kernel-initrd that publishes an image without a kernel."""
_NO_PREFLIGHT = "--no-preflight"
"""The option that publishes an image although its clients' initrd could not be made."""


@dataclass(frozen=True, slots=True)
class ClientInitrdRequest:
    """The options for the clients' initrd, checked before any work."""

    drivers: tuple[str, ...] = ()
    """Names of network drivers; empty for all wired ones."""
    busybox: bytes | None = None
    file_systems: tuple[str, ...] = ()
    """Additional drivers of file systems, for images that were not made here."""
    must_boot: bool = True
    """Whether an image that no client could boot is an error."""

    @classmethod
    def of(cls, options: ImageOptions | KernelOptions) -> Self:
        """Raises UsageError if the given busybox cannot be read."""
        path, data = options.busybox, None
        if path is not None:
            data = read_server_file(os.path.abspath(path))
            if data is None:
                raise UsageError(f"cannot read {printable(path)} (--busybox)", "give the path of a static busybox")
        return cls(options.client_drivers, data, must_boot=not options.no_preflight)


@dataclass(frozen=True, slots=True)
class ClientBootFiles:
    """The boot files of a version besides the kernel."""

    files: Mapping[str, Content] = field(default_factory=dict)
    """By name in the version; empty if the image has no kernel that a client could boot."""
    warnings: tuple[str, ...] = ()
    """Why some clients cannot boot the image, or not over some transport."""
    notes: tuple[str, ...] = ()
    """What the initrd lacks."""

    def collect_files(self, kernel: Kernel | None) -> dict[str, Content]:
        """All files that the clients of a version load, by name."""
        if kernel is None:
            return dict(self.files)
        initrds = {DISTRO_INITRD: self._append_client_initrd(kernel.initrd)} if kernel.initrd else {}
        return {KERNEL: kernel.kernel, **initrds, **self.files}

    def _append_client_initrd(self, initrd: Content) -> Content:
        """The distribution's initrd followed by the clients' own: for CLIENT_INITRD=distro, and for older menus, which
        name no other file.
        """
        client_initrd = self.files.get(CLIENT_INITRD)
        if client_initrd is None:
            return initrd
        # Archives begin at multiples of 4 (initramfs-buffer-format.rst of the kernel), and lz4 ends with a size of 0.
        return ConcatContent((initrd, Bytes(bytes(4 + -initrd.size % 4)), client_initrd))

    def report_to(self, report: Report) -> None:
        for warning in self.warnings:
            report.warn(warning)
        for note in self.notes:
            report.note(note)


def make_client_initrd(
    tree: Tree, kernel: Kernel | None, codec: str, name: str, request: ClientInitrdRequest, previous: Version | None
) -> ClientBootFiles:
    """Make it for the kernel of the image `name`; `image_codec` is the compression of the image, empty if unknown.

    It is copied from the version `previous` if it would be the same.

    Raises LtspError if no client could boot the image, unless `request` allows that.
    """
    if kernel is None:
        return ClientBootFiles()
    try:
        return _make_initrds(
            tree, kernel.version or _find_only_modules_version(tree, kernel.path), codec, name, request, previous
        )
    except LtspError as error:
        if request.must_boot:
            if _NO_PREFLIGHT not in error.hint:
                error.hint = "; or ".join(filter(None, (error.hint, f"publish it anyway with {_NO_PREFLIGHT}")))
            raise
        consequence = (
            "" if kernel.initrd else f", and /{printable(kernel.path)} has none of its own: no client can boot it"
        )
        return ClientBootFiles(warnings=(f"{error.message}; published without the clients' initrd{consequence}",))


def _find_only_modules_version(tree: Tree, path: str) -> str:
    """The version of a kernel that does not contain it, in an image with modules for a single version.

    A directory without modules.dep does not count: it may keep vendors' modules for an earlier kernel.

    Raises LtspError if there are modules for several versions, or for none.
    """
    directory = tree.follow("lib/modules")
    names = directory.entries if isinstance(directory, Directory) else ()
    versions = [name for name in names if tree.follow(f"lib/modules/{name}/modules.dep") is not None]
    if len(versions) != 1:
        raise LtspError(
            f"cannot determine the kernel version of /{printable(path)}, so its modules are unknown",
            f"choose another kernel with --kernel-initrd, or publish it anyway with {_NO_PREFLIGHT}",
        )
    return versions[0]


def _make_initrds(
    tree: Tree, version: str, codec: str, name: str, request: ClientInitrdRequest, previous: Version | None
) -> ClientBootFiles:
    modules = KernelModules.read(tree, version)
    facts = PreflightFacts(
        version=version,
        modules=modules.names,
        network_drivers=find_network_drivers(modules),
        blocked_drivers=find_blocked_drivers(modules),
        chosen_drivers=request.drivers,
        kernel_options=read_kernel_options(tree, version),
        image_codec=codec,
        kernel_codecs=find_squashfs_codecs(tree, version) if codec else None,
        has_nbd_client=True,  # build_client_tree reports that
        distribution=detect_distribution(tree),
    )
    problems = find_problems(facts)
    if request.must_boot:
        check_no_errors(problems, name)
    options = ClientOptions(request.drivers, file_systems=request.file_systems, busybox=request.busybox)
    trees = build_client_tree(tree, modules, options, ServerPrograms(read_server_file))
    archive_codec = choose_initrd_codec(tree, version)
    files = {
        CLIENT_INITRD: _compress_archive(
            trees.tree, archive_codec, _read_previous_archive(previous, CLIENT_INITRD), trees.existing_directories
        )
    }
    if trees.nbd is not None:
        files[NBD_INITRD] = _compress_archive(trees.nbd, archive_codec, _read_previous_archive(previous, NBD_INITRD))
    return ClientBootFiles(files, tuple(_format_preflight_warnings(problems)), trees.warnings)


def _compress_archive(
    tree: Tree, codec: str, previous_archive: bytes | None, existing_directories: Collection[str] = ()
) -> Content:
    file = io.BytesIO()
    newc.write_archive(tree, file, existing_directories)
    archive = file.getvalue()
    if previous_archive is not None and compression.matches_archive(previous_archive, codec, archive):
        return Bytes(previous_archive)
    return Bytes(compression.compress(archive, codec))


def _read_previous_archive(previous: Version | None, name: str) -> bytes | None:
    return read_server_file(os.path.abspath(previous.file(name))) if previous else None


def _format_preflight_warnings(problems: tuple[PreflightProblem, ...]) -> Iterator[str]:
    """Errors too: with --no-preflight they are warnings."""
    for problem in sorted(problems, key=lambda each: each.severity is not Severity.ERROR):
        yield f"{printable(problem.message)}; {printable(problem.hint)}"


def to_kernel_facts(kernel: Kernel) -> KernelFacts:
    """The kernel as the manifest records it."""
    passed_over = {each.path: each.reason for each in kernel.passed_over}
    return KernelFacts(kernel.path, kernel.version or "", kernel.reason, passed_over)
