"""One image, from its source to a published version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

from ltsp.build import disk_space, hooks, plan
from ltsp.build.client_initrd import ClientBootFiles, to_kernel_facts
from ltsp.build.prepare import PreparedTree, make_initrd, prepare_tree
from ltsp.build.raspberry import find_boot_directory, find_raspberry_firmware, link_raspberry_files
from ltsp.build.read_source import open_selected_tree
from ltsp.build.request import BuildRequest
from ltsp.build.summary import BuildResult
from ltsp.errors import FormatError, SourceError, UsageError
from ltsp.mksquashfs.options import OutputOptions
from ltsp.publish import disk_errors, manifest
from ltsp.publish.gc import Retention
from ltsp.publish.locked_image import LockedImage
from ltsp.publish.paths import PUBLIC_MODE
from ltsp.publish.stage import StagedImage, StagedVersion, VersionContents
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.report.report import Report
from ltsp.settings.image_options import ImageOptions
from ltsp.source.source import Plan, Source
from ltsp.squashfs.verify import check_image, read_all_contents, verify_image
from ltsp.squashfs.writer import MksquashfsResult, WriteResult, write_squashfs
from ltsp.transform.packages import list_packages
from ltsp.tree.faults import Faults
from ltsp.tree.name import encode, printable
from ltsp.tree.tree import Tree

_MKSQUASHFS_ATTEMPTS = 3
"""On a busy machine, a few percent of the runs of mksquashfs 4.5.1 write corrupt blocks or tables."""
PRIVATE_MODE = 0o600
"""Of an image that may contain secrets."""


@dataclass(frozen=True, slots=True)
class RequestedImage:
    """One image of a run."""

    argument: str
    """The source with absolute paths; the manifest records it for rebuilding."""
    source: Source


def build(request: BuildRequest, requested: RequestedImage, report: Report) -> BuildResult:
    """Build and publish an image, or find that it is already published.

    Raises LtspError. In any case clients boot the old version or the new one, and nothing else remains, except a staged
    version that did not boot.
    """
    begin = monotonic()
    options = request.options
    faults = Faults(request.skips_unreadable)
    environment = hooks.make_environment(requested.source, request.ltsp)
    source = hooks.attach_commands(requested.source, request.commands_before, environment, report)
    if options.rpi_image == source.name:
        find_boot_directory(request.store.base_dir, source.name)  # raises if there is nothing for a Pi to boot
    with request.store.locked(source.name, options.wait) as locked:
        locked.check_replaceable(backup=options.backup)
        if locked.state().is_image_deleted:
            image = f"{source.name}.img"
            report.note(f"{image} was deleted by hand; the version that clients booted is kept as {image}.old")
        built = _make_version(request, replace(requested, source=source), locked, faults, report)
        if isinstance(built.outcome, StagedVersion):
            from ltsp.build.boot_gate import boot_and_publish  # noqa: PLC0415 -- virtual machines and servers, rarely used

            retention = Retention.of(options)
            outcome = boot_and_publish(
                locked, built.outcome, options.boot_transport, report, backup=options.backup, retention=retention
            )
            built = replace(built, outcome=outcome)
    return replace(built, seconds=monotonic() - begin)


def _make_version(
    request: BuildRequest, requested: RequestedImage, locked: LockedImage, faults: Faults, report: Report
) -> BuildResult:
    """The result, whether published, staged or unchanged, without its time."""
    options, source = request.options, requested.source
    with open_selected_tree(source, request.rules, options.lock_timeout, faults, report) as selected:
        request, tree = replace(request, rules=selected.rules), selected.tree
        prepared = prepare_tree(tree, source.name, request, faults, selected.removals, selected.partly_measured)
        current = locked.state().current
        firmware = find_raspberry_firmware(request.options, request.store.base_dir, source.name, tree)
        client = make_initrd(prepared, source.name, request.client, current, report)
        with report.step("estimating the space"):
            boot_files = {**client.collect_files(prepared.kernel), **firmware}
            estimate = disk_space.estimate_space(prepared, boot_files, request.parameters)
        plan.show(source, request.rules, prepared, estimate, request.store, report)
        client.report_to(report)
        _list_files(prepared.tree, request.parameters.output, report)
        with locked.stage_image(estimate.minimum, estimate.boot) as stage:
            with disk_errors.translate_os_errors(
                disk_space.WRITE_ACTION, locked.paths, request.store.base_dir, outcome=disk_space.NOTHING_PUBLISHED
            ):
                written = _write_image(request, prepared, stage, estimate, faults, report)
            final_plan = _check_complete(source)
            contents = _make_contents(requested, prepared, client)
            contents = replace(contents, files={**contents.files, **firmware})
            outcome = _publish(request, stage, contents, report)
            return BuildResult(source, outcome, final_plan, prepared, written, faults, _image_mode(options))


def _publish(
    request: BuildRequest, stage: StagedImage, contents: VersionContents, report: Report
) -> PublishedVersion | Unchanged | StagedVersion:
    """Publish it to clients, or stage it for a boot test."""
    options, mode = request.options, _image_mode(request.options)
    if options.boot_transport:
        with report.step("staging"):
            return stage.stage_version(contents, mode=mode, group=request.group)
    with report.step("publishing"):
        retention = Retention.of(options)
        return stage.publish(contents, backup=options.backup, retention=retention, mode=mode, group=request.group)


def finish_build(request: BuildRequest, source: Source, report: Report) -> None:
    """The steps after publishing; if they fail, the image stays published."""
    if request.options.rpi_image == source.name:
        link_raspberry_files(request.store, source.name, report)
    environment = hooks.make_environment(source, request.ltsp)
    hooks.run(request.commands_after, environment, report, f"the image of {source.name} stays published")


def _check_complete(source: Source) -> Plan:
    """The plan of what was read. Raises SourceError if a snapshot was lost meanwhile."""
    final_plan = source.plan()
    if final_plan.invalid_reason:
        raise SourceError(
            f"{printable(source.description)} could not be read to its end: {printable(final_plan.invalid_reason)}",
            "try again when the source is less busy, or read it without a snapshot: --snapshot=none",
        )
    return final_plan


def _list_files(tree: Tree, options: OutputOptions, report: Report) -> None:
    """List the path of each file of the image, as -info and -info-file of mksquashfs do.

    Raises UsageError if the file cannot be written.
    """
    if options.info:
        for path, _ in tree.walk():
            report.say(printable(path))
    if options.info_file is not None:
        try:
            with open(options.info_file, "wb") as file:
                file.writelines(encode(path) + b"\n" for path, _ in tree.walk())
        except OSError as error:
            name = printable(options.info_file)
            raise UsageError(f"cannot write {name} (-info-file): {error.strerror}") from error


def _write_image(
    request: BuildRequest,
    prepared: PreparedTree,
    stage: StagedImage,
    estimate: disk_space.SpaceEstimate,
    faults: Faults,
    report: Report,
) -> WriteResult | MksquashfsResult:
    """Write and check the image, and start flushing it to disk."""
    with report.step("writing the image", prepared.survey.bytes) as step:
        written: WriteResult | MksquashfsResult
        advance = disk_space.watch_free_space(step.advance, stage.paths, estimate, request.store)
        if request.uses_built_in_engine:
            written = write_squashfs(prepared.tree, stage.image, prepared.write_options, faults, advance)
        else:
            with disk_space.detect_full_disk(stage.paths, estimate, request.store):
                written = _write_with_mksquashfs(request, prepared, stage, faults, advance)
    if isinstance(written, WriteResult):
        stage.flush_in_background(written.sealed.read_back)
    else:
        stage.flush_in_background()
    if request.parameters.foreign_compressor:
        return written  # only the real mksquashfs reads this codec, and it reported no error
    image = check_image(stage.image)
    if request.options.verify:
        with report.step("reading the image back", prepared.survey.bytes) as step:
            options = prepared.write_options
            namespaces = options.xattr_namespaces if options.xattrs else ()
            verified = verify_image(image, prepared.tree, faults, namespaces, step.advance)
        for path in verified.not_compared:
            report.note(f"/{printable(path)} changed after it was read, so it was not compared")
    return written


def _write_with_mksquashfs(
    request: BuildRequest, prepared: PreparedTree, stage: StagedImage, faults: Faults, progress: Callable[[int], None]
) -> MksquashfsResult:
    """Raises FormatError if its output is corrupt each time."""
    for _ in range(_MKSQUASHFS_ATTEMPTS - 1):
        with suppress(FormatError):
            return _run_mksquashfs(request, prepared, stage, faults, progress)
        stage.image.seek(0)
        stage.image.truncate()
    return _run_mksquashfs(request, prepared, stage, faults, progress)


def _run_mksquashfs(
    request: BuildRequest, prepared: PreparedTree, stage: StagedImage, faults: Faults, progress: Callable[[int], None]
) -> MksquashfsResult:
    from ltsp.mksquashfs import engine  # noqa: PLC0415 -- rarely used

    made = engine.write_image(prepared.tree, stage.image, prepared.write_options, request.parameters, faults, progress)
    if not request.parameters.foreign_compressor:  # only mksquashfs can read those
        read_all_contents(check_image(stage.image))
    return made


def _make_contents(requested: RequestedImage, prepared: PreparedTree, client: ClientBootFiles) -> VersionContents:
    kernel = prepared.kernel
    return VersionContents(
        source=manifest.SourceFacts(requested.argument, requested.source.kind),
        kernel=to_kernel_facts(kernel) if kernel else None,
        files=client.collect_files(kernel),
        codec=prepared.codec,
        packages=list_packages(prepared.tree),
        setuid=prepared.survey.privileged,
        warnings=(*prepared.warnings, *client.warnings),
    )


def _image_mode(options: ImageOptions) -> int:
    if options.image_mode is not None:
        return options.image_mode
    return PUBLIC_MODE if options.cleanup else PRIVATE_MODE
