"""A new image being written in the place where it is going to be published."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ltsp.host import files
from ltsp.publish import state as states
from ltsp.publish.assembly import Parts, record_source
from ltsp.publish.boot_files import boot_files, facts, has_its_boot_files, has_its_image, links
from ltsp.publish.contents import Contents, Published, Staged, Unchanged
from ltsp.publish.disk_errors import told
from ltsp.publish.manifest import ImageFacts, Origin
from ltsp.publish.paths import PUBLIC_MODE, Places
from ltsp.publish.retention import Retention
from ltsp.publish.staged_file import Draft, sha256
from ltsp.publish.succeed import DEFAULT, Ready, Succession, waiting_twin


@dataclass(frozen=True, slots=True)
class Stage:
    places: Places
    draft: Draft

    @property
    def image(self) -> io.FileIO:
        """The raw file to write: unbuffered, seekable, open for reading too, mode 0600."""
        return self.draft.image

    @property
    def seconds(self) -> Mapping[str, float]:
        """What `fsync` and `sha256` of the image took, which run beside each other and beside the caller."""
        return self.draft.seconds

    def flush_in_background(self, hashed: Callable[[int], str] = sha256) -> None:
        """Begin with that; the image must not be written to any more.

        `hashed` may see to more than the sha256 while it reads all of it; what it raises, `publish` raises.
        """
        self.draft.flush_in_background(hashed)

    def publish(
        self,
        contents: Contents,
        *,
        backup: bool = True,
        keep: Retention = DEFAULT,
        mode: int = PUBLIC_MODE,
        group: int | None = None,
    ) -> Published | Unchanged:
        """Put the image and its boot files before the clients in one step.

        `backup` is whether NAME.img.old is to name what is replaced; `group` is an id.

        Raises LtspError where the disk refuses, in which case the version before is untouched and current.
        """
        with told("publish", self.places), self._finished(contents, mode, group) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish(Succession(keep, backup))

    def publish_later(
        self, contents: Contents, *, mode: int = PUBLIC_MODE, group: int | None = None
    ) -> Staged | Unchanged:
        """Make it a version that waits for `Held.publish_staged`, durably; clients boot what they did before.

        Raises LtspError where the disk refuses.
        """
        with told("stage a version of", self.places), self._finished(contents, mode, group) as ready:
            return ready if isinstance(ready, Unchanged) else ready.publish_later()

    @contextmanager
    def _finished(self, contents: Contents, mode: int, group: int | None) -> Iterator[Ready | Unchanged]:
        """What a version is to be made of, written and on the disk; or the current one, where that is just this."""
        places = self.places
        self.flush_in_background()
        with boot_files(places, contents.files) as new:
            written = self.draft.finished()
            image = ImageFacts(written.size, written.sha256, contents.codec)
            now = states.read(places)
            current = now.current
            same = current is not None and current.is_image_of(now.image) and current.holds(image, facts(new))
            if current and same and has_its_boot_files(current) and has_its_image(current):
                _set_access(current.image, mode, group)
                yield Unchanged(record_source(current, contents.source))
                return
            parts = Parts(
                contents.manifest(places.name, Origin.BUILT, image, facts(new)),
                image.sha256,
                lambda path: self.draft.link(path, mode, group),
                links(new, current),
            )
            twin = waiting_twin(now, parts)
            if twin:
                _set_access(twin.image, mode, group)
            yield Ready(places, parts, twin, replaces_damaged=same)


def _set_access(path: str, mode: int, group: int | None) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        files.set_access(descriptor, mode, group)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
