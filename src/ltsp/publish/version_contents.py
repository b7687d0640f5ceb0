"""What a build passes on for publishing in addition to the image's bytes, and the possible results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ltsp.publish.gc import RemovedVersion
from ltsp.publish.manifest import FileFacts, ImageFacts, KernelFacts, Manifest, Origin, SourceFacts
from ltsp.publish.version import Version
from ltsp.tree.content import Content


@dataclass(frozen=True, slots=True)
class VersionContents:
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

    def manifest(
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
class PublishedVersion:
    """The result of a durable switch."""

    version: Version
    previous: Version | None
    """The version that was current before, for a report of changes."""
    collected: tuple[RemovedVersion, ...] = ()
    """Versions that retention removed."""


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """A version that is complete and durable, but that clients do not boot yet."""

    version: Version
    replaces_damaged: bool = False
    """Whether the current version had the same content and is damaged now, so that nobody should revert to it."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The same image and boot files are published already; nothing was done."""

    version: Version
