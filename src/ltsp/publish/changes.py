"""The differences between two versions of an image, from their manifests."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.publish.manifest import Manifest


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
