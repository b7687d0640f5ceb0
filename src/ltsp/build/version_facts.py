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

_MOST_NAMED = 4
"""How many packages a line names; the JSON output lists all."""


def state_facts(state: ImageState) -> dict[str, object]:
    """The facts about an image and its versions, as data."""
    users = find_users(state)
    before: Version | None = None
    listed: list[dict[str, object]] = []
    for version in state.versions:
        listed.append(_version_facts(state, version, before, users.get(version.id)))
        before = version
    return {
        "current": state.pointer.version if state.pointer else None,
        "before": state.before.id if state.before else None,
        "image": _image_facts(state.image),
        "old": _image_facts(state.old),
        "versions": listed,
        "damaged": list(state.damaged),
        "deserted": state.is_image_deleted,
    }


def _version_facts(
    state: ImageState, version: Version, before: Version | None, user: FileUser | None
) -> dict[str, object]:
    manifest = version.manifest
    changes = VersionChanges.between(before.manifest, manifest) if before else None
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
        "old": version == state.before,
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


def _image_facts(entry: Version | ForeignImage | None) -> dict[str, object] | None:
    match entry:
        case None:
            return None
        case ForeignImage():
            return {"foreign": True, "size": entry.size, "link": entry.linked}
        case Version():
            return {"foreign": False, "version": entry.id}


def summarize_changes(changes: VersionChanges) -> str:
    """What changed, in a line: `+1.2 MiB; 3 packages updated: bash 5.2 -> 5.3, …; new setuid: usr/bin/su`."""
    parts: list[str] = []
    if changes.bytes:
        parts.append(("+" if changes.bytes > 0 else "-") + units.size(abs(changes.bytes)))
    updated = [f"{name} {old} -> {new}" for name, (old, new) in changes.updated.items()]
    for what, each in (("added", list(changes.added)), ("removed", list(changes.removed)), ("updated", updated)):
        if each:
            shown = ", ".join(map(printable, each[:_MOST_NAMED])) + (", …" if len(each) > _MOST_NAMED else "")
            parts.append(f"{units.plural(len(each), 'package')} {what}: {shown}")
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
        yield f"removed   version {each.id}, {units.size(each.bytes)}: {each.reason.value}"


def deleted_image_warning(state: ImageState) -> str:
    """The warning about an image whose NAME.img is gone; empty if it is not."""
    if not state.is_image_deleted:
        return ""
    name = state.paths.name
    images = {each.image_id: each for each in state.versions if each.image_id}.values()
    size = sum(each.manifest.image.size for each in images if each.manifest.image)
    return (
        f"{name}.img was deleted by hand, but {units.plural(len(state.versions), 'version')} of {name} "
        f"({units.size(size)}) remain: ltsp versions {name} --remove-all removes them, "
        f"ltsp versions {name} --use={state.versions[-1].id} brings {name} back"
    )
