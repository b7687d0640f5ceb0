"""Garbage collection of versions: by the rules of retention after a switch, or one by name."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from ltsp.errors import LtspError
from ltsp.host import files
from ltsp.publish import state as states
from ltsp.publish.assembly import remove_version
from ltsp.publish.disk_errors import describe_user
from ltsp.publish.manifest import Origin
from ltsp.publish.paths import ImagePaths
from ltsp.publish.state import ImageState, find_users
from ltsp.publish.version import Version
from ltsp.settings.version_options import VersionedOptions

_DAY = 86400
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Retention:
    versions: int = 2
    """How many distinct images to keep: the current one, the previous one, then the newest."""
    days: float = 3
    """How long a version stays after it was last current: clients that booted from it read it until they reboot."""
    share: float = 25
    """Percent of the file system that images may take which are kept only for their age."""

    @classmethod
    def of(cls, options: VersionedOptions) -> Retention:
        return cls(options.keep_versions, options.keep_days, options.keep_share)


DEFAULT_RETENTION = Retention()


class RemovalReason(Enum):
    """Why a version was removed."""

    UNWANTED = "replaced without a backup, or staged and never booted"
    AGE = "beyond KEEP_VERSIONS and older than KEEP_DAYS"
    SHARE = "versions kept by KEEP_DAYS would exceed KEEP_SHARE of the disk"


@dataclass(frozen=True, slots=True)
class RemovedVersion:
    id: str
    reason: RemovalReason
    bytes: int
    """Of its image."""


def collect_garbage(
    paths: ImagePaths, retention: Retention, *, dropped: str | None = None, keep_previous: bool = True
) -> tuple[RemovedVersion, ...]:
    """Remove the versions that no rule keeps, and return them with the reasons."""
    now = states.read_state(paths)
    removable = find_removable_versions(
        now.versions,
        retention,
        current=now.current_ids,
        previous=now.pointer.previous if now.pointer and keep_previous else None,
        waiting=now.waiting.id if now.waiting else None,
        in_use=find_users(now),
        now=time.time(),
        disk_size=files.file_system_size(paths.images),
        dropped=dropped,
    )
    _remove_versions(paths, [each.id for each in removable])
    return tuple(removable)


def remove_old_staged(paths: ImagePaths) -> None:
    """Remove all staged versions except the newest, pinned ones and those in use."""
    now = states.read_state(paths)
    staged = [each for each in now.versions if each.staged and each.id not in now.current_ids]
    users = find_users(now) if len(staged) > 1 else {}
    _remove_versions(paths, [each.id for each in staged[:-1] if not each.pinned and each.id not in users])


def remove_unused_version(paths: ImagePaths, version_id: str) -> None:
    """Remove a version by name.

    Raises LtspError if it is current, pinned or in use, or does not exist.
    """
    now = states.read_state(paths)
    name = paths.name
    if version_id in now.current_ids:
        raise LtspError(
            f"version {version_id} of {name} is current", f"switch to another first: ltsp versions {name} --use=VERSION"
        )
    if version_id not in now.damaged:
        version = now.require_version(version_id)
        if version.pinned:
            raise LtspError(
                f"version {version_id} of {name} is pinned",
                f"unpin it first: ltsp versions {name} --unpin={version_id}",
            )
        user = find_users(now).get(version_id)
        if user and not _has_shared_image(now, version):
            raise LtspError(
                f"version {version_id} of {name} is in use by {describe_user(user)}", "stop that process first"
            )
    _remove_with_old_link(paths, version_id)


def find_removable_versions(
    versions: Sequence[Version],
    retention: Retention,
    *,
    current: Collection[str],
    previous: str | None,
    waiting: str | None = None,
    in_use: Collection[str],
    now: float,
    disk_size: int,
    dropped: str | None = None,
) -> list[RemovedVersion]:
    """The versions that no rule keeps, oldest first. Pure: the versions in use and the time are arguments.

    `current`, `previous`, `waiting` and `in_use` name versions; `now` is in seconds since 1970; `disk_size` is
    the size in bytes of the file system that holds the images. `waiting` is staged, and a person may still choose it.
    Other staged versions, which no client ever ran, and `dropped` are not wanted any more: neither their age nor their
    rank keeps them.
    """
    chosen = {*current, previous, waiting}
    wanted = [each for each in versions if each.id != dropped and (each.id in chosen or not each.staged)]
    wanted.sort(key=lambda each: (each.id in current, each.id == previous, not each.staged, each.id), reverse=True)
    newest = list(dict.fromkeys(each.image_id for each in wanted if each.image_id))[: retention.versions]
    kept = {each.id for each in wanted if each.image_id in newest} | {
        each.id
        for each in versions
        if each.id in chosen or each.id in in_use or each.pinned or each.manifest.origin is Origin.FOREIGN
    }
    young = [each for each in wanted if each.id not in kept and now - each.last_current < retention.days * _DAY]
    images = {None, *(each.image_id for each in versions if each.id in kept)}
    excess = _find_excess(young, images, int(disk_size * retention.share / 100))
    kept |= {each.id for each in young} - excess
    reasons = dict.fromkeys((each.id for each in wanted), RemovalReason.AGE) | dict.fromkeys(
        excess, RemovalReason.SHARE
    )
    return [
        RemovedVersion(each.id, reasons.get(each.id, RemovalReason.UNWANTED), _image_size(each))
        for each in versions
        if each.id not in kept
    ]


def _find_excess(young: Sequence[Version], kept: Collection[tuple[int, int] | None], room: int) -> set[str]:
    """The versions that would exceed KEEP_SHARE: from the latest on, once their images take more than `room` bytes.

    `kept`: images that another rule keeps, which do not count.
    """
    latest = sorted(young, key=lambda each: (each.last_current, each.id), reverse=True)
    counted = set(kept)
    for index, version in enumerate(latest):
        if version.image_id not in counted:
            counted.add(version.image_id)
            room -= _image_size(version)
            if room < 0:
                return {each.id for each in latest[index:]}
    return set()


def _image_size(version: Version) -> int:
    return version.manifest.image.size if version.manifest.image else 0


def _remove_versions(paths: ImagePaths, versions: Sequence[str]) -> None:
    """Remove all of them that can be removed, then raise the first error."""
    failures: list[OSError | LtspError] = []
    for version_id in versions:
        try:
            _remove_with_old_link(paths, version_id)
        except (OSError, LtspError) as error:
            failures.append(error)
    if failures:
        raise failures[0]


def _remove_with_old_link(paths: ImagePaths, version_id: str) -> None:
    """Remove a version, and NAME.img.old if it is the last name of the version's image."""
    now = states.read_state(paths)
    version = now.find_version(version_id)
    if version and now.old and version.is_image_of(now.old) and not _has_shared_image(now, version):
        os.unlink(paths.old)
        files.sync_directory(paths.images)
    remove_version(paths, version_id)


def _has_shared_image(state: ImageState, version: Version) -> bool:
    """Whether another version holds the same image."""
    return any(each.is_image_of(version) for each in state.versions if each.id != version.id)
