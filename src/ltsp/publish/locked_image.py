"""Operations on an image's versions while its lock is held. Each change is durable when its call returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import disk_errors, gc, removal
from ltsp.publish import state as states
from ltsp.publish.activation import (
    DEFAULT_RETENTION,
    PreparedVersion,
    SwitchOptions,
    activate_version,
    find_waiting_twin,
)
from ltsp.publish.adopt import adopt_foreign_image
from ltsp.publish.assembly import VersionParts, hard_link_to, record_source
from ltsp.publish.boot_files import boot_file_links, facts, has_intact_boot_files, stage_boot_files
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.gc import RemovedVersion, Retention
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths
from ltsp.publish.removal import RemovedImage
from ltsp.publish.staged_file import open_staged_file
from ltsp.publish.staged_image import StagedImage
from ltsp.publish.state import ForeignImage, ImageState
from ltsp.publish.version import Version
from ltsp.publish.version_contents import PublishedVersion, StagedVersion, Unchanged, VersionContents
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class LockedImage:
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

    @contextmanager
    def stage_image(self, image_bytes: int = 0, boot_bytes: int = 0) -> Iterator[StagedImage]:
        """A new image to write and publish; it leaves no trace unless it is published.

        `image_bytes` and `boot_bytes` are lower bounds for the size of the image, and of kernel and initrds.

        Raises LtspError if there is less space than that.
        """
        with ExitStack() as stack:
            with translate_os_errors("prepare a version of", self.paths):
                files.make_directories(self.paths.versions, DIRECTORY_MODE)
                _check_space(self.paths, image_bytes, boot_bytes)
                new = stack.enter_context(open_staged_file(self.paths.versions))
            yield StagedImage(self.paths, new)

    def publish_kernel(
        self, contents: VersionContents, *, of: Version | None = None, keep: Retention = DEFAULT_RETENTION
    ) -> PublishedVersion | Unchanged:
        """Publish a version with these boot files and the image of version `of`, by default the one that NAME.img is.

        If ltsp did not make NAME.img, or the clients' root is a chroot, the version has no image of its own.
        """
        with translate_os_errors("publish the kernel of", self.paths), self._with_kernel(contents, of) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish(SwitchOptions(keep))

    def publish_kernel_later(
        self, contents: VersionContents, *, of: Version | None = None
    ) -> StagedVersion | Unchanged:
        """Like `publish_kernel`, but the version waits for `publish_staged`."""
        with translate_os_errors("stage the kernel of", self.paths), self._with_kernel(contents, of) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish_later()

    @contextmanager
    def _with_kernel(self, contents: VersionContents, of: Version | None) -> Iterator[PreparedVersion | Unchanged]:
        paths = self.paths
        with stage_boot_files(paths, contents.files) as new:
            now = self.state()
            shared = of or (now.image if isinstance(now.image, Version) else None)
            image = shared.manifest.image if shared else None
            current = now.current
            # Foreign images have no hash, so compare the files themselves.
            is_shown = shared is None or (
                current is not None and current.is_image_of(shared) and current.is_image_of(now.image)
            )
            same = current is not None and is_shown and current.has_content(image, facts(new))
            if current and same and has_intact_boot_files(current):
                # The source of a version without an image is that of its kernel.
                yield Unchanged(current if shared else record_source(current, contents.source))
                return
            manifest = contents.manifest(paths.name, Origin.KERNEL, image, facts(new))
            if shared:
                # The image belongs to the other version, so the facts about it are that version's too.
                old = shared.manifest
                manifest = replace(manifest, source=old.source, packages=old.packages, setuid=old.setuid)
            digits = shared.id.rpartition("-")[2] if shared else _DIGITS_OF_NO_IMAGE
            link = hard_link_to(shared.image) if shared else None
            parts = VersionParts(manifest, digits, link, boot_file_links(new, current))
            twin = find_waiting_twin(now, parts)
            if twin and shared and not twin.is_image_of(shared):
                twin = None
            # Nobody should revert to a version that had the same content and is damaged now.
            yield PreparedVersion(paths, parts, twin, replaces_damaged=same)

    def publish_staged(
        self, staged: StagedVersion, *, backup: bool = True, keep: Retention = DEFAULT_RETENTION
    ) -> PublishedVersion:
        """Make a staged version the current one. `backup`: whether NAME.img.old keeps the replaced image."""
        with translate_os_errors("publish", self.paths):
            return activate_version(staged.version, SwitchOptions(keep, backup and not staged.replaces_damaged))

    def before(self) -> Version:
        """The version that a revert leads to; a NAME.img.old that ltsp did not make becomes a version.

        That one has no kernel yet: the caller extracts one from its image, `publish_kernel(…, of=before)`.

        Raises LtspError if there is none.
        """
        with translate_os_errors("find the previous version of", self.paths):
            now = self.state()
            target = adopt_foreign_image(now, now.old) if isinstance(now.old, ForeignImage) else now.old
            target = target or now.before
            if target is None or (now.current == target and target.is_image_of(now.image)):
                raise LtspError(
                    f"{self.paths.name} has no previous version to revert to",
                    f"list its versions: ltsp versions {self.paths.name}",
                )
            return target

    def revert(self, keep: Retention = DEFAULT_RETENTION) -> PublishedVersion | Unchanged:
        """Exchange the current and the previous version; a second revert undoes the first."""
        return self.use(self.before().id, keep)

    def use(self, version: str, keep: Retention = DEFAULT_RETENTION) -> PublishedVersion | Unchanged:
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
                raise LtspError(f"version {version} of {name} has no image of its own", f"ltsp kernel {name}")
            if now.current == target and (target.image_id is None or target.is_image_of(now.image)):
                return Unchanged(target)
            return activate_version(target, SwitchOptions(keep))

    def pin(self, version: str) -> None:
        """Keep a version until it is unpinned."""
        with translate_os_errors("pin a version of", self.paths):
            if not self.state().require_version(version).pinned:
                files.create(self.paths.pin(version), b"", PUBLIC_MODE)
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
            gone = gc.collect_garbage(self.paths, Retention(versions, days=0), keep_before=versions > 1)
            return tuple(each.id for each in gone)

    def remove_all(self, *, force: bool = False) -> RemovedImage:
        """Withdraw the image from clients and delete all of its versions, kernels and names.

        Raises LtspError, before anything is removed, if a version is pinned, in use or foreign, unless `force`.
        """
        with translate_os_errors("remove", self.paths):
            return removal.remove_image(self.paths, force=force)

    def remove_deleted(self, keep: Retention = DEFAULT_RETENTION) -> tuple[RemovedVersion, ...]:
        """If NAME.img was deleted by hand, withdraw the rest from clients too, and remove what no rule keeps."""
        with translate_os_errors("clean up", self.paths):
            return removal.remove_deleted(self.paths, keep)


_INODES = 16
"""Inodes of a version: directories, image, manifest, kernel, initrds, pointer, links."""
_DIGITS_OF_NO_IMAGE = "0" * 8


def _check_space(paths: ImagePaths, image_bytes: int, boot_bytes: int) -> None:
    if files.on_same_disk(paths.versions, paths.boot):
        image_bytes += boot_bytes
    # The directories of the image itself are removed again if this is its first version.
    for directory, place, needed in (
        (paths.versions, paths.base_dir, image_bytes),
        (paths.boot, paths.tftp_dir, boot_bytes),
    ):
        inodes = files.free_inodes(directory)
        if inodes is not None and inodes < _INODES:
            where = printable(place)
            raise LtspError(
                f"not enough inodes for {paths.name} in {where}: a version needs about {_INODES}, {inodes} are left",
                f"remove files there (df -i {where} counts inodes){disk_errors.by_pruning(paths)}",
            )
        free = files.free_bytes(directory)
        if free < needed:
            raise LtspError(
                f"not enough space for {paths.name} in {printable(place)}: "
                f"at least {needed >> 20} MiB needed, {free >> 20} MiB free",
                f"free some space there{disk_errors.by_pruning(paths)}",
            )
