"""The result of a build, as lines and as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from ltsp.build.plan import codec_to_json, kernel_to_json, snapshots_to_json
from ltsp.build.prepare import PreparedTree
from ltsp.build.version_facts import removed_version_lines, summarize_changes
from ltsp.publish.manifest import VersionChanges
from ltsp.publish.stage import StagedVersion
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.publish.version import Version
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.source.source import Plan, Source
from ltsp.squashfs.writer import LostMetadata, MksquashfsResult, WriteResult
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable

INCOMPLETE_STATUS = 3
"""The exit status if an image was published, but a file of the source is missing or inconsistent in it."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    source: Source
    outcome: PublishedVersion | Unchanged | StagedVersion
    """Staged only until the boot test, whose failure is an error."""
    plan: Plan
    prepared: PreparedTree
    written: WriteResult | MksquashfsResult
    faults: Faults
    mode: int
    """Permissions of the image."""
    seconds: float = 0
    """Of the build, with its boot test."""

    @property
    def exit_status(self) -> int:
        return INCOMPLETE_STATUS if self.faults else 0

    @property
    def version(self) -> Version:
        return self.outcome.version


def show(built: BuildResult, report: Report) -> None:
    for warning in find_warnings(built):
        report.warn(warning)
    for line in _lines(built):
        report.say(line)


def to_json(built: BuildResult) -> Mapping[str, object]:
    """The same as data."""
    written, changes = built.written, _changes(built)
    return {
        "name": built.source.name,
        "source": built.source.description,
        "reader": built.plan.reader or None,
        **snapshots_to_json(built.plan),
        "published": isinstance(built.outcome, PublishedVersion),
        "version": built.version.id,
        "path": built.version.image,
        "size": written.size,
        "sha256": image.sha256 if (image := built.version.manifest.image) else None,
        "codec": codec_to_json(built.prepared),
        "source_bytes": written.source_bytes,
        "inodes": written.inodes,
        "seconds": round(built.seconds, 3),
        "kernel": kernel_to_json(built.prepared),
        "largest": dict(built.prepared.survey.largest),
        "setuid": list(built.prepared.survey.privileged),
        "lost": asdict(written.lost),
        "changed": built.faults.changed,
        "vanished": built.faults.vanished,
        "unreadable": dict(built.faults.unreadable),
        "findings": [
            {"path": each.path, "reason": each.row.reason, "others": list(each.others)}
            for each in built.prepared.cleaned.findings
        ],
        "missed": [asdict(each) for each in built.prepared.left_out],
        "warnings": list(find_warnings(built)),
        "changes": None if changes is None else asdict(changes),
        "collected": _removed_versions(built.outcome),
    }


def _removed_versions(outcome: PublishedVersion | Unchanged | StagedVersion) -> list[Mapping[str, object]]:
    """The versions that retention removed, and why."""
    removed = outcome.removed_versions if isinstance(outcome, PublishedVersion) else ()
    return [{"version": each.id, "size": each.bytes, "reason": each.reason.name.lower()} for each in removed]


def find_warnings(built: BuildResult) -> Iterator[str]:
    """Files that are missing, inconsistent, or in the image although they may be secret."""
    faults, cleaned = built.faults, built.prepared.cleaned
    for path in faults.changed:
        yield f"/{printable(path)} changed while it was being read; the image may have a mix of old and new contents"
    for path in faults.vanished:
        yield f"/{printable(path)} vanished while the source was read; it is not in the image"
    for path, reason in faults.unreadable:
        yield f"cannot read /{printable(path)}, so it is not in the image: {reason}"
    if len(faults.unreadable) > 1:
        yield f"{len(faults.unreadable)} files and directories could not be read; try again as root"
    yield from _describe_losses(built.written.lost)
    if isinstance(built.written, MksquashfsResult):
        yield from describe_mksquashfs_losses(built.written)
    missing = {*faults.vanished, *(path for path, _ in faults.unreadable)}
    for finding in cleaned.findings:
        if finding.path not in missing:
            yield f"in the image: {finding}"
    for finding in cleaned.readmitted:
        yield f"in the image because of OMIT_IMAGE_EXCLUDES: {finding}"


def _describe_losses(lost: LostMetadata) -> Iterator[str]:
    counted = (
        (lost.acls, "POSIX ACL", "left out: squashfs cannot store them"),
        (lost.foreign, "attribute", "left out: squashfs stores only user., trusted. and security. attributes"),
        (lost.too_large, "attribute", "left out as too large"),
        (lost.times, "time", "before 1970 or after 2106 changed to the nearest that squashfs can store"),
    )
    for count, noun, what in counted:
        if count:
            yield f"{units.format_count(count, noun)} {what}"


def describe_mksquashfs_losses(made: MksquashfsResult) -> Iterator[str]:
    """Metadata that the built-in engine would have kept, a line each."""
    if made.sockets:
        yield f"mksquashfs left out {units.format_count(made.sockets, 'socket')}: a tar stream cannot contain them"
    if made.root_attributes:
        yield f"mksquashfs left out {units.format_count(made.root_attributes, 'attribute')} of the root directory"
    if not made.keeps_root:
        yield "the root directory has the owner and time of the build: mksquashfs older than 4.6 does not keep them"


def _lines(built: BuildResult) -> Iterator[str]:
    written, version = built.written, built.version
    source = written.source_bytes
    ratio = f", {100 * written.size / source:.0f} % of {units.format_size(source)}" if source else ""
    if isinstance(built.outcome, Unchanged):
        yield f"unchanged {built.source.name}: version {version.id} is identical, in {built.seconds:.1f} s"
        return
    yield f"published {built.source.name}, version {version.id}, in {built.seconds:.1f} s"
    size = f"{units.format_size(written.size)} ({built.prepared.codec}{ratio})"
    yield f"image     {printable(version.paths.image)}, {size}"
    if not built.mode & 0o004:
        readers = "its owner and group" if built.mode & 0o040 else "its owner"
        yield f"access    mode {built.mode:04o}: only {readers} may read it"
    kernel = built.prepared.kernel
    if kernel:
        yield f"kernel    {printable(kernel.version or kernel.path)}"
    largest = [f"{printable(path)} {units.format_size(size)}" for path, size in built.prepared.survey.largest[:5]]
    if largest:
        yield f"largest   {', '.join(largest)}"
    if (changes := _changes(built)) is not None:
        yield f"changed   {summarize_changes(changes)}"
    if isinstance(built.outcome, PublishedVersion):
        yield from removed_version_lines(built.outcome.removed_versions)


def _changes(built: BuildResult) -> VersionChanges | None:
    if not isinstance(built.outcome, PublishedVersion) or built.outcome.previous is None:
        return None
    return VersionChanges.between(built.outcome.previous.manifest, built.version.manifest)
