"""One version as it lies on the disk: complete, because its manifest is there, and what clients get never changes.

Of its manifest, only the source is written again, where that moved: `assembly.record_source`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from os.path import join

from ltsp.errors import FormatError
from ltsp.host import files
from ltsp.publish.manifest import FileFacts, ImageFacts, Manifest
from ltsp.publish.paths import KERNEL, ImagePaths
from ltsp.tree.name import printable


@dataclass(frozen=True, slots=True)
class Version:
    paths: ImagePaths
    manifest: Manifest
    image_id: tuple[int, int] | None
    """Device and inode; versions that differ in the kernel alone share them. None where it has no image."""
    pinned: bool
    last_current: float
    """When it was last switched away from, or made; seconds since 1970. The time of its manifest.json holds this."""
    staged: bool = False
    """Whether it was made to wait, and was never current."""

    @property
    def id(self) -> str:
        return self.manifest.version

    @property
    def image(self) -> str:
        """Path of the image; the file may not be there, see `image_id`."""
        return self.paths.version_image(self.id)

    @property
    def has_kernel(self) -> bool:
        """Whether clients find a kernel."""
        return KERNEL in self.manifest.files

    def is_image_of(self, other: object) -> bool:
        """Whether the other one is a version with the same image, as those that differ in the kernel alone are."""
        return isinstance(other, Version) and self.image_id is not None and self.image_id == other.image_id

    @property
    def damage(self) -> str:
        """Which of its files is gone or has another size than when it was made, safe to print; empty if none."""
        image = self.manifest.image
        sizes = {self.file(name): facts.size for name, facts in self.manifest.files.items()}
        if image is not None and image.sha256:  # what others made may be a disk that is written to
            sizes[self.image] = image.size
        for path, size in sizes.items():
            found = files.size(path)
            if found is None:
                return f"{printable(path)} is gone"
            if found != size:
                return f"{printable(path)} has {found} bytes, not {size}"
        return ""

    def has_content(self, image: ImageFacts | None, boot_files: Mapping[str, FileFacts]) -> bool:
        """Whether it is made of just these bytes."""
        own = self.manifest.image
        return (own and own.sha256) == (image and image.sha256) and dict(self.manifest.files) == dict(boot_files)

    def file(self, name: str) -> str:
        """Path of a file that clients fetch: `vmlinuz`, `initrd.img`."""
        return join(self.paths.boot_version(self.id), name)

    @classmethod
    def load(cls, paths: ImagePaths, version_id: str) -> Version:
        """Raises FileNotFoundError where the version is not complete, FormatError where its manifest is damaged."""
        path = paths.manifest(version_id)
        with open(path, "rb") as file:
            manifest = Manifest.from_json(file.read())
            last_current = os.fstat(file.fileno()).st_mtime
        if (manifest.name, manifest.version) != (paths.name, version_id):
            raise FormatError("damaged manifest.json", "it is that of another version")
        image_id = files.file_id(paths.version_image(version_id))
        pinned = os.path.lexists(paths.pin(version_id))
        staged = os.path.lexists(paths.staged(version_id))
        return cls(paths, manifest, image_id, pinned, last_current, staged)
