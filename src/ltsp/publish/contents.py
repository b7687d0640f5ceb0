"""What a build hands over to be published, besides the image's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ltsp.publish.generation import Generation
from ltsp.publish.manifest import FileFacts, ImageFacts, Kernel, Manifest, Origin, Source
from ltsp.publish.retention import Collected
from ltsp.tree.content import Content


@dataclass(frozen=True, slots=True)
class Contents:
    source: Source
    kernel: Kernel | None = None
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
class Published:
    """A switch was made and is durable."""

    generation: Generation
    previous: Generation | None
    """What was current before, for telling what changed."""
    collected: tuple[Collected, ...] = ()
    """Versions that retention removed."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A version is complete and durable, and clients do not boot it yet."""

    generation: Generation
    replaces_damaged: bool = False
    """Whether the current one was of just the same bytes once, so that nobody is to go back to it."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The same image and boot files are published already; nothing was done."""

    generation: Generation
