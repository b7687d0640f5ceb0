"""What is known of an image and its versions, as data and in a line."""

from __future__ import annotations

from ltsp.host.process import User
from ltsp.publish.changes import Changes
from ltsp.publish.disk_errors import described
from ltsp.publish.gc import in_use
from ltsp.publish.generation import Generation
from ltsp.publish.state import Foreign, State
from ltsp.report import units
from ltsp.tree.name import printable

_NAMED = 4
"""So many packages are named in a line; the JSON form has all of them."""


def state_facts(state: State) -> dict[str, object]:
    """All that is known of an image and its versions, as data."""
    users = in_use(state)
    before: Generation | None = None
    listed: list[dict[str, object]] = []
    for generation in state.generations:
        listed.append(_generation_facts(state, generation, before, users.get(generation.version)))
        before = generation
    return {
        "current": state.pointer.version if state.pointer else None,
        "before": state.before.version if state.before else None,
        "image": _entry_facts(state.image),
        "old": _entry_facts(state.old),
        "versions": listed,
        "damaged": list(state.damaged),
        "deserted": state.deserted,
    }


def _generation_facts(
    state: State, generation: Generation, before: Generation | None, user: User | None
) -> dict[str, object]:
    manifest = generation.manifest
    changes = Changes.between(before.manifest, manifest) if before else None
    return {
        "version": generation.version,
        "created": manifest.created,
        "origin": manifest.origin.value,
        "source": manifest.source.argument,
        "size": manifest.image.size if manifest.image else None,
        "sha256": manifest.image.sha256 if manifest.image else None,
        "codec": manifest.image.codec if manifest.image else None,
        "path": generation.image if generation.image_id else None,
        "kernel": manifest.kernel.version if manifest.kernel else None,
        "files": {name: file.size for name, file in manifest.files.items()},
        "current": generation == state.current,
        "old": generation == state.before,
        "staged": generation.staged,
        "pinned": generation.pinned,
        "damaged": generation.harm or None,
        "in_use": described(user) if user else None,
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


def _entry_facts(entry: Generation | Foreign | None) -> dict[str, object] | None:
    match entry:
        case None:
            return None
        case Foreign():
            return {"foreign": True, "size": entry.size, "link": entry.linked}
        case Generation():
            return {"foreign": False, "version": entry.version}


def summary(changes: Changes) -> str:
    """What changed, in a line: `+1.2 MiB; 3 packages updated: bash 5.2 -> 5.3, …; new setuid: usr/bin/su`."""
    parts: list[str] = []
    if changes.bytes:
        parts.append(("+" if changes.bytes > 0 else "-") + units.size(abs(changes.bytes)))
    updated = [f"{name} {old} -> {new}" for name, (old, new) in changes.updated.items()]
    for what, each in (("added", list(changes.added)), ("removed", list(changes.removed)), ("updated", updated)):
        if each:
            shown = ", ".join(map(printable, each[:_NAMED])) + (", …" if len(each) > _NAMED else "")
            parts.append(f"{units.counted(len(each), 'package')} {what}: {shown}")
    if changes.setuid_added:
        parts.append("new setuid: " + ", ".join(map(printable, changes.setuid_added)))
    if changes.setuid_removed:
        parts.append("setuid gone: " + ", ".join(map(printable, changes.setuid_removed)))
    if changes.kernel:
        parts.append(f"kernel {printable(changes.kernel[0]) or 'none'} -> {printable(changes.kernel[1]) or 'none'}")
    if changes.same_image and changes.boot_files:
        parts.append(f"the image is the same; another {', '.join(changes.boot_files)}")
    return "; ".join(parts) or "files only: no package, no setuid file and not the size"
