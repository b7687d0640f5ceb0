"""manifest.json: what a version is and what it was built from, and how two versions differ.

It is public, and says only what is in the image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ltsp.errors import FormatError

SCHEMA = 1
"""Incremented when an older reader could misinterpret a manifest."""


class Origin(Enum):
    """How a version was created."""

    BUILT = "built"
    KERNEL_UPDATE = "kernel"
    """It shares its image with another version and has its own kernel."""
    FOREIGN = "foreign"
    """A file that ltsp did not make, found at NAME.img or NAME.img.old; never removed by retention."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    argument: str
    """As given on the command line, so that it can be built again."""
    kind: str
    """`directory`, `squashfs` and so on."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    size: int
    """Bytes."""
    sha256: str


@dataclass(frozen=True, slots=True)
class ImageFacts:
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal; empty for a foreign file, which was never read."""
    codec: str
    """Empty for a foreign file."""
    is_symlink: bool = False
    """A symbolic link, which may resolve only at NAME.img."""


@dataclass(frozen=True, slots=True)
class KernelFacts:
    path: str
    """In the image, without a leading slash."""
    version: str
    """`6.1.0-18-amd64`; empty if the file does not state it."""
    reason: str = ""
    """Why it was chosen; empty in versions from before this was recorded."""
    passed_over: Mapping[str, str] = field(default_factory=dict)
    """Kernels with precedence, by path, and why they were not chosen."""


@dataclass(frozen=True, slots=True)
class Manifest:
    name: str
    version: str
    created: str
    """UTC, ISO 8601."""
    origin: Origin
    source: SourceFacts
    image: ImageFacts | None
    """None if the clients' root is a chroot, or a foreign NAME.img."""
    kernel: KernelFacts | None
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    """The files of the version's TFTP directory, by name."""
    packages: Mapping[str, str] | None = None
    """Versions by name; None if there is no supported package database."""
    setuid: tuple[str, ...] = ()
    """Paths in the image of setuid and setgid programs."""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Readable ASCII text with sorted keys. Bytes that are not UTF-8 are kept as escaped surrogates."""
        record = {
            "schema": SCHEMA,
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "origin": self.origin.value,
            "source": {"argument": self.source.argument, "kind": self.source.kind},
            "image": self.image
            and {
                "size": self.image.size,
                "sha256": self.image.sha256,
                "codec": self.image.codec,
                "linked": self.image.is_symlink,
            },
            "kernel": self.kernel
            and {
                "path": self.kernel.path,
                "version": self.kernel.version,
                "reason": self.kernel.reason,
                "passed_over": dict(self.kernel.passed_over),
            },
            "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in self.files.items()},
            "packages": None if self.packages is None else dict(self.packages),
            "setuid": self.setuid,
            "warnings": self.warnings,
        }
        return json.dumps(record, indent=1, sort_keys=True).encode("ascii") + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises FormatError if it is damaged or of another schema."""
        try:
            record = json.loads(data)
            if record["schema"] != SCHEMA:
                raise FormatError(
                    f"manifest.json has schema {record['schema']!r}, but this release reads only schema {SCHEMA}",
                    "use the release of ltsp that wrote it, or remove this version and publish again",
                )
            return _parse_manifest(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FormatError("damaged manifest.json", "remove this version and publish again") from error


def _parse_manifest(record: Mapping[str, Any]) -> Manifest:
    image, kernel, packages = record["image"], record["kernel"], record["packages"]
    return Manifest(
        name=str(record["name"]),
        version=str(record["version"]),
        created=str(record["created"]),
        origin=Origin(record["origin"]),
        source=SourceFacts(str(record["source"]["argument"]), str(record["source"]["kind"])),
        image=image
        and ImageFacts(int(image["size"]), str(image["sha256"]), str(image["codec"]), bool(image["linked"])),
        kernel=kernel and _parse_kernel(kernel),
        files={name: FileFacts(int(file["size"]), str(file["sha256"])) for name, file in record["files"].items()},
        packages=None if packages is None else {name: str(version) for name, version in packages.items()},
        setuid=tuple(map(str, record["setuid"])),
        warnings=tuple(map(str, record["warnings"])),
    )


def _parse_kernel(record: Mapping[str, Any]) -> KernelFacts:
    passed_over = {str(path): str(reason) for path, reason in record.get("passed_over", {}).items()}
    return KernelFacts(str(record["path"]), str(record["version"]), str(record.get("reason", "")), passed_over)


@dataclass(frozen=True, slots=True)
class VersionChanges:
    bytes: int | None
    """By how much the image grew; None if one of the versions has no image."""
    added: dict[str, str]
    """New packages with their versions."""
    removed: dict[str, str]
    updated: dict[str, tuple[str, str]]
    """Packages whose version changed: before and after."""
    packages_known: bool
    """Whether both manifests list packages; if not, the three fields above are empty."""
    setuid_added: tuple[str, ...]
    setuid_removed: tuple[str, ...]
    kernel: tuple[str, str] | None
    """The kernel's versions before and after, if they differ."""
    same_image: bool
    """Identical to the byte, unless it is a foreign image, which is never read."""
    boot_files: tuple[str, ...]
    """Names of boot files that were added, removed or changed."""

    @classmethod
    def between(cls, before: Manifest, after: Manifest) -> VersionChanges:
        old, new = before.packages or {}, after.packages or {}
        known = before.packages is not None and after.packages is not None
        if not known:
            old = new = {}
        kernels = tuple(each.kernel.version if each.kernel else "" for each in (before, after))
        return cls(
            bytes=after.image.size - before.image.size if before.image and after.image else None,
            added={name: new[name] for name in sorted(new.keys() - old.keys())},
            removed={name: old[name] for name in sorted(old.keys() - new.keys())},
            updated={
                name: (old[name], new[name]) for name in sorted(old.keys() & new.keys()) if old[name] != new[name]
            },
            packages_known=known,
            setuid_added=tuple(sorted(set(after.setuid) - set(before.setuid))),
            setuid_removed=tuple(sorted(set(before.setuid) - set(after.setuid))),
            kernel=(kernels[0], kernels[1]) if kernels[0] != kernels[1] else None,
            same_image=before.image == after.image,
            boot_files=tuple(
                name
                for name in sorted({*before.files, *after.files})
                if before.files.get(name) != after.files.get(name)
            ),
        )
