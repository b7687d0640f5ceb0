"""`ltsp versions`: list the versions of images, switch to one, pin and remove them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from ltsp.build.version_facts import deleted_image_warning, removed_version_lines, state_to_json, summarize_changes
from ltsp.errors import LtspError
from ltsp.host.process import FileUser
from ltsp.publish.disk_errors import describe_user
from ltsp.publish.manifest import Origin, VersionChanges
from ltsp.publish.state import ForeignImage, ImageState, find_users
from ltsp.publish.store import Store
from ltsp.publish.version import Version
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.version_options import VersionsOptions
from ltsp.tree.name import printable

if TYPE_CHECKING:
    from ltsp.publish.locked_image import LockedImage


def versions(names: Sequence[str], options: VersionsOptions, ltsp: LtspOptions, conf: Conf, report: Report) -> None:
    """Do what the options ask for, then list the versions. If an option names a version, `names` has one name.

    Raises LtspError if there is no such image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    every = list(names) or store.names()
    for name in every:
        if not store.state(name).exists:
            if options.remove_all:
                with store.locked(name, options.wait):
                    pass  # taking the lock removes what a killed run left behind
            raise LtspError(f"no image {name} in {printable(ltsp.base_dir)}/images", "ltsp info lists the images")
    if options.has_actions:
        for name in every:
            with store.locked(name, options.wait) as locked:
                for line in _apply_options(locked, options):
                    report.say(line)
    _print_versions([state for state in map(store.state, every) if state.exists], options, ltsp, report)
    if options.use is not None or options.removes_versions:
        from ltsp.build.batch import update_after_publish  # noqa: PLC0415 -- a list needs neither menu nor add-on

        update_after_publish(ltsp, conf, options, report)


def _print_versions(states: Sequence[ImageState], options: VersionsOptions, ltsp: LtspOptions, report: Report) -> None:
    if options.json:
        report.result({state.paths.name: state_to_json(state) for state in states})
        return
    if not states and not options.remove_all:
        report.say(f"no images in {printable(ltsp.base_dir)}/images")
    for state in states:
        report.say(state.paths.name)
        report.table(("version", "size", "kernel", "state", "changes"), _version_rows(state))
        if gone := deleted_image_warning(state):
            report.warn(gone)


def _apply_options(locked: LockedImage, options: VersionsOptions) -> list[str]:
    """Apply them and return a line for each action. Pins come first, to protect versions from later actions."""
    done: list[str] = []
    name = locked.paths.name
    from ltsp.publish.gc import Retention  # noqa: PLC0415 -- a list changes nothing
    from ltsp.publish.switch import PublishedVersion  # noqa: PLC0415 -- likewise

    keep = Retention.of(options)
    for text in options.pin:
        version = _resolve_version(locked, text)
        locked.pin(version)
        done.append(f"{name}: pinned {version}")
    for text in options.unpin:
        version = _resolve_version(locked, text)
        locked.unpin(version)
        done.append(f"{name}: unpinned {version}")
    if options.use:
        version = _resolve_version(locked, options.use)
        outcome = locked.use(version, keep)
        done.append(f"{name}: clients now boot {version}")
        if isinstance(outcome, PublishedVersion):
            done += [f"{name}: {line}" for line in removed_version_lines(outcome.removed_versions)]
    for text in options.remove:
        version = _resolve_version(locked, text)
        locked.remove(version)
        done.append(f"{name}: removed {version}")
    if options.prune:
        removed = locked.prune(options.keep or options.keep_versions)
        done.append(f"{name}: removed {', '.join(removed) or 'nothing'}")
    if options.remove_all:
        gone = locked.remove_all(force=options.force)
        count = units.format_count(len(gone.versions), "version")
        done.append(f"{name}: removed the image and its menu entry: {count}, {units.format_size(gone.bytes)}")
    return done


def _resolve_version(locked: LockedImage, text: str) -> str:
    """The full version for a unique prefix of it."""
    state = locked.state()
    every = [each.id for each in state.versions] + list(state.damaged)
    matching = [version for version in every if version.startswith(text)] if text else []
    if len(matching) > 1 and text not in matching:
        raise LtspError(
            f"{locked.paths.name} has several versions that begin with {printable(text)}",
            "give more characters of the version",
        )
    return text if text in matching or not matching else matching[0]


def _version_rows(state: ImageState) -> list[tuple[str, str, str, str, str]]:
    users = find_users(state)
    rows: list[tuple[str, str, str, str, str]] = []
    previous: Version | None = None
    for version in state.versions:
        manifest = version.manifest
        size = units.format_size(manifest.image.size) if manifest.image else "-"
        kernel = manifest.kernel.version if manifest.kernel else ""
        marks = ", ".join(_version_states(state, version, users.get(version.id)))
        changes = version.damage or (
            summarize_changes(VersionChanges.between(previous.manifest, manifest)) if previous else ""
        )
        rows.append((version.id, size, printable(kernel) or _kernel_state(version), marks, changes))
        previous = version
    rows += [(version, "?", "?", "damaged", "cannot read its manifest.json") for version in state.damaged]
    for title, entry in (("NAME.img", state.image), ("NAME.img.old", state.old)):
        if isinstance(entry, ForeignImage):
            made = datetime.fromtimestamp(entry.mtime).astimezone().strftime("%Y-%m-%d %H:%M")
            path = title.replace("NAME", state.paths.name)
            rows.append((path, units.format_size(entry.size), "", "foreign", f"not made here, dated {made}"))
    return rows


def _kernel_state(version: Version) -> str:
    return "yes" if version.has_kernel else "none"


def _version_states(state: ImageState, version: Version, user: FileUser | None) -> list[str]:
    marks: list[str] = []
    if version == state.current:
        marks.append("current")
    elif version == state.previous:
        marks.append("old")
    elif version.staged:
        marks.append("staged")
    if isinstance(state.image, Version) and state.current and not state.current.is_image_of(state.image):
        marks += [f"{state.paths.name}.img"] if version == state.image else []
    if version.manifest.origin is Origin.FOREIGN:
        marks.append("foreign")
    if version.pinned:
        marks.append("pinned")
    if version.damage:
        marks.append("damaged")
    if user:
        marks.append(f"in use by {describe_user(user)}")
    return marks
