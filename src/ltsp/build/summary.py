"""What became of a build, for people and as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from ltsp.build.leftovers import let_go
from ltsp.build.plan import codec_facts, kernel_facts, snapshot_facts
from ltsp.build.prepare import Prepared
from ltsp.build.version_facts import summary as change_summary
from ltsp.publish.changes import Changes
from ltsp.publish.contents import Published, Unchanged
from ltsp.publish.generation import Generation
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.source.source import Plan, Source
from ltsp.squashfs.written import Lost, Made, Written
from ltsp.tree.faults import Faults
from ltsp.tree.name import printable

INCOMPLETE = 3
"""The exit status where an image was published, but a file of the source was not taken as it should be."""


@dataclass(frozen=True, slots=True)
class Built:
    source: Source
    outcome: Published | Unchanged
    plan: Plan
    prepared: Prepared
    written: Written | Made
    faults: Faults
    mode: int
    """Permissions of the image."""
    seconds: float

    @property
    def exit_status(self) -> int:
        return INCOMPLETE if self.faults else 0

    @property
    def generation(self) -> Generation:
        return self.outcome.generation


def show(built: Built, report: Report) -> None:
    for warning in warnings(built):
        report.warn(warning)
    for line in _lines(built):
        report.say(line)


def facts(built: Built) -> Mapping[str, object]:
    """The same as data."""
    written, changes = built.written, _changes(built)
    return {
        "name": built.source.name,
        "source": built.source.description,
        "reader": built.plan.reader or None,
        **snapshot_facts(built.plan),
        "published": isinstance(built.outcome, Published),
        "version": built.generation.version,
        "path": built.generation.image,
        "size": written.size,
        "sha256": image.sha256 if (image := built.generation.manifest.image) else None,
        "codec": codec_facts(built.prepared),
        "source_bytes": written.source_bytes,
        "inodes": written.inodes,
        "seconds": round(built.seconds, 3),
        "kernel": kernel_facts(built.prepared),
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
        "warnings": list(warnings(built)),
        "changes": None if changes is None else asdict(changes),
        "collected": _collected(built.outcome),
    }


def _collected(outcome: Published | Unchanged) -> list[Mapping[str, object]]:
    """The versions that retention removed, and why."""
    every = outcome.collected if isinstance(outcome, Published) else ()
    return [{"version": each.version, "size": each.bytes, "reason": each.reason.name.lower()} for each in every]


def warnings(built: Built) -> Iterator[str]:
    """What of the source is not in the image as it was, or is there although it may be secret."""
    faults, cleaned = built.faults, built.prepared.cleaned
    for path in faults.changed:
        yield f"/{printable(path)} changed while it was read; the image may hold a mixture"
    for path in faults.vanished:
        yield f"/{printable(path)} vanished while the source was read; it is not in the image"
    for path, reason in faults.unreadable:
        yield f"/{printable(path)} could not be read and is not in the image: {reason}"
    if len(faults.unreadable) > 1:
        yield f"{len(faults.unreadable)} files and directories could not be read; root may be able to"
    yield from _losses(built.written.lost)
    if isinstance(built.written, Made):
        yield from losses_of_mksquashfs(built.written)
    for finding in cleaned.findings:
        yield f"in the image: {finding}"
    for finding in cleaned.let_in:
        yield f"in the image because OMIT_IMAGE_EXCLUDES lets it in: {finding}"


def _losses(lost: Lost) -> Iterator[str]:
    counted = (
        (lost.acls, "POSIX ACL", "left out: squashfs cannot hold them"),
        (lost.foreign, "attribute", "left out: squashfs holds only user., trusted. and security. ones"),
        (lost.too_large, "attribute", "left out as too large"),
        (lost.times, "time", "before 1970 or after 2106 moved to the nearest one that squashfs can hold"),
    )
    for count, noun, what in counted:
        if count:
            yield f"{units.counted(count, noun)} {what}"


def losses_of_mksquashfs(made: Made) -> Iterator[str]:
    """What our own writer would have kept, a line each."""
    if made.sockets:
        yield f"mksquashfs left out {units.counted(made.sockets, 'socket')}: a tar stream has none"
    if made.root_attributes:
        yield f"mksquashfs left out {units.counted(made.root_attributes, 'attribute')} of the root directory"
    if not made.keeps_root:
        yield "the root directory has the owner and time of the build: mksquashfs keeps them from 4.6 on"


def _lines(built: Built) -> Iterator[str]:
    written, generation = built.written, built.generation
    source = written.source_bytes
    ratio = f", {100 * written.size / source:.0f} % of {units.size(source)}" if source else ""
    if isinstance(built.outcome, Unchanged):
        yield f"unchanged {built.source.name}: version {generation.version} is just this, in {built.seconds:.1f} s"
        return
    yield f"published {built.source.name}, version {generation.version}, in {built.seconds:.1f} s"
    size = f"{units.size(written.size)} ({built.prepared.codec}{ratio})"
    yield f"image     {printable(generation.places.image)}, {size}"
    if not built.mode & 0o004:
        readers = "its owner and group" if built.mode & 0o040 else "its owner"
        yield f"access    mode {built.mode:04o}: only {readers} may read it"
    kernel = built.prepared.kernel
    if kernel:
        yield f"kernel    {printable(kernel.version or kernel.path)}"
    largest = [f"{printable(path)} {units.size(size)}" for path, size in built.prepared.survey.largest[:5]]
    if largest:
        yield f"largest   {', '.join(largest)}"
    if (changes := _changes(built)) is not None:
        yield f"changed   {change_summary(changes)}"
    if isinstance(built.outcome, Published):
        yield from let_go(built.outcome.collected)


def _changes(built: Built) -> Changes | None:
    if not isinstance(built.outcome, Published) or built.outcome.previous is None:
        return None
    return Changes.between(built.outcome.previous.manifest, built.generation.manifest)
