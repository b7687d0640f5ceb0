"""The plan of a build, printed before it begins: what is included and left out, the codec, the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from ltsp.build import disk_space
from ltsp.build.exclusions import ExclusionRules
from ltsp.build.prepare import PreparedTree
from ltsp.publish.store import Store
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.source.source import Plan, Source, SourcePart
from ltsp.tree.name import printable


def show(
    source: Source,
    rules: ExclusionRules,
    prepared: PreparedTree,
    estimate: disk_space.SpaceEstimate,
    store: Store,
    report: Report,
) -> None:
    """Print the plan and its warnings."""
    plan = source.plan()
    for line in _lines(source, plan, rules, prepared):
        report.say(line)
    for line in disk_space.format_lines(estimate, store):
        report.say(line)
    for left in prepared.left_out:
        report.say(f"left out  {left}")
    for warning in (*plan.warnings, *prepared.warnings, *disk_space.find_warnings(estimate, store)):
        report.warn(warning)


def to_json(source: Source, prepared: PreparedTree) -> Mapping[str, object]:
    """The same as data."""
    plan = source.plan()
    return {
        "with": [asdict(part) for part in plan.included],
        "without": [asdict(part) for part in plan.left_out],
        "reader": plan.reader or None,
        **snapshots_to_json(plan),
        "files": prepared.survey.files,
        "source_bytes": prepared.survey.bytes,
        "kernel": kernel_to_json(prepared),
        "missed": [asdict(each) for each in prepared.left_out],
        "codec": codec_to_json(prepared),
        "warnings": [*plan.warnings, *prepared.warnings],
    }


def snapshots_to_json(plan: Plan) -> Mapping[str, object]:
    """The parts read from snapshots, and those read live although a snapshot was possible."""
    return {"snapshots": [asdict(each) for each in plan.snapshots], "live": [asdict(part) for part in plan.live_parts]}


def codec_to_json(prepared: PreparedTree) -> Mapping[str, object]:
    """Name and level; the level is unknown for codecs of the real mksquashfs."""
    compression = prepared.write_options.compression
    return {"name": prepared.codec, "level": compression.level if compression.name == prepared.codec else None}


def kernel_to_json(prepared: PreparedTree) -> Mapping[str, object] | None:
    kernel = prepared.kernel
    if kernel is None:
        return None
    return kernel.to_json()


def _lines(source: Source, plan: Plan, rules: ExclusionRules, prepared: PreparedTree) -> Iterator[str]:
    yield f"image     {source.name} from {printable(source.description)}"
    for part in plan.included[1:]:
        yield f"with      /{_format_part(part)}"
    for part in plan.left_out:
        yield f"without   /{_format_part(part)}"
    if plan.reader == "kernel":
        yield "reader    the kernel, through a private mount"
    yield from snapshot_lines(plan)
    survey = prepared.survey
    yield f"contents  {units.format_count(survey.files, 'file')}, {units.format_size(survey.bytes)}"
    rewritten = sum(len(step.paths) for step in prepared.cleaned.steps)
    if rules.cleanup:
        yield f"cleanup   accounts, identity and secrets left out; {units.format_count(rewritten, 'file')} rewritten"
    else:
        yield "cleanup   none: accounts and secrets are in the image"
    kernel = prepared.kernel
    yield f"kernel    {kernel}" if kernel else "kernel    none, as chosen"
    level = codec_to_json(prepared)["level"]
    yield f"codec     {prepared.codec}{'' if level is None else f' {level}'}, {prepared.codec_reason}"


def snapshot_lines(plan: Plan) -> Iterator[str]:
    """A line for each part read from a snapshot, or live although a snapshot was possible."""
    for each in plan.snapshots:
        yield f"snapshot  /{printable(each.path)} ({each.kind} of {printable(each.origin)})"
    for part in plan.live_parts:
        yield f"live      /{_format_part(part)}"


def _format_part(part: SourcePart) -> str:
    reason = f": {part.reason}" if part.reason else ""
    return f"{printable(part.path)} ({printable(part.description)}){reason}"
