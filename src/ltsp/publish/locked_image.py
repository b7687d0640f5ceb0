"""What can be done with an image's versions by whoever holds its lock. Each change is durable when its call returns."""

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
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, ImagePaths
from ltsp.publish.removal import RemovedImage
from ltsp.publish.retention import RemovedVersion, Retention
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
        """See, before hours are spent on a version, that its pointer and its names can be switched to it.

        Raises LtspError where one of them is a directory, a mount point or immutable.
        """
        paths = self.paths
        names = [paths.pointer, paths.current, paths.image, *paths.links, *([paths.old] if backup else [])]
        disk_errors.check_replaceable(paths.name, names)

    @contextmanager
    def stage_image(self, image_bytes: int = 0, boot_bytes: int = 0) -> Iterator[StagedImage]:
        """A new image to write and publish; it leaves no trace unless it is published.

        `image_bytes` and `boot_bytes` are what the image, and kernel and initrds, take for certain.

        Raises LtspError where there is less room than that.
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
        """A new version with these boot files and the image of another one, by default of the one that NAME.img is.

        Where NAME.img is not ours, or the root of the clients is a chroot, the version has no image of its own.
        """
        with translate_os_errors("publish the kernel of", self.paths), self._with_kernel(contents, of) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish(SwitchOptions(keep))

    def publish_kernel_later(
        self, contents: VersionContents, *, of: Version | None = None
    ) -> StagedVersion | Unchanged:
        """The same, as a version that waits for `publish_staged`."""
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
            # Foreign images have no hash: only the file itself tells whether it is the current one's.
            is_shown = shared is None or (
                current is not None and current.is_image_of(shared) and current.is_image_of(now.image)
            )
            same = current is not None and is_shown and current.has_content(image, facts(new))
            if current and same and has_intact_boot_files(current):
                # Without an image of its own, a version comes from where its kernel does.
                yield Unchanged(current if shared else record_source(current, contents.source))
                return
            manifest = contents.manifest(paths.name, Origin.KERNEL, image, facts(new))
            if shared:
                # The image is the other version's, and so are the facts about it.
                old = shared.manifest
                manifest = replace(manifest, source=old.source, packages=old.packages, setuid=old.setuid)
            digits = shared.id.rpartition("-")[2] if shared else _DIGITS_OF_NO_IMAGE
            link = hard_link_to(shared.image) if shared else None
            parts = VersionParts(manifest, digits, link, boot_file_links(new, current))
            twin = find_waiting_twin(now, parts)
            if twin and shared and not twin.is_image_of(shared):
                twin = None
            # A version that was the same once and is damaged now is nothing to go back to.
            yield PreparedVersion(paths, parts, twin, replaces_damaged=same)

    def publish_staged(
        self, staged: StagedVersion, *, backup: bool = True, keep: Retention = DEFAULT_RETENTION
    ) -> PublishedVersion:
        """Make a version that waited the current one. `backup` is whether NAME.img.old is to name what is replaced."""
        with translate_os_errors("publish", self.paths):
            return activate_version(staged.version, SwitchOptions(keep, backup and not staged.replaces_damaged))

    def before(self) -> Version:
        """Where going back leads; a NAME.img.old that is not ours becomes a version.

        That one has no kernel yet: whoever goes back takes one out of it, `publish_kernel(…, of=before)`.

        Raises LtspError where there is nothing.
        """
        with translate_os_errors("go back to the version before of", self.paths):
            now = self.state()
            target = adopt_foreign_image(now, now.old) if isinstance(now.old, ForeignImage) else now.old
            target = target or now.before
            if target is None or (now.current == target and target.is_image_of(now.image)):
                raise LtspError(
                    f"there is no version of {self.paths.name} to go back to",
                    f"ltsp versions {self.paths.name} lists what there is",
                )
            return target

    def revert(self, keep: Retention = DEFAULT_RETENTION) -> PublishedVersion | Unchanged:
        """Exchange the current version and the one before; doing it twice changes nothing."""
        return self.use(self.before().id, keep)

    def use(self, version: str, keep: Retention = DEFAULT_RETENTION) -> PublishedVersion | Unchanged:
        """Make any version the current one.

        Raises LtspError where that has no kernel and the current one has.
        """
        with translate_os_errors("switch", self.paths):
            now = self.state()
            target = now.require_version(version)
            name = self.paths.name
            if damage := target.damage:
                raise LtspError(
                    f"version {version} of {name} is damaged: {damage}", f"ltsp versions {name} lists others"
                )
            if not target.has_kernel and now.current and now.current.has_kernel:
                # Only `publish_kernel(of=target)` makes it one that clients can boot.
                raise LtspError(f"version {version} of {name} has no kernel, and clients boot {now.current.id}")
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
        """Raises LtspError where the version is current, pinned or in use."""
        with translate_os_errors("remove a version of", self.paths):
            gc.remove_unused_version(self.paths, version)

    def prune(self, versions: int) -> tuple[str, ...]:
        """Remove all but so many images, however young; what is pinned, in use or not ours stays."""
        with translate_os_errors("remove versions of", self.paths):
            gone = gc.collect_garbage(self.paths, Retention(versions, days=0), keep_before=versions > 1)
            return tuple(each.id for each in gone)

    def remove_all(self, *, force: bool = False) -> RemovedImage:
        """Remove the image from clients and from the disk, with all of its versions, kernels and names.

        Raises LtspError where a version is pinned, in use or not made here, unless `force`; nothing was removed then.
        """
        with translate_os_errors("remove", self.paths):
            return removal.remove_image(self.paths, force=force)

    def remove_deleted(self, keep: Retention = DEFAULT_RETENTION) -> tuple[RemovedVersion, ...]:
        """Where NAME.img was deleted by hand, take the rest from clients too, and collect what no rule keeps."""
        with translate_os_errors("tidy up", self.paths):
            return removal.remove_deleted(self.paths, keep)


_INODES = 16
"""Of a version and what leads to it: directories, image, manifest, kernel, initrds, pointer, links."""
_DIGITS_OF_NO_IMAGE = "0" * 8


def _check_space(paths: ImagePaths, image_bytes: int, boot_bytes: int) -> None:
    if files.on_same_disk(paths.versions, paths.boot):
        image_bytes += boot_bytes
    for directory, needed in ((paths.versions, image_bytes), (paths.boot, boot_bytes)):
        inodes = files.free_inodes(directory)
        if inodes is not None and inodes < _INODES:
            where = printable(files.existing_directory(directory))
            raise LtspError(
                f"not enough inodes for {paths.name} in {where}: a version needs about {_INODES}, {inodes} are left",
                f"df -i {where} counts them: remove files there{disk_errors.by_pruning(paths)}",
            )
        free = files.free_bytes(directory)
        if free < needed:
            raise LtspError(
                f"not enough space for {paths.name} in {printable(directory)}: "
                f"at least {needed >> 20} MiB needed, {free >> 20} MiB free",
                f"free some space there{disk_errors.by_pruning(paths)}",
            )
