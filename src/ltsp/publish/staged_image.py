"""A new image being written in the place where it is going to be published."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.host import files
from ltsp.publish import state as states
from ltsp.publish.activation import DEFAULT_RETENTION, PreparedVersion, SwitchOptions, find_waiting_twin
from ltsp.publish.assembly import VersionParts, record_source
from ltsp.publish.boot_files import boot_file_links, facts, has_intact_boot_files, has_intact_image, stage_boot_files
from ltsp.publish.disk_errors import translate_os_errors
from ltsp.publish.manifest import ImageFacts, Origin
from ltsp.publish.paths import PUBLIC_MODE, ImagePaths
from ltsp.publish.retention import Retention
from ltsp.publish.staged_file import StagedFile, compute_sha256
from ltsp.publish.version_contents import PublishedVersion, StagedVersion, Unchanged, VersionContents


@dataclass(frozen=True, slots=True)
class StagedImage:
    paths: ImagePaths
    staged_file: StagedFile

    @property
    def image(self) -> io.FileIO:
        """The raw file to write: unbuffered, seekable, open for reading too, mode 0600."""
        return self.staged_file.image

    @property
    def seconds(self) -> Mapping[str, float]:
        """What `fsync` and `sha256` of the image took, which run beside each other and beside the caller."""
        return self.staged_file.seconds

    def flush_in_background(self, compute_hash: Callable[[int], str] = compute_sha256) -> None:
        """Begin with that; the image must not be written to any more.

        `compute_hash` may see to more than the sha256 while it reads all of it; what it raises, `publish` raises.
        """
        self.staged_file.flush_in_background(compute_hash)

    def publish(
        self,
        contents: VersionContents,
        *,
        backup: bool = True,
        keep: Retention = DEFAULT_RETENTION,
        mode: int = PUBLIC_MODE,
        group: int | None = None,
    ) -> PublishedVersion | Unchanged:
        """Put the image and its boot files before the clients in one step.

        `backup` is whether NAME.img.old is to name what is replaced; `group` is an id.

        Raises LtspError where the disk refuses, in which case the version before is untouched and current.
        """
        with translate_os_errors("publish", self.paths), self._prepare(contents, mode, group) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish(SwitchOptions(keep, backup))

    def publish_later(
        self, contents: VersionContents, *, mode: int = PUBLIC_MODE, group: int | None = None
    ) -> StagedVersion | Unchanged:
        """Make it a version that waits for `LockedImage.publish_staged`, durably; clients boot what they did before.

        Raises LtspError where the disk refuses.
        """
        with translate_os_errors("stage a version of", self.paths), self._prepare(contents, mode, group) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish_later()

    @contextmanager
    def _prepare(
        self, contents: VersionContents, mode: int, group: int | None
    ) -> Iterator[PreparedVersion | Unchanged]:
        """What a version is to be made of, written and on the disk; or the current one, where that is just this."""
        paths = self.paths
        self.flush_in_background()
        with stage_boot_files(paths, contents.files) as new:
            written = self.staged_file.finish()
            image = ImageFacts(written.size, written.sha256, contents.codec)
            now = states.read_state(paths)
            current = now.current
            same = current is not None and current.is_image_of(now.image) and current.has_content(image, facts(new))
            if current and same and has_intact_boot_files(current) and has_intact_image(current):
                _set_access(current.image, mode, group)
                yield Unchanged(record_source(current, contents.source))
                return
            parts = VersionParts(
                contents.manifest(paths.name, Origin.BUILT, image, facts(new)),
                image.sha256,
                lambda path: self.staged_file.link(path, mode, group),
                boot_file_links(new, current),
            )
            twin = find_waiting_twin(now, parts)
            if twin:
                _set_access(twin.image, mode, group)
            yield PreparedVersion(paths, parts, twin, replaces_damaged=same)


def _set_access(path: str, mode: int, group: int | None) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        files.set_access(descriptor, mode, group)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
