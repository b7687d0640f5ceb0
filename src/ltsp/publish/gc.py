"""Removing versions: by rule after a switch, or one by name."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ltsp.errors import LtspError
from ltsp.host import files, process
from ltsp.publish import state as states
from ltsp.publish.disk_errors import described
from ltsp.publish.generation import Generation
from ltsp.publish.paths import Places
from ltsp.publish.retention import Collected, Retention, collectable
from ltsp.publish.state import State
from ltsp.publish.switch import remove


def in_use(state: State) -> dict[str, process.User]:
    """Who holds the image of a version open on this machine, by version."""
    ids = {each.image_id for each in state.generations if each.image_id}
    users = process.holders(ids, _may_be_image)
    return {each.version: users[each.image_id] for each in state.generations if each.image_id in users}


def users_of(path: str) -> process.User | None:
    """Who holds a file that is no version's open on this machine."""
    identity = files.identity(path)
    return process.holders({identity}, _may_be_image).get(identity) if identity else None


def retain(
    places: Places, keep: Retention, *, dropped: str | None = None, keep_before: bool = True
) -> tuple[Collected, ...]:
    """Remove what no rule keeps; the versions that were, and why."""
    now = states.read(places)
    doomed = collectable(
        now.generations,
        keep,
        current=now.current_versions,
        before=now.pointer.before if now.pointer and keep_before else None,
        waiting=now.waiting.version if now.waiting else None,
        in_use=in_use(now),
        now=time.time(),
        disk=files.disk_bytes(places.images),
        dropped=dropped,
    )
    _collect_all(places, [each.version for each in doomed])
    return tuple(doomed)


def retain_staged(places: Places) -> None:
    """Remove the staged versions but for the newest, those that are pinned and those in use."""
    now = states.read(places)
    staged = [each for each in now.generations if each.staged and each.version not in now.current_versions]
    users = in_use(now) if len(staged) > 1 else {}
    _collect_all(places, [each.version for each in staged[:-1] if not each.pinned and each.version not in users])


def remove_one(places: Places, version: str) -> None:
    """Remove a version that somebody names.

    Raises LtspError where it is current, pinned or in use, or does not exist.
    """
    now = states.read(places)
    name = places.name
    if version in now.current_versions:
        raise LtspError(f"version {version} of {name} is the current one", f"first: ltsp versions {name} --use=VERSION")
    if version not in now.damaged:
        generation = now.existing(version)
        if generation.pinned:
            raise LtspError(f"version {version} of {name} is pinned", f"first: ltsp versions {name} --unpin={version}")
        user = in_use(now).get(version)
        if user and not _shares_image(now, generation):
            raise LtspError(f"version {version} of {name} is in use by {described(user)}", "stop that first")
    _collect(places, version)


def _collect_all(places: Places, versions: Sequence[str]) -> None:
    """One that cannot be removed does not keep the others. Raises what the first one raised."""
    failures: list[OSError | LtspError] = []
    for version in versions:
        try:
            _collect(places, version)
        except (OSError, LtspError) as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _collect(places: Places, version: str) -> None:
    """Remove a version, and NAME.img.old with it where that is nothing else."""
    now = states.read(places)
    generation = now.generation(version)
    if generation and now.old and generation.is_image_of(now.old) and not _shares_image(now, generation):
        os.unlink(places.old)
        files.sync_directory(places.images)
    remove(places, version)


def _shares_image(state: State, generation: Generation) -> bool:
    """Whether another version holds the same image."""
    return any(each.is_image_of(generation) for each in state.generations if each.version != generation.version)


def _may_be_image(name: str) -> bool:
    """By the names that an image has here, in its version and outside."""
    return name.endswith((".img", ".img.old"))
