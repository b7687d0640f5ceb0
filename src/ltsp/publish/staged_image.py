"""A new image while it is being written, on the file system where it will be published."""

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
from ltsp.publish.gc import Retention
from ltsp.publish.manifest import ImageFacts, Origin
from ltsp.publish.paths import PUBLIC_MODE, ImagePaths
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
        """The time `fsync` and `sha256` of the image took; both run in parallel with each other and the caller."""
        return self.staged_file.seconds

    def flush_in_background(self, compute_hash: Callable[[int], str] = compute_sha256) -> None:
        """Start flushing and hashing; the image must not be written to afterwards.

        `compute_hash` may check more than the sha256 while it reads the image; `publish` raises what it raises.
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
        """Switch clients to the image and its boot files in one step.

        `backup`: whether NAME.img.old keeps the replaced image. `group` is a group ID.

        Raises LtspError if writing fails; the previous version is then untouched and still current.
        """
        with translate_os_errors("publish", self.paths), self._prepare(contents, mode, group) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish(SwitchOptions(keep, backup))

    def publish_later(
        self, contents: VersionContents, *, mode: int = PUBLIC_MODE, group: int | None = None
    ) -> StagedVersion | Unchanged:
        """Store it durably as a version that waits for `LockedImage.publish_staged`; clients boot the same as before.

        Raises LtspError if writing fails.
        """
        with translate_os_errors("stage a version of", self.paths), self._prepare(contents, mode, group) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish_later()

    @contextmanager
    def _prepare(
        self, contents: VersionContents, mode: int, group: int | None
    ) -> Iterator[PreparedVersion | Unchanged]:
        """The parts of a new version, flushed to disk; or the current version, if it is identical."""
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
