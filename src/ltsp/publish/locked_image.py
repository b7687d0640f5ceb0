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
from ltsp.publish.adopt import adopt
from ltsp.publish.assembly import Parts, another_name_of, record_source
from ltsp.publish.boot_files import boot_files, facts, has_its_boot_files, links
from ltsp.publish.contents import Contents, Published, Staged, Unchanged
from ltsp.publish.disk_errors import told
from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import DIRECTORY_MODE, PUBLIC_MODE, Places
from ltsp.publish.removal import Removed
from ltsp.publish.retention import Collected, Retention
from ltsp.publish.stage import Stage
from ltsp.publish.staged_file import draft
from ltsp.publish.state import Foreign, State
from ltsp.publish.succeed import DEFAULT, Ready, Succession, succeed, waiting_twin
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class Held:
    places: Places

    def state(self) -> State:
        return states.read(self.places)

    def check_replaceable(self, *, backup: bool) -> None:
        """See, before hours are spent on a version, that its pointer and its names can be switched to it.

        Raises LtspError where one of them is a directory, a mount point or immutable.
        """
        places = self.places
        names = [places.pointer, places.current, places.image, *places.links, *([places.old] if backup else [])]
        disk_errors.check_replaceable(places.name, names)

    @contextmanager
    def stage(self, image_bytes: int = 0, boot_bytes: int = 0) -> Iterator[Stage]:
        """A new image to write and publish; it leaves no trace unless it is published.

        `image_bytes` and `boot_bytes` are what the image, and kernel and initrds, take for certain.

        Raises LtspError where there is less room than that.
        """
        with ExitStack() as stack:
            with told("prepare a version of", self.places):
                files.make_directories(self.places.versions, DIRECTORY_MODE)
                _check_space(self.places, image_bytes, boot_bytes)
                new = stack.enter_context(draft(self.places.versions))
            yield Stage(self.places, new)

    def publish_kernel(
        self, contents: Contents, *, of: Generation | None = None, keep: Retention = DEFAULT
    ) -> Published | Unchanged:
        """A new version with these boot files and the image of another one, by default of the one that NAME.img is.

        Where NAME.img is not ours, or the root of the clients is a chroot, the version has no image of its own.
        """
        with told("publish the kernel of", self.places), self._with_kernel(contents, of) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish(Succession(keep))

    def publish_kernel_later(self, contents: Contents, *, of: Generation | None = None) -> Staged | Unchanged:
        """The same, as a version that waits for `publish_staged`."""
        with told("stage the kernel of", self.places), self._with_kernel(contents, of) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish_later()

    @contextmanager
    def _with_kernel(self, contents: Contents, of: Generation | None) -> Iterator[Ready | Unchanged]:
        places = self.places
        with boot_files(places, contents.files) as new:
            now = self.state()
            shared = of or (now.image if isinstance(now.image, Generation) else None)
            image = shared.manifest.image if shared else None
            current = now.current
            # Foreign images have no hash: only the file itself tells whether it is the current one's.
            is_shown = shared is None or (
                current is not None and current.is_image_of(shared) and current.is_image_of(now.image)
            )
            same = current is not None and is_shown and current.holds(image, facts(new))
            if current and same and has_its_boot_files(current):
                # Without an image of its own, a version comes from where its kernel does.
                yield Unchanged(current if shared else record_source(current, contents.source))
                return
            manifest = contents.manifest(places.name, Origin.KERNEL, image, facts(new))
            if shared:
                # The image is the other version's, and so are the facts about it.
                old = shared.manifest
                manifest = replace(manifest, source=old.source, packages=old.packages, setuid=old.setuid)
            digits = shared.version.rpartition("-")[2] if shared else _DIGITS_OF_NO_IMAGE
            link = another_name_of(shared.image) if shared else None
            parts = Parts(manifest, digits, link, links(new, current))
            twin = waiting_twin(now, parts)
            if twin and shared and not twin.is_image_of(shared):
                twin = None
            # A version that was the same once and is damaged now is nothing to go back to.
            yield Ready(places, parts, twin, replaces_damaged=same)

    def publish_staged(self, staged: Staged, *, backup: bool = True, keep: Retention = DEFAULT) -> Published:
        """Make a version that waited the current one. `backup` is whether NAME.img.old is to name what is replaced."""
        with told("publish", self.places):
            return succeed(staged.generation, Succession(keep, backup and not staged.replaces_damaged))

    def before(self) -> Generation:
        """Where going back leads; a NAME.img.old that is not ours becomes a version.

        That one has no kernel yet: whoever goes back takes one out of it, `publish_kernel(…, of=before)`.

        Raises LtspError where there is nothing.
        """
        with told("go back to the version before of", self.places):
            now = self.state()
            target = adopt(now, now.old) if isinstance(now.old, Foreign) else now.old
            target = target or now.before
            if target is None or (now.current == target and target.is_image_of(now.image)):
                raise LtspError(
                    f"there is no version of {self.places.name} to go back to",
                    f"ltsp versions {self.places.name} lists what there is",
                )
            return target

    def revert(self, keep: Retention = DEFAULT) -> Published | Unchanged:
        """Exchange the current version and the one before; doing it twice changes nothing."""
        return self.use(self.before().version, keep)

    def use(self, version: str, keep: Retention = DEFAULT) -> Published | Unchanged:
        """Make any version the current one.

        Raises LtspError where that has no kernel and the current one has.
        """
        with told("switch", self.places):
            now = self.state()
            target = now.existing(version)
            name = self.places.name
            if harm := target.harm:
                raise LtspError(f"version {version} of {name} is damaged: {harm}", f"ltsp versions {name} lists others")
            if not target.bootable and now.current and now.current.bootable:
                # Only `publish_kernel(of=target)` makes it one that clients can boot.
                raise LtspError(f"version {version} of {name} has no kernel, and clients boot {now.current.version}")
            if target.manifest.image is None and isinstance(now.image, Generation):
                raise LtspError(f"version {version} of {name} has no image of its own", f"ltsp kernel {name}")
            if now.current == target and (target.image_id is None or target.is_image_of(now.image)):
                return Unchanged(target)
            return succeed(target, Succession(keep))

    def pin(self, version: str) -> None:
        """Keep a version until it is unpinned."""
        with told("pin a version of", self.places):
            if not self.state().existing(version).pinned:
                files.create(self.places.pin(version), b"", PUBLIC_MODE)
                files.sync_directory(self.places.version(version))

    def unpin(self, version: str) -> None:
        with told("unpin a version of", self.places):
            if self.state().existing(version).pinned:
                os.unlink(self.places.pin(version))
                files.sync_directory(self.places.version(version))

    def remove(self, version: str) -> None:
        """Raises LtspError where the version is current, pinned or in use."""
        with told("remove a version of", self.places):
            gc.remove_one(self.places, version)

    def prune(self, versions: int) -> tuple[str, ...]:
        """Remove all but so many images, however young; what is pinned, in use or not ours stays."""
        with told("remove versions of", self.places):
            gone = gc.retain(self.places, Retention(versions, days=0), keep_before=versions > 1)
            return tuple(each.version for each in gone)

    def remove_all(self, *, force: bool = False) -> Removed:
        """Remove the image from clients and from the disk, with all of its versions, kernels and names.

        Raises LtspError where a version is pinned, in use or not made here, unless `force`; nothing was removed then.
        """
        with told("remove", self.places):
            return removal.remove_all(self.places, force=force)

    def tidy(self, keep: Retention = DEFAULT) -> tuple[Collected, ...]:
        """Where NAME.img was deleted by hand, take the rest from clients too, and collect what no rule keeps."""
        with told("tidy up", self.places):
            return removal.tidy(self.places, keep)


_INODES = 16
"""Of a version and what leads to it: directories, image, manifest, kernel, initrds, pointer, links."""
_DIGITS_OF_NO_IMAGE = "0" * 8


def _check_space(places: Places, image_bytes: int, boot_bytes: int) -> None:
    if files.on_same_disk(places.versions, places.boot):
        image_bytes += boot_bytes
    for directory, needed in ((places.versions, image_bytes), (places.boot, boot_bytes)):
        inodes = files.free_inodes(directory)
        if inodes is not None and inodes < _INODES:
            where = printable(files.existing_directory(directory))
            raise LtspError(
                f"not enough inodes for {places.name} in {where}: a version needs about {_INODES}, {inodes} are left",
                f"df -i {where} counts them: remove files there{disk_errors.by_pruning(places)}",
            )
        free = files.free_bytes(directory)
        if free < needed:
            raise LtspError(
                f"not enough space for {places.name} in {printable(directory)}: "
                f"at least {needed >> 20} MiB needed, {free >> 20} MiB free",
                f"free some space there{disk_errors.by_pruning(places)}",
            )
