"""One version on disk: complete, since its manifest exists, and immutable in what clients get.

Of its manifest only the source may be updated, if that moved: `assembly.record_source`.

Its ID is when it was created, and the first digits of its image's sha256: `20260131T174512Z-1a2b3c4d` sorts by time as
text, is unique within its image, and needs quoting nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from os.path import join

from ltsp.errors import FormatError
from ltsp.host import files
from ltsp.publish.manifest import FileFacts, ImageFacts, Manifest
from ltsp.publish.paths import KERNEL, ImagePaths
from ltsp.tree.name import printable

_CHUNK_SIZE = 1 << 20
"""Bytes read at a time."""
_ID_PATTERN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_ID_TIME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Version:
    paths: ImagePaths
    manifest: Manifest
    image_id: tuple[int, int] | None
    """Device and inode; versions that differ only in the kernel share them. None if it has no image."""
    pinned: bool
    last_current: float
    """When it was last replaced, or else created; seconds since 1970. Stored as the mtime of its manifest.json."""
    staged: bool = False
    """Whether it is waiting to become current, and never was."""

    @property
    def id(self) -> str:
        return self.manifest.version

    @property
    def image(self) -> str:
        """Path of the image; the file may not exist, see `image_id`."""
        return self.paths.version_image(self.id)

    @property
    def has_kernel(self) -> bool:
        """Whether it has a kernel for clients."""
        return KERNEL in self.manifest.files

    def is_image_of(self, other: object) -> bool:
        """Whether the other one is a version with the same image, as versions that differ only in the kernel are."""
        return isinstance(other, Version) and self.image_id is not None and self.image_id == other.image_id

    @property
    def damage(self) -> str:
        """The first file that is missing or whose size changed, safe to print; empty if there is none."""
        image = self.manifest.image
        sizes = {self.file(name): facts.size for name, facts in self.manifest.files.items()}
        if image is not None and image.sha256:  # a foreign image may be a disk that is written to
            sizes[self.image] = image.size
        for path, size in sizes.items():
            found = files.file_size(path)
            if found is None:
                return f"{printable(path)} is missing"
            if found != size:
                return f"{printable(path)} has {found} bytes, not {size}"
        return ""

    def has_content(self, image: ImageFacts | None, boot_files: Mapping[str, FileFacts]) -> bool:
        """Whether it has exactly this content."""
        own = self.manifest.image
        return (own and own.sha256) == (image and image.sha256) and dict(self.manifest.files) == dict(boot_files)

    @property
    def has_intact_boot_files(self) -> bool:
        """Whether the boot files are unchanged since the version was created. Reads them completely."""
        return all(read_facts_if_present(self.file(name)) == facts for name, facts in self.manifest.files.items())

    @property
    def has_intact_image(self) -> bool:
        """Whether the image is unchanged since the version was created. Reads it completely."""
        image = self.manifest.image
        return image is None or read_facts_if_present(self.image) == FileFacts(image.size, image.sha256)

    def file(self, name: str) -> str:
        """Path of a boot file: `vmlinuz`, `initrd.img`."""
        return join(self.paths.boot_version(self.id), name)

    @classmethod
    def load(cls, paths: ImagePaths, version_id: str) -> Version:
        """Raises FileNotFoundError if the version is not complete, FormatError if its manifest is damaged."""
        path = paths.manifest(version_id)
        with open(path, "rb") as file:
            manifest = Manifest.from_json(file.read())
            last_current = os.fstat(file.fileno()).st_mtime
        if (manifest.name, manifest.version) != (paths.name, version_id):
            raise FormatError(
                f"manifest.json belongs to version {printable(manifest.version)} of {printable(manifest.name)}",
                "remove this version and publish again",
            )
        image_id = files.file_id(paths.version_image(version_id))
        pinned = os.path.lexists(paths.pin(version_id))
        staged = os.path.lexists(paths.staged(version_id))
        return cls(paths, manifest, image_id, pinned, last_current, staged)


def is_version_id(name: str) -> bool:
    if not _ID_PATTERN.fullmatch(name):
        return False
    try:
        parse_time(name)
    except ValueError:
        return False
    return True


def new_version_id(now: datetime, sha256: str, existing: Iterable[str]) -> str:
    """A name that sorts after all existing ones, even if the clock went back or two are created in one second."""
    moment = max([now, *(parse_time(version) + timedelta(seconds=1) for version in existing)])
    return f"{moment.astimezone(UTC).strftime(_ID_TIME_FORMAT)}-{sha256[:8]}"


def parse_time(version: str) -> datetime:
    """When the version was created, to the second."""
    return datetime.strptime(version.partition("-")[0], _ID_TIME_FORMAT).replace(tzinfo=UTC)


def read_file_facts(path: str) -> FileFacts:
    """Size and sha256 of an existing file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return FileFacts(os.fstat(descriptor).st_size, compute_sha256(descriptor))
    finally:
        os.close(descriptor)


def read_facts_if_present(path: str) -> FileFacts | None:
    try:
        return read_file_facts(path)
    except FileNotFoundError:
        return None


def compute_sha256(descriptor: int) -> str:
    """The sha256 of a whole file, read with pread(2), so that the descriptor's own position does not move."""
    import hashlib  # noqa: PLC0415 -- loads OpenSSL, which readers do without

    digest = hashlib.sha256()
    at = 0
    while piece := os.pread(descriptor, _CHUNK_SIZE, at):
        digest.update(piece)
        at += len(piece)
    return digest.hexdigest()
