"""One image, from its source to a published generation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from os.path import abspath, join
from time import monotonic

from ltsp.boot.kernel import Kernel
from ltsp.boot.raspberry import CMDLINE, firmware_files, local_root, none_found
from ltsp.build import disk_space, hooks, plan, summary
from ltsp.build.client_initrd import Client, Wanted, client_initrd
from ltsp.build.prepare import Prepared, prepare
from ltsp.build.read_source import selected
from ltsp.build.request import Order
from ltsp.errors import FormatError, SourceError, UsageError
from ltsp.host.server_file import read_server_file
from ltsp.mksquashfs.options import Output
from ltsp.publish import disk_errors, manifest
from ltsp.publish.contents import Contents, Published, Staged, Unchanged
from ltsp.publish.generation import Generation
from ltsp.publish.locked_image import Held
from ltsp.publish.paths import PUBLIC_MODE
from ltsp.publish.raspberry import boot_directory, in_version, link_boot_files
from ltsp.publish.retention import Retention
from ltsp.publish.stage import Stage
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import ImageOptions, KernelOptions
from ltsp.settings.likely import likely
from ltsp.source.names import in_base_dir
from ltsp.source.source import Plan, Source
from ltsp.squashfs.check import check, read_through
from ltsp.squashfs.writer import write
from ltsp.squashfs.written import Made, Written
from ltsp.transform.packages import packages
from ltsp.tree.content import Content
from ltsp.tree.faults import Faults
from ltsp.tree.name import decode, encode, printable
from ltsp.tree.tree import Tree

_TRIES = 3
"""On a busy machine, one in some dozens of runs of mksquashfs 4.5.1 leaves blocks or a table that cannot be read."""
PRIVATE_MODE = 0o600
"""Of an image that was not cleaned of secrets."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One image of a run."""

    argument: str
    """The source in a lasting form; the manifest records it, so that the same can be built again."""
    source: Source


def build(order: Order, asked: Asked, report: Report) -> summary.Built:
    """Build and publish; or find that the same is published already.

    Raises LtspError. Whatever happens, what clients boot is the old version or the new one, and nothing else stays but
    a version that waits because it did not boot.
    """
    begin = monotonic()
    options = order.options
    faults = Faults(order.skips_unreadable)
    told = hooks.environment(asked.source, order.ltsp)
    source = hooks.prepared(asked.source, order.before, told, report)
    if options.rpi_image == source.name:
        boot_directory(order.store.base_dir, source.name)  # sees that there is something for a Pi to boot
    with order.store.locked(source.name, options.wait) as held:
        held.check_replaceable(backup=options.backup)
        if held.state().deserted:
            report.note(f"{source.name}.img was deleted by hand; the version that clients booted is kept as .img.old")
        made = _made(order, replace(asked, source=source), held, faults, report)
        outcome = made.outcome
        if isinstance(outcome, Staged):
            from ltsp.build.boot_gate import publish_booted  # noqa: PLC0415 -- machines and servers, seldom asked for

            keep = _retention(options)
            outcome = publish_booted(held, outcome, options.boot_transport, report, backup=options.backup, keep=keep)
    return summary.Built(
        source, outcome, made.plan, made.prepared, made.written, faults, _mode(options), monotonic() - begin
    )


@dataclass(frozen=True, slots=True)
class _Version:
    """A version that was made, whether or not clients have it already."""

    outcome: Published | Unchanged | Staged
    plan: Plan
    prepared: Prepared
    written: Written | Made


def _made(order: Order, asked: Asked, held: Held, faults: Faults, report: Report) -> _Version:
    options, source = order.options, asked.source
    with selected(source, order.rules, options.lock_timeout, faults, report) as chosen:
        order, tree = replace(order, rules=chosen.rules), chosen.tree
        prepared = prepare(tree, source.name, order, faults, chosen.gone, chosen.full)
        current = held.state().current
        firmware = for_raspberries(order.options, order.store.base_dir, source.name, tree)
        client = initrd(prepared, source.name, order.client, current, report)
        with report.step("estimating the space"):
            needed = disk_space.space(prepared, {**client.boot_files(prepared.kernel), **firmware})
        plan.show(source, order.rules, prepared, needed, order.store, report)
        client.tell(report)
        _name_files(prepared.tree, order.parameters.output, report)
        with held.stage(needed.least, needed.boot) as stage:
            with disk_errors.told(
                disk_space.WRITING, held.places, order.store.base_dir, outcome=disk_space.NOTHING_PUBLISHED
            ):
                written = _write(order, prepared, stage, needed, faults, report)
            was = _whole(source)
            contents = _contents(asked, prepared, client)
            contents = replace(contents, files={**contents.files, **firmware})
            return _Version(_published(order, stage, contents, report), was, prepared, written)


def _published(order: Order, stage: Stage, contents: Contents, report: Report) -> Published | Unchanged | Staged:
    """Before clients, or before a virtual machine first."""
    options, mode = order.options, _mode(order.options)
    if options.boot_transport:
        with report.step("staging"):
            return stage.publish_later(contents, mode=mode, group=order.group)
    with report.step("publishing"):
        keep = _retention(options)
        return stage.publish(contents, backup=options.backup, keep=keep, mode=mode, group=order.group)


def conclude(order: Order, source: Source, report: Report) -> None:
    """What comes after the image was published, and cannot take that back where it fails."""
    if order.options.rpi_image == source.name:
        link_for_raspberries(order.store, source.name, report)
    told = hooks.environment(source, order.ltsp)
    hooks.run(order.after, told, report, f"the image of {source.name} stays published")


def _whole(source: Source) -> Plan:
    """What was read. Raises SourceError where a snapshot was lost meanwhile."""
    was = source.plan()
    if was.lost:
        raise SourceError(
            f"{printable(source.description)} could not be read to its end: {printable(was.lost)}",
            "make the image while less is written, or give --snapshot=none",
        )
    return was


def initrd(prepared: Prepared, name: str, wanted: Wanted, before: Generation | None, report: Report) -> Client:
    """The clients' own, for the kernel of a tree that was prepared.

    Raises LtspError where no client could boot it.
    """
    codec = prepared.codec if prepared.write_options.codes else ""
    with report.step("making the clients' initrd"):
        return client_initrd(prepared.tree, prepared.kernel, codec, name, wanted, before)


def _name_files(tree: Tree, wanted: Output, report: Report) -> None:
    """What -info and -info-file of mksquashfs ask for: the path of each file of the image.

    Raises UsageError where the file cannot be written.
    """
    if wanted.info:
        for path, _ in tree.walk():
            report.say(printable(path))
    if wanted.info_file is not None:
        try:
            with open(wanted.info_file, "wb") as file:
                file.writelines(encode(path) + b"\n" for path, _ in tree.walk())
        except OSError as error:
            name = printable(wanted.info_file)
            raise UsageError(f"cannot write {name} of -info-file: {error.strerror}") from error


def _write(
    order: Order, prepared: Prepared, stage: Stage, needed: disk_space.Space, faults: Faults, report: Report
) -> Written | Made:
    """The image, written and checked; its way to the disk begins."""
    with report.step("writing the image", prepared.survey.bytes) as step:
        written: Written | Made
        advance = disk_space.watched(step.advance, stage.places, needed, order.store)
        if order.own_engine:
            written = write(prepared.tree, stage.image, prepared.write_options, faults, advance)
        else:
            with disk_space.blamed(stage.places, needed, order.store):
                written = _by_mksquashfs(order, prepared, stage, faults, advance)
    if isinstance(written, Written):
        stage.flush_in_background(written.sealed.read_back)
    else:
        stage.flush_in_background()
    if order.parameters.foreign_compressor:
        return written  # by a codec that only the real mksquashfs has, which ended without an error
    image = check(stage.image)
    if order.options.verify:
        from ltsp.squashfs.verify import verify  # noqa: PLC0415 -- not asked for in most builds

        with report.step("reading the image back", prepared.survey.bytes) as step:
            options = prepared.write_options
            namespaces = options.xattr_namespaces if options.xattrs else ()
            verified = verify(image, prepared.tree, faults, namespaces, step.advance)
        for path in verified.unjudged:
            report.note(f"/{printable(path)} has changed since it was read, so that it could not be compared")
    return written


def _by_mksquashfs(
    order: Order, prepared: Prepared, stage: Stage, faults: Faults, progress: Callable[[int], None]
) -> Made:
    """Raises FormatError where what it wrote is damaged each time."""
    for _ in range(_TRIES - 1):
        with suppress(FormatError):
            return _made_once(order, prepared, stage, faults, progress)
        stage.image.seek(0)
        stage.image.truncate()
    return _made_once(order, prepared, stage, faults, progress)


def _made_once(order: Order, prepared: Prepared, stage: Stage, faults: Faults, progress: Callable[[int], None]) -> Made:
    from ltsp.mksquashfs import engine  # noqa: PLC0415 -- seldom asked for, and has a part of its own

    made = engine.write(prepared.tree, stage.image, prepared.write_options, order.parameters, faults, progress)
    if not order.parameters.foreign_compressor:  # only itself can read those
        read_through(check(stage.image))
    return made


def _contents(asked: Asked, prepared: Prepared, client: Client) -> Contents:
    kernel = prepared.kernel
    return Contents(
        source=manifest.Source(asked.argument, asked.source.kind),
        kernel=chosen_kernel(kernel) if kernel else None,
        files=client.boot_files(kernel),
        codec=prepared.codec,
        packages=packages(prepared.tree),
        setuid=prepared.survey.privileged,
        warnings=(*prepared.warnings, *client.warnings),
    )


def chosen_kernel(kernel: Kernel) -> manifest.Kernel:
    """What the manifest says of it."""
    passed_over = {each.path: each.reason for each in kernel.passed_over}
    return manifest.Kernel(kernel.path, kernel.version or "", kernel.reason, passed_over)


def _retention(options: ImageOptions) -> Retention:
    return Retention.of(options)


def _mode(options: ImageOptions) -> int:
    if options.image_mode is not None:
        return options.image_mode
    return PUBLIC_MODE if options.cleanup else PRIVATE_MODE


def check_rpi_image(name: str, of_run: Iterable[str], store: Store) -> None:
    """`name` is what RPI_IMAGE says, and `of_run` are the images that are about to be published.

    Raises UsageError where there is no such image, and nothing that one could be made of.
    """
    known = {*of_run, *store.names(), *in_base_dir(store.base_dir)}
    if name and name not in known:
        near = likely(name, known)
        raise UsageError(
            f"RPI_IMAGE: there is no image {name!a}; there are {', '.join(map(printable, sorted(known))) or 'none'}",
            (f"did you mean --rpi-image={printable(near)}? " if near else "")
            + "name one of these with --rpi-image, or leave it and RPI_IMAGE out",
        )


def for_raspberries(
    options: ImageOptions | KernelOptions, base_dir: str, name: str, tree: Tree
) -> Mapping[str, Content]:
    """What a version has for Raspberry Pis, by the names there: nothing where they boot by the files of a chroot.

    Raises LtspError where the image is to be theirs and has no such files.
    """
    if options.rpi_image != name or boot_directory(base_dir, name):
        return {}
    found = firmware_files(tree)
    if not found:
        raise none_found(name)
    return in_version(found)


def link_for_raspberries(store: Store, name: str, report: Report) -> None:
    current = store.current(name)
    published = tuple(current.manifest.files) if current else ()
    linked = link_boot_files(store.base_dir, store.tftp_dir, name, published)
    report.note(f"linked {len(linked.links)} boot files for Raspberry Pis into {printable(store.tftp_dir)}")
    for path in linked.in_the_way:
        report.warn(f"{printable(store.tftp_dir)}/{printable(path)} is not ours and stays; Raspberry Pis get that file")
    cmdline = abspath(join(store.tftp_dir, CMDLINE))
    if root := local_root(decode(read_server_file(cmdline) or b"")):
        what = f"{printable(cmdline)} has root={printable(root)}, which is on a card or disk of the Raspberry Pi"
        report.warn(f"{what}: without that it needs another, such as root=/dev/nfs, in this file")
