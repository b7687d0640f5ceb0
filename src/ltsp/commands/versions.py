"""`ltsp versions`: what versions of an image there are, and going from one to another."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ltsp.build.leftovers import deserted, let_go
from ltsp.build.version_facts import state_facts, summary
from ltsp.errors import LtspError
from ltsp.host.process import User
from ltsp.publish.changes import Changes
from ltsp.publish.contents import Published
from ltsp.publish.disk_errors import described
from ltsp.publish.gc import in_use
from ltsp.publish.generation import Generation
from ltsp.publish.locked_image import Held
from ltsp.publish.manifest import Origin
from ltsp.publish.retention import Retention
from ltsp.publish.state import Foreign, State
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions, VersionsOptions
from ltsp.settings.conf_text import Conf
from ltsp.tree.name import printable


def versions(names: Sequence[str], options: VersionsOptions, places: LtspOptions, conf: Conf, report: Report) -> None:
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
    _show([state for state in map(store.state, every) if state.exists], options, places, report)
    if options.use is not None or options.removes:
        from ltsp.build.after_publish import follow  # noqa: PLC0415 -- a list needs neither menu nor add-on

        follow(places, conf, options, report)


def _show(states: Sequence[State], options: VersionsOptions, places: LtspOptions, report: Report) -> None:
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
        count = units.counted(len(gone.versions), "version")
        done.append(f"{name}: removed from clients and from the disk, {count}, {units.size(gone.bytes)}")
    return done


def _version(held: Held, text: str) -> str:
    """The version that a person means, who may give the beginning of its name if that is enough."""
    state = held.state()
    every = [each.version for each in state.generations] + list(state.damaged)
    matching = [version for version in every if version.startswith(text)] if text else []
    if len(matching) > 1 and text not in matching:
        raise LtspError(f"{held.places.name} has several versions {printable(text)}…", "give more of its name")
    return text if text in matching or not matching else matching[0]


def _rows(state: State) -> list[tuple[str, str, str, str, str]]:
    users = in_use(state)
    rows: list[tuple[str, str, str, str, str]] = []
    before: Generation | None = None
    for generation in state.generations:
        manifest = generation.manifest
        size = units.size(manifest.image.size) if manifest.image else "-"
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
            rows.append((path, units.size(entry.size), "", "foreign", f"not made here, of {made}"))
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
