"""Make a version's client initrd and check that clients can boot it, before the image is written."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from ltsp.boot.distribution import detect_distribution
from ltsp.boot.kernel import Kernel
from ltsp.boot.kernel_codecs import initrd_codec, kernel_options, readable_codecs
from ltsp.boot.preflight import PreflightFacts, PreflightProblem, Severity, check_no_errors, find_problems
from ltsp.cpio import compression, newc
from ltsp.errors import LtspError, UsageError
from ltsp.host.files import read_server_file
from ltsp.initrd.client_tree import ClientOptions, build_client_tree
from ltsp.initrd.drivers import find_blocked_drivers, find_network_drivers
from ltsp.initrd.kernel_modules import KernelModules
from ltsp.initrd.program_file import ServerPrograms
from ltsp.publish.manifest import KernelFacts
from ltsp.publish.paths import CLIENT, INITRD, KERNEL, NBD
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

    def with_kernel(self, kernel: Kernel | None) -> dict[str, Content]:
        """All files that the clients of a version load, by name."""
        if kernel is None:
            return dict(self.files)
        initrds = {INITRD: self._append_client_initrd(kernel.initrd)} if kernel.initrd else {}
        return {KERNEL: kernel.kernel, **initrds, **self.files}

    def _append_client_initrd(self, initrd: Content) -> Content:
        """The distribution's initrd followed by the clients' own: for CLIENT_INITRD=distro, and for older menus, which
        name no other file.
        """
        ours = self.files.get(CLIENT)
        if ours is None:
            return initrd
        # Archives begin at multiples of 4 (initramfs-buffer-format.rst of the kernel), and lz4 ends with a size of 0.
        return ConcatContent((initrd, Bytes(bytes(4 + -initrd.size % 4)), ours))

    def report_to(self, report: Report) -> None:
        for warning in self.warnings:
            report.warn(warning)
        for note in self.notes:
            report.note(note)


def make_client_initrd(
    tree: Tree, kernel: Kernel | None, codec: str, name: str, wanted: ClientInitrdRequest, before: Version | None
) -> ClientBootFiles:
    """Make it for the kernel of the image `name`; `codec` is the compression of the image, empty if unknown.

    It is copied from the version `before` if it would be the same.

    Raises LtspError if no client could boot the image, unless `wanted` allows that.
    """
    if kernel is None:
        return ClientBootFiles()
    try:
        return _make_initrds(
            tree, kernel.version or _sole_modules_version(tree, kernel.path), codec, name, wanted, before
        )
    except LtspError as error:
        if wanted.must_boot:
            if _NO_PREFLIGHT not in error.hint:
                error.hint = "; or ".join(filter(None, (error.hint, f"publish it anyway with {_NO_PREFLIGHT}")))
            raise
        left = "" if kernel.initrd else f", and /{printable(kernel.path)} has none of its own: no client can boot it"
        return ClientBootFiles(warnings=(f"{error.message}; published without the clients' initrd{left}",))


def _sole_modules_version(tree: Tree, path: str) -> str:
    """The version of a kernel that does not contain it, in an image with modules for a single version.

    A directory without modules.dep does not count: it may keep vendors' modules for an earlier kernel.

    Raises LtspError if there are modules for several versions, or for none.
    """
    directory = tree.follow("lib/modules")
    every = directory.entries if isinstance(directory, Directory) else ()
    versions = [name for name in every if tree.follow(f"lib/modules/{name}/modules.dep") is not None]
    if len(versions) != 1:
        raise LtspError(
            f"cannot determine the kernel version of /{printable(path)}, so its modules are unknown",
            f"choose another kernel with --kernel-initrd, or publish it anyway with {_NO_PREFLIGHT}",
        )
    return versions[0]


def _make_initrds(
    tree: Tree, version: str, codec: str, name: str, wanted: ClientInitrdRequest, before: Version | None
) -> ClientBootFiles:
    modules = KernelModules.read(tree, version)
    facts = PreflightFacts(
        version=version,
        modules=modules.names,
        network=find_network_drivers(modules),
        blocked_drivers=find_blocked_drivers(modules),
        chosen=wanted.drivers,
        options=kernel_options(tree, version),
        codec=codec,
        codecs=readable_codecs(tree, version) if codec else None,
        has_nbd_client=True,  # build_client_tree reports that
        distribution=detect_distribution(tree),
    )
    lacks = find_problems(facts)
    if wanted.must_boot:
        check_no_errors(lacks, name)
    options = ClientOptions(wanted.drivers, file_systems=wanted.file_systems, busybox=wanted.busybox)
    made = build_client_tree(tree, modules, options, ServerPrograms(read_server_file))
    packing = initrd_codec(tree, version)
    files = {CLIENT: _compress_archive(made.tree, packing, _previous_archive(before, CLIENT), made.present)}
    if made.nbd is not None:
        files[NBD] = _compress_archive(made.nbd, packing, _previous_archive(before, NBD))
    return ClientBootFiles(files, tuple(_preflight_warnings(lacks)), made.warnings)


def _compress_archive(tree: Tree, codec: str, known: bytes | None, present: Collection[str] = ()) -> Content:
    file = io.BytesIO()
    newc.write_archive(tree, file, present)
    archive = file.getvalue()
    if known is not None and compression.matches_archive(known, codec, archive):
        return Bytes(known)
    return Bytes(compression.compress(archive, codec))


def _previous_archive(before: Version | None, name: str) -> bytes | None:
    return read_server_file(os.path.abspath(before.file(name))) if before else None


def _preflight_warnings(lacks: tuple[PreflightProblem, ...]) -> Iterator[str]:
    """Errors too: with --no-preflight they are warnings."""
    for lack in sorted(lacks, key=lambda each: each.severity is not Severity.ERROR):
        yield f"{printable(lack.message)}; {printable(lack.hint)}"


def manifest_kernel(kernel: Kernel) -> KernelFacts:
    """The kernel as the manifest records it."""
    passed_over = {each.path: each.reason for each in kernel.passed_over}
    return KernelFacts(kernel.path, kernel.version or "", kernel.reason, passed_over)
