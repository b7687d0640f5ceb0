"""An image under its lock, which is the only way to change it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass

from ltsp.errors import LockHeld, LtspError
from ltsp.host import files, locks
from ltsp.publish import disk_errors, gc, removal
from ltsp.publish import state as states
from ltsp.publish.disk_errors import describe_user, translate_os_errors
from ltsp.publish.gc import DEFAULT_RETENTION, RemovedVersion, Retention
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths
from ltsp.publish.removal import RemovedImage
from ltsp.publish.stage import (
    StagedImage,
    StagedVersion,
    VersionContents,
    open_staged_image,
    prepare_kernel,
    stage_version,
)
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.switch import (
    PublishedVersion,
    SwitchOptions,
    Unchanged,
    adopt_foreign_image,
    publish_version,
    repair,
    switch_version,
)
from ltsp.publish.version import Version
from ltsp.tree.name import printable

_PARENT_MODE = 0o755
_MAX_ATTEMPTS = 100


@contextmanager
def lock_image(paths: ImagePaths, wait: float) -> Iterator[LockedImage]:
    """Lock an image, and repair what a killed run left behind.

    `wait` is in seconds; `math.inf` waits forever.

    Raises LockHeld, which names the holder.
    """
    name = paths.name
    missing = [directory for directory in paths.shared_directories if not os.path.isdir(directory)]
    with ExitStack() as stack:
        stack.callback(_remove_unused_directories, paths, missing)
        with translate_os_errors("change", paths):
            _check_directory(paths.base_dir, "base", name)
            _check_directory(paths.tftp_dir, "tftp", name)
        _lock_image(stack, paths, wait)
        stack.callback(_remove_empty_directories, paths)
        with translate_os_errors("finish the last change of", paths):
            repair(paths)
        yield LockedImage(paths)


@dataclass(frozen=True, slots=True)
class LockedImage:
    """An image whose lock this process holds. Each change is durable when its call returns."""

    paths: ImagePaths

    def state(self) -> ImageState:
        return states.read_state(self.paths)

    def check_replaceable(self, *, backup: bool) -> None:
        """Check, before hours are spent on a build, that the image's pointer and names can be replaced.

        Raises LtspError if one of them is a directory, a mount point or immutable.
        """
        paths = self.paths
        names = [paths.pointer, paths.current, paths.image, *paths.links, *([paths.old] if backup else [])]
        disk_errors.check_replaceable(paths.name, names)

    def stage_image(self, image_bytes: int = 0, boot_bytes: int = 0) -> AbstractContextManager[StagedImage]:
        """A new image to write and publish; it leaves no trace unless it is published.

        `image_bytes` and `boot_bytes` are lower bounds for the size of the image, and of kernel and initrds.

        Raises LtspError if there is less space than that.
        """
        return open_staged_image(self.paths, image_bytes, boot_bytes)

    def publish_kernel(
        self, contents: VersionContents, *, of: Version | None = None, retention: Retention = DEFAULT_RETENTION
    ) -> PublishedVersion | Unchanged:
        """Publish a version with these boot files and the image of version `of`, by default the one that NAME.img is.

        If ltsp did not make NAME.img, or the clients' root is a chroot, the version has no image of its own.
        """
        with translate_os_errors("publish the kernel of", self.paths), prepare_kernel(self.paths, contents, of) as new:
            return new if isinstance(new, Unchanged) else publish_version(new, SwitchOptions(retention))

    def stage_kernel(self, contents: VersionContents, *, of: Version | None = None) -> StagedVersion | Unchanged:
        """Like `publish_kernel`, but the version waits for `publish_staged`."""
        with translate_os_errors("stage the kernel of", self.paths), prepare_kernel(self.paths, contents, of) as new:
            return new if isinstance(new, Unchanged) else stage_version(new)

    def publish_staged(
        self, staged: StagedVersion, *, backup: bool = True, retention: Retention = DEFAULT_RETENTION
    ) -> PublishedVersion:
        """Make a staged version the current one. `backup`: whether NAME.img.old keeps the replaced image."""
        with translate_os_errors("publish", self.paths):
            return switch_version(staged.version, SwitchOptions(retention, backup and not staged.replaces_damaged))

    def previous(self) -> Version:
        """The version that a revert leads to; a NAME.img.old that ltsp did not make becomes a version.

        That one has no kernel yet: the caller extracts one from its image, `publish_kernel(…, of=before)`.

        Raises LtspError if there is none.
        """
        with translate_os_errors("find the previous version of", self.paths):
            now = self.state()
            target = adopt_foreign_image(now, now.old) if isinstance(now.old, ForeignImage) else now.old
            target = target or now.previous
            if target is None or (now.current == target and target.is_image_of(now.image)):
                raise LtspError(
                    f"{self.paths.name} has no previous version to revert to",
                    f"list its versions: ltsp versions {self.paths.name}",
                )
            return target

    def revert(self, retention: Retention = DEFAULT_RETENTION) -> PublishedVersion | Unchanged:
        """Exchange the current and the previous version; a second revert undoes the first."""
        return self.use(self.previous().id, retention)

    def use(self, version: str, retention: Retention = DEFAULT_RETENTION) -> PublishedVersion | Unchanged:
        """Make any version the current one.

        Raises LtspError if that has no kernel and the current one has.
        """
        with translate_os_errors("switch", self.paths):
            now = self.state()
            target = now.require_version(version)
            name = self.paths.name
            if damage := target.damage:
                raise LtspError(
                    f"version {version} of {name} is damaged: {damage}", f"choose another: ltsp versions {name}"
                )
            if not target.has_kernel and now.current and now.current.has_kernel:
                # Only `publish_kernel(of=target)` makes it one that clients can boot.
                raise LtspError(f"version {version} of {name} has no kernel; clients still boot {now.current.id}")
            if target.manifest.image is None and isinstance(now.image, Version):
                raise LtspError(
                    f"version {version} of {name} has no image of its own",
                    f"publish a kernel for the current image: ltsp kernel {name}",
                )
            if now.current == target and (target.image_id is None or target.is_image_of(now.image)):
                return Unchanged(target)
            return switch_version(target, SwitchOptions(retention))

    def pin(self, version: str) -> None:
        """Keep a version until it is unpinned."""
        with translate_os_errors("pin a version of", self.paths):
            if not self.state().require_version(version).pinned:
                files.create_file(self.paths.pin(version), b"", PUBLIC_MODE)
                files.sync_directory(self.paths.version(version))

    def unpin(self, version: str) -> None:
        with translate_os_errors("unpin a version of", self.paths):
            if self.state().require_version(version).pinned:
                os.unlink(self.paths.pin(version))
                files.sync_directory(self.paths.version(version))

    def remove(self, version: str) -> None:
        """Raises LtspError if the version is current, pinned or in use."""
        with translate_os_errors("remove a version of", self.paths):
            gc.remove_unused_version(self.paths, version)

    def prune(self, versions: int) -> tuple[str, ...]:
        """Remove all but the newest images regardless of age; pinned, used and foreign versions stay."""
        with translate_os_errors("remove versions of", self.paths):
            gone = gc.collect_garbage(self.paths, Retention(versions, days=0), keep_previous=versions > 1)
            return tuple(each.id for each in gone)

    def remove_all(self, *, force: bool = False) -> RemovedImage:
        """Withdraw the image from clients and delete all of its versions, kernels and names.

        Raises LtspError, before anything is removed, if a version is pinned, in use or foreign, unless `force`.
        """
        with translate_os_errors("remove", self.paths):
            return removal.remove_image(self.paths, force=force)

    def remove_deleted_image(self, retention: Retention = DEFAULT_RETENTION) -> tuple[RemovedVersion, ...]:
        """If NAME.img was deleted by hand, withdraw the rest from clients too, and remove what no rule keeps."""
        with translate_os_errors("clean up", self.paths):
            return removal.remove_deleted_image(self.paths, retention)


def _lock_image(stack: ExitStack, paths: ImagePaths, wait: float) -> None:
    name = paths.name
    with translate_os_errors("lock", paths):
        for _ in range(_MAX_ATTEMPTS):
            files.make_directories(paths.images, DIRECTORY_MODE)
            # In between, another run may remove the directory that it had created and does not need.
            with suppress(FileNotFoundError):
                try:
                    stack.enter_context(locks.hold_exclusive(paths.lock, wait))
                except locks.LockBusy as taken:
                    by = describe_user(taken.holder) if taken.holder else "another process"
                    raise LockHeld(
                        f"{name} is being changed by {by}", "try again when it is done, or use --wait=SECONDS"
                    ) from None
                return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), paths.images)


def _is_used(paths: ImagePaths) -> bool:
    """Whether anything of the image is left."""
    return any(map(os.path.lexists, (paths.pointer, paths.image, paths.old)))


def _remove_unused_directories(paths: ImagePaths, directories: Sequence[str]) -> None:
    """Remove the shared directories that were created for this image, if nothing of it is left."""
    if not _is_used(paths):
        _remove_empty(directories)


def _remove_empty_directories(paths: ImagePaths) -> None:
    """If nothing of the image is left, remove its directories and its lock, which is held."""
    if _is_used(paths):
        return
    _remove_empty([paths.versions, paths.boot])
    if not os.path.lexists(paths.versions) and not os.path.lexists(paths.boot):
        with suppress(OSError):
            os.unlink(paths.lock)


def _remove_empty(directories: Sequence[str]) -> None:
    """Remove the empty ones, last first."""
    for directory in reversed(directories):
        with suppress(OSError):
            os.rmdir(directory)


def _check_directory(directory: str, which: str, name: str) -> None:
    """Check that a directory of the server exists and is writable, before hours are spent on a build.

    It is created if only its last component is missing; more may be a disk that is not mounted.
    """
    if not os.path.isdir(directory) and not os.path.isdir(os.path.dirname(directory.rstrip("/"))):
        raise LtspError(
            f"cannot publish {name}: directory {printable(directory)} not found",
            f"create or mount it, or choose another one with ltsp --{which}-dir",
        )
    for _ in range(_MAX_ATTEMPTS):
        files.make_directories(directory.rstrip("/"), _PARENT_MODE)
        if os.access(directory, os.W_OK | os.X_OK):
            return
        if os.path.isdir(directory):
            read_only = bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
            raise LtspError(
                f"cannot publish {name}: {printable(directory)} is "
                + ("mounted read-only" if read_only else "not writable"),
                ("remount it read-write" if read_only else "run as root")
                + f", or choose another one with ltsp --{which}-dir",
            )
