"""`ltsp versions`: what versions of an image there are, and going from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ltsp.apps import amount
from ltsp.apps.remains import deserted, let_go
from ltsp.apps.report import Report
from ltsp.errors import LtspError
from ltsp.host.process import User
from ltsp.publish.changes import Changes
from ltsp.publish.collection import in_use
from ltsp.publish.contents import Published
from ltsp.publish.failure import described
from ltsp.publish.generation import Generation
from ltsp.publish.held import Held
from ltsp.publish.manifest import Origin
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign, State
from ltsp.publish.store import Store
from ltsp.settings.applets import LtspOptions, VersionsOptions
from ltsp.tree.name import printable

_NAMED = 4
"""So many packages are named in a line; the JSON form has all of them."""


def versions(names: Sequence[str], options: VersionsOptions, places: LtspOptions, report: Report) -> None:
    """Do what the options ask for, then list what there is now. Where they name a version, there is one name.

    Raises LtspError where there is no such image.
    """
    store = Store(places.base_dir, places.tftp_dir)
    every = list(names) or store.names()
    for name in every:
        if not store.state(name).exists:
            if options.remove_all:
                with store.locked(name, options.wait):
                    pass  # what a killed run left behind is removed
            raise LtspError(f"no image {name} in {printable(places.base_dir)}/images", "ltsp info lists what there is")
    if options.acts:
        for name in every:
            with store.locked(name, options.wait) as held:
                for line in _acted(held, options):
                    report.say(line)
    states = [state for state in map(store.state, every) if state.exists]
    if options.json:
        report.result({state.places.name: state_facts(state) for state in states})
        return
    if not states and not options.remove_all:
        report.say(f"no images in {printable(places.base_dir)}/images")
    for state in states:
        report.say(state.places.name)
        report.table(("version", "size", "kernel", "state", "changes"), _rows(state))
        if gone := deserted(state):
            report.warn(gone)


def _acted(held: Held, options: VersionsOptions) -> list[str]:
    """Do it, and say what was done. Pins first, so that what is pinned is not collected by what follows."""
    done: list[str] = []
    name = held.places.name
    keep = Retention.of(options)
    for text in options.pin:
        version = _version(held, text)
        held.pin(version)
        done.append(f"{name}: pinned {version}")
    for text in options.unpin:
        version = _version(held, text)
        held.unpin(version)
        done.append(f"{name}: unpinned {version}")
    if options.use:
        version = _version(held, options.use)
        outcome = held.use(version, keep)
        done.append(f"{name}: clients now boot {version}")
        if isinstance(outcome, Published):
            done += [f"{name}: {line}" for line in let_go(outcome.collected)]
    for text in options.remove:
        version = _version(held, text)
        held.remove(version)
        done.append(f"{name}: removed {version}")
    if options.prune:
        removed = held.prune(options.keep or options.keep_versions)
        done.append(f"{name}: removed {', '.join(removed) or 'nothing'}")
    if options.remove_all:
        gone = held.remove_all(force=options.force)
        count = amount.counted(len(gone.versions), "version")
        done.append(f"{name}: removed from clients and from the disk, {count}, {amount.size(gone.bytes)}")
    return done


def _version(held: Held, text: str) -> str:
    """The version that a person means, who may give the beginning of its name if that is enough."""
    state = held.state()
    every = [each.version for each in state.generations] + list(state.damaged)
    matching = [version for version in every if version.startswith(text)] if text else []
    if len(matching) > 1 and text not in matching:
        raise LtspError(f"{held.places.name} has several versions {printable(text)}…", "give more of its name")
    return text if text in matching or not matching else matching[0]


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


def _rows(state: State) -> list[tuple[str, str, str, str, str]]:
    users = in_use(state)
    rows: list[tuple[str, str, str, str, str]] = []
    before: Generation | None = None
    for generation in state.generations:
        manifest = generation.manifest
        size = amount.size(manifest.image.size) if manifest.image else "-"
        kernel = manifest.kernel.version if manifest.kernel else ""
        marks = ", ".join(_marks(state, generation, users.get(generation.version)))
        changes = generation.harm or (summary(Changes.between(before.manifest, manifest)) if before else "")
        rows.append((generation.version, size, printable(kernel) or _bootable(generation), marks, changes))
        before = generation
    rows += [(version, "?", "?", "damaged", "its manifest.json cannot be read") for version in state.damaged]
    for title, entry in (("NAME.img", state.image), ("NAME.img.old", state.old)):
        if isinstance(entry, Foreign):
            made = datetime.fromtimestamp(entry.mtime).astimezone().strftime("%Y-%m-%d %H:%M")
            path = title.replace("NAME", state.places.name)
            rows.append((path, amount.size(entry.size), "", "foreign", f"not made here, of {made}"))
    return rows


def _bootable(generation: Generation) -> str:
    return "yes" if generation.bootable else "none"


def _marks(state: State, generation: Generation, user: User | None) -> list[str]:
    marks: list[str] = []
    if generation == state.current:
        marks.append("current")
    elif generation == state.before:
        marks.append("old")
    elif generation.staged:
        marks.append("staged")
    if isinstance(state.image, Generation) and state.current and not state.current.is_image_of(state.image):
        marks += [f"{state.places.name}.img"] if generation == state.image else []
    if generation.manifest.origin is Origin.FOREIGN:
        marks.append("foreign")
    if generation.pinned:
        marks.append("pinned")
    if generation.harm:
        marks.append("damaged")
    if user:
        marks.append(f"in use by {described(user)}")
    return marks


def summary(changes: Changes) -> str:
    """What changed, in a line: `+1.2 MiB; 3 packages updated: bash 5.2 -> 5.3, …; new setuid: usr/bin/su`."""
    parts: list[str] = []
    if changes.bytes:
        parts.append(("+" if changes.bytes > 0 else "-") + amount.size(abs(changes.bytes)))
    updated = [f"{name} {old} -> {new}" for name, (old, new) in changes.updated.items()]
    for what, each in (("added", list(changes.added)), ("removed", list(changes.removed)), ("updated", updated)):
        if each:
            shown = ", ".join(map(printable, each[:_NAMED])) + (", …" if len(each) > _NAMED else "")
            parts.append(f"{amount.counted(len(each), 'package')} {what}: {shown}")
    if changes.setuid_added:
        parts.append("new setuid: " + ", ".join(map(printable, changes.setuid_added)))
    if changes.setuid_removed:
        parts.append("setuid gone: " + ", ".join(map(printable, changes.setuid_removed)))
    if changes.kernel:
        parts.append(f"kernel {printable(changes.kernel[0]) or 'none'} -> {printable(changes.kernel[1]) or 'none'}")
    if changes.same_image and changes.boot_files:
        parts.append(f"the image is the same; another {', '.join(changes.boot_files)}")
    return "; ".join(parts) or "files only: no package, no setuid file and not the size"
