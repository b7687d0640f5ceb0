"""The facts about an image and its versions, as data and as lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ltsp.host.process import FileUser
from ltsp.publish.disk_errors import describe_user
from ltsp.publish.manifest import VersionChanges
from ltsp.publish.state import ForeignImage, ImageState, find_users
from ltsp.publish.version import Version
from ltsp.report import units
from ltsp.tree.name import printable

if TYPE_CHECKING:
    from ltsp.publish.gc import RemovedVersion

_MAX_SHOWN_PACKAGES = 4
"""How many packages a line names; the JSON output lists all."""


def state_to_json(state: ImageState) -> dict[str, object]:
    """The facts about an image and its versions, as data."""
    users = find_users(state)
    previous: Version | None = None
    versions: list[dict[str, object]] = []
    for version in state.versions:
        versions.append(_version_to_json(state, version, previous, users.get(version.id)))
        previous = version
    return {
        "current": state.pointer.version if state.pointer else None,
        "before": state.previous.id if state.previous else None,
        "image": _image_to_json(state.image),
        "old": _image_to_json(state.old),
        "versions": versions,
        "damaged": list(state.damaged),
        "deserted": state.is_image_deleted,
    }


def _version_to_json(
    state: ImageState, version: Version, previous: Version | None, user: FileUser | None
) -> dict[str, object]:
    manifest = version.manifest
    changes = VersionChanges.between(previous.manifest, manifest) if previous else None
    return {
        "version": version.id,
        "created": manifest.created,
        "origin": manifest.origin.value,
        "source": manifest.source.argument,
        "size": manifest.image.size if manifest.image else None,
        "sha256": manifest.image.sha256 if manifest.image else None,
        "codec": manifest.image.codec if manifest.image else None,
        "path": version.image if version.image_id else None,
        "kernel": manifest.kernel.version if manifest.kernel else None,
        "files": {name: file.size for name, file in manifest.files.items()},
        "current": version == state.current,
        "old": version == state.previous,
        "staged": version.staged,
        "pinned": version.pinned,
        "damaged": version.damage or None,
        "in_use": describe_user(user) if user else None,
        "warnings": list(manifest.warnings),
        "changes": changes
        and {
            "size": changes.bytes,
            "packages_added": changes.added,
            "packages_removed": changes.removed,
            "packages_updated": {name: list(both) for name, both in changes.updated.items()},
            "setuid_added": list(changes.setuid_added),
            "setuid_removed": list(changes.setuid_removed),
            "boot_files": list(changes.boot_files),
        },
    }


def _image_to_json(entry: Version | ForeignImage | None) -> dict[str, object] | None:
    match entry:
        case None:
            return None
        case ForeignImage():
            return {"foreign": True, "size": entry.size, "link": entry.is_symlink}
        case Version():
            return {"foreign": False, "version": entry.id}


def summarize_changes(changes: VersionChanges) -> str:
    """What changed, in a line: `+1.2 MiB; 3 packages updated: bash 5.2 -> 5.3, …; new setuid: usr/bin/su`."""
    parts: list[str] = []
    if changes.bytes:
        parts.append(("+" if changes.bytes > 0 else "-") + units.format_size(abs(changes.bytes)))
    updated = [f"{name} {old} -> {new}" for name, (old, new) in changes.updated.items()]
    for what, each in (("added", list(changes.added)), ("removed", list(changes.removed)), ("updated", updated)):
        if each:
            shown = ", ".join(map(printable, each[:_MAX_SHOWN_PACKAGES])) + (
                ", …" if len(each) > _MAX_SHOWN_PACKAGES else ""
            )
            parts.append(f"{units.format_count(len(each), 'package')} {what}: {shown}")
    if changes.setuid_added:
        parts.append("new setuid: " + ", ".join(map(printable, changes.setuid_added)))
    if changes.setuid_removed:
        parts.append("setuid removed: " + ", ".join(map(printable, changes.setuid_removed)))
    if changes.kernel:
        parts.append(f"kernel {printable(changes.kernel[0]) or 'none'} -> {printable(changes.kernel[1]) or 'none'}")
    if changes.same_image and changes.boot_files:
        parts.append(f"the image is the same; new {', '.join(changes.boot_files)}")
    return "; ".join(parts) or "only files: same packages, setuid files and size"


def removed_version_lines(collected: Iterable[RemovedVersion]) -> Iterator[str]:
    """A line for each version that retention removed."""
    for each in collected:
        yield f"removed   version {each.id}, {units.format_size(each.bytes)}: {each.reason.value}"


def deleted_image_warning(state: ImageState) -> str:
    """The warning about an image whose NAME.img is gone; empty if it is not."""
    if not state.is_image_deleted:
        return ""
    name = state.paths.name
    images = {each.image_id: each for each in state.versions if each.image_id}.values()
    size = sum(each.manifest.image.size for each in images if each.manifest.image)
    return (
        f"{name}.img was deleted by hand, but {units.format_count(len(state.versions), 'version')} of {name} "
        f"({units.format_size(size)}) remain: ltsp versions {name} --remove-all removes them, "
        f"ltsp versions {name} --use={state.versions[-1].id} brings {name} back"
    )
