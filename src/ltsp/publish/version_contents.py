"""What a build hands over to be published, besides the image's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ltsp.publish.manifest import FileFacts, ImageFacts, KernelFacts, Manifest, Origin, SourceFacts
from ltsp.publish.retention import RemovedVersion
from ltsp.publish.version import Version
from ltsp.tree.content import Content


@dataclass(frozen=True, slots=True)
class VersionContents:
    source: SourceFacts
    kernel: KernelFacts | None = None
    """Facts about `files["vmlinuz"]`."""
    files: Mapping[str, Content] = field(default_factory=dict)
    """What clients fetch: `vmlinuz`, `initrd.img`, further initrds, which follow that one by their names, and what is
    for the firmware of Raspberry Pis, below `firmware/`."""
    codec: str = ""
    """Of the image: `gzip`, `zstd`."""
    packages: Mapping[str, str] | None = None
    setuid: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def manifest(
        self, name: str, origin: Origin, image: ImageFacts | None, boot_files: Mapping[str, FileFacts]
    ) -> Manifest:
        """All but the version and its time."""
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
    """A switch was made and is durable."""

    version: Version
    previous: Version | None
    """What was current before, for telling what changed."""
    collected: tuple[RemovedVersion, ...] = ()
    """Versions that retention removed."""


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """A version is complete and durable, and clients do not boot it yet."""

    version: Version
    replaces_damaged: bool = False
    """Whether the current one was of just the same bytes once, so that nobody is to go back to it."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The same image and boot files are published already; nothing was done."""

    version: Version
