"""A new version until it is published: the image while it is written, then all of its files, flushed to disk."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import disk_errors
from ltsp.publish.assembly import (
    NewVersion,
    link_boot_files,
    list_facts,
    make_hard_linker,
    record_source,
    stage_boot_files,
)
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.gc import DEFAULT_RETENTION, Retention, remove_old_staged
from ltsp.publish.manifest import FileFacts, ImageFacts, KernelFacts, Manifest, Origin, SourceFacts
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths
from ltsp.publish.state import ImageState, read_state
from ltsp.publish.switch import PublishedVersion, SwitchOptions, Unchanged, publish_version
from ltsp.publish.version import Version, compute_sha256
from ltsp.tree.content import Content
from ltsp.tree.name import printable

_INODES_PER_VERSION = 16
"""Inodes of a version: directories, image, manifest, kernel, initrds, pointer, links."""
_DIGITS_WITHOUT_IMAGE = "0" * 8

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VersionContents:
    """What a build passes on for publishing besides the bytes of the image."""

    source: SourceFacts
    kernel: KernelFacts | None = None
    """Facts about `files["vmlinuz"]`."""
    files: Mapping[str, Content] = field(default_factory=dict)
    """Boot files: `vmlinuz`, `initrd.img`, further initrds, which follow that one in the order of their names, and
    those for Raspberry Pi firmware, below `firmware/`."""
    codec: str = ""
    """Of the image: `gzip`, `zstd`."""
    packages: Mapping[str, str] | None = None
    setuid: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def make_manifest(
        self, name: str, origin: Origin, image: ImageFacts | None, boot_files: Mapping[str, FileFacts]
    ) -> Manifest:
        """The manifest without the version's ID and time."""
        return Manifest(
            name,
            version="",
            created="",
            origin=origin,
            source=self.source,
            image=image,
            kernel=self.kernel,
            files=boot_files,
            packages=self.packages,
            setuid=self.setuid,
            warnings=self.warnings,
        )


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """A version that is complete and durable, but that clients do not boot yet."""

    version: Version
    replaces_damaged: bool = False
    """Whether the current version had the same content and is damaged now, so that nobody should revert to it."""


class StagedImage:
    """A new image while it is being written: a file without a name, on the file system where it will be published."""

    def __init__(self, paths: ImagePaths, new: files.UnnamedFile, pool: ThreadPoolExecutor) -> None:
        self.paths = paths
        self.seconds: dict[str, float] = {}
        """The time `fsync` and `sha256` of the image took; both run in parallel with each other and the caller."""
        self._new = new
        self._pool = pool
        self._flushed: Future[None] | None = None
        self._hashed: Future[str] | None = None

    @property
    def image(self) -> io.FileIO:
        """The raw file to write: unbuffered, seekable, open for reading too, mode 0600."""
        return self._new.file

    def flush_in_background(self, compute_hash: Callable[[int], str] = compute_sha256) -> None:
        """Start flushing and hashing; the image must not be written to afterwards.

        `compute_hash` may check more than the sha256 while it reads the image; `publish` raises what it raises.
        """
        if self._flushed is None:
            descriptor = self.image.fileno()
            self._flushed = self._pool.submit(self._run_timed, "fsync", lambda: os.fsync(descriptor))
            self._hashed = self._pool.submit(self._run_timed, "sha256", lambda: compute_hash(descriptor))

    def publish(
        self,
        contents: VersionContents,
        *,
        backup: bool = True,
        retention: Retention = DEFAULT_RETENTION,
        mode: int = PUBLIC_MODE,
        group: int | None = None,
    ) -> PublishedVersion | Unchanged:
        """Switch clients to the image and its boot files in one step.

        `backup`: whether NAME.img.old keeps the replaced image. `group` is a group ID.

        Raises LtspError if writing fails; the previous version is then untouched and still current.
        """
        with translate_os_errors("publish", self.paths), self._prepare(contents, mode, group) as new:
            return new if isinstance(new, Unchanged) else publish_version(new, SwitchOptions(retention, backup))

    def stage_version(
        self, contents: VersionContents, *, mode: int = PUBLIC_MODE, group: int | None = None
    ) -> StagedVersion | Unchanged:
        """Store it durably as a version that waits for `LockedImage.publish_staged`; clients boot the same as before.

        Raises LtspError if writing fails.
        """
        with translate_os_errors("stage a version of", self.paths), self._prepare(contents, mode, group) as new:
            return new if isinstance(new, Unchanged) else stage_version(new)

    @contextmanager
    def _prepare(self, contents: VersionContents, mode: int, group: int | None) -> Iterator[NewVersion | Unchanged]:
        """The new version, flushed to disk; or the current version, if it is identical."""
        paths = self.paths
        self.flush_in_background()
        with stage_boot_files(paths, contents.files) as boot_files:
            written = self._finish()
            image = ImageFacts(written.size, written.sha256, contents.codec)
            boot_facts = list_facts(boot_files)
            now = read_state(paths)
            current = now.current
            same = current is not None and current.is_image_of(now.image) and current.has_content(image, boot_facts)
            if current and same and current.has_intact_boot_files and current.has_intact_image:
                _set_access(current.image, mode, group)
                yield Unchanged(record_source(current, contents.source))
                return
            manifest = contents.make_manifest(paths.name, Origin.BUILT, image, boot_facts)
            duplicate = _find_waiting_twin(now, manifest)
            if duplicate:
                _set_access(duplicate.image, mode, group)
            yield NewVersion(
                paths,
                manifest,
                image.sha256,
                lambda path: self._new.link(path, mode, group),
                link_boot_files(boot_files, current),
                duplicate,
                replaces_damaged=same,
            )

    def _finish(self) -> FileFacts:
        """Wait until the image is flushed; its size and sha256.

        Raises OSError if it could not be written, and whatever hashing raised.
        """
        self.flush_in_background()
        assert self._flushed is not None
        assert self._hashed is not None
        self._flushed.result()
        return FileFacts(os.fstat(self.image.fileno()).st_size, self._hashed.result())

    def _run_timed(self, step: str, work: Callable[[], _T]) -> _T:
        begin = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[step] = time.monotonic() - begin


@contextmanager
def open_staged_image(paths: ImagePaths, image_bytes: int, boot_bytes: int) -> Iterator[StagedImage]:
    """A new image on the disk of the image's versions; discarded at the end unless it was published.

    Raises LtspError if there are fewer bytes for the image, or for its boot files.
    """
    with ExitStack() as stack:
        with translate_os_errors("prepare a version of", paths):
            files.make_directories(paths.versions, DIRECTORY_MODE)
            _check_space(paths, image_bytes, boot_bytes)
            new = stack.enter_context(files.create_unnamed_file(paths.versions))
            pool = stack.enter_context(ThreadPoolExecutor(2, "publish"))
        yield StagedImage(paths, new, pool)


@contextmanager
def prepare_kernel(
    paths: ImagePaths, contents: VersionContents, of: Version | None
) -> Iterator[NewVersion | Unchanged]:
    """A new version with these boot files and the image of the version `of`, by default the one that NAME.img is; or
    the current version, if it is identical.

    If ltsp did not make NAME.img, or the clients' root is a chroot, the version has no image of its own.
    """
    with stage_boot_files(paths, contents.files) as boot_files:
        now = read_state(paths)
        shared = of or (now.image if isinstance(now.image, Version) else None)
        image = shared.manifest.image if shared else None
        boot_facts = list_facts(boot_files)
        current = now.current
        # Foreign images have no hash, so compare the files themselves.
        is_shown = shared is None or (
            current is not None and current.is_image_of(shared) and current.is_image_of(now.image)
        )
        same = current is not None and is_shown and current.has_content(image, boot_facts)
        if current and same and current.has_intact_boot_files:
            # The source of a version without an image is that of its kernel.
            yield Unchanged(current if shared else record_source(current, contents.source))
            return
        manifest = contents.make_manifest(paths.name, Origin.KERNEL_UPDATE, image, boot_facts)
        if shared:
            # The image belongs to the other version, so the facts about it are that version's too.
            old = shared.manifest
            manifest = replace(manifest, source=old.source, packages=old.packages, setuid=old.setuid)
        duplicate = _find_waiting_twin(now, manifest)
        yield NewVersion(
            paths,
            manifest,
            shared.id.rpartition("-")[2] if shared else _DIGITS_WITHOUT_IMAGE,
            make_hard_linker(shared.image) if shared else None,
            link_boot_files(boot_files, current),
            duplicate if duplicate and (shared is None or duplicate.is_image_of(shared)) else None,
            replaces_damaged=same,
        )


def stage_version(new: NewVersion) -> StagedVersion:
    """Assemble a waiting version, which replaces those that were waiting before; or take its twin."""
    if new.staged_duplicate:
        version = record_source(new.staged_duplicate, new.manifest.source)
    else:
        version = new.assemble(staged=True)
        remove_old_staged(new.paths)
    return StagedVersion(version, new.replaces_damaged)


def _find_waiting_twin(now: ImageState, manifest: Manifest) -> Version | None:
    """An intact waiting version with the same content. Reads its files completely."""
    waiting = now.waiting
    if waiting and waiting.has_content(manifest.image, manifest.files):
        return waiting if waiting.has_intact_boot_files and waiting.has_intact_image else None
    return None


def _check_space(paths: ImagePaths, image_bytes: int, boot_bytes: int) -> None:
    if files.are_on_same_file_system(paths.versions, paths.boot):
        image_bytes += boot_bytes
    # The directories of the image itself are removed again if this is its first version.
    for directory, place, needed in (
        (paths.versions, paths.base_dir, image_bytes),
        (paths.boot, paths.tftp_dir, boot_bytes),
    ):
        inodes = files.free_inodes(directory)
        if inodes is not None and inodes < _INODES_PER_VERSION:
            where = printable(place)
            raise LtspError(
                f"not enough inodes for {paths.name} in {where}: a version needs about {_INODES_PER_VERSION}, "
                f"{inodes} are left",
                f"remove files there (df -i {where} counts inodes){disk_errors.suggest_pruning(paths)}",
            )
        free = files.free_bytes(directory)
        if free < needed:
            raise LtspError(
                f"not enough space for {paths.name} in {printable(place)}: "
                f"at least {needed >> 20} MiB needed, {free >> 20} MiB free",
                f"free some space there{disk_errors.suggest_pruning(paths)}",
            )


def _set_access(path: str, mode: int, group: int | None) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        files.set_access(descriptor, mode, group)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
