"""`ltsp image --revert`: swap the current version and the one before; no source is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from ltsp.build.batch import run_each, update_after_publish
from ltsp.build.client_initrd import ClientInitrdRequest
from ltsp.build.publish_kernel import publish_source_kernel
from ltsp.build.version_facts import removed_version_lines
from ltsp.errors import LtspError, UsageError
from ltsp.publish.gc import Retention
from ltsp.publish.manifest import Origin
from ltsp.publish.store import Store
from ltsp.publish.switch import PublishedVersion, Unchanged
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.image_options import ImageOptions
from ltsp.source.find import find_source
from ltsp.source.names import derive_name
from ltsp.tree.name import printable


def revert(operands: Sequence[str], options: ImageOptions, ltsp: LtspOptions, conf: Conf, report: Report) -> int:
    """Revert each image, or the only one if none is named, and return the worst exit status.

    Raises UsageError if it is not clear which, and LtspError if there is only one image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    results: list[Mapping[str, object]] = []

    def revert_one(name: str) -> int:
        outcome = _revert_image(name, options, store, report)
        version, reverted = outcome.version.id, isinstance(outcome, PublishedVersion)
        if isinstance(outcome, PublishedVersion):
            report.say(f"reverted  {name}: clients now boot version {version}")
            for line in removed_version_lines(outcome.removed_versions):
                report.say(line)
        else:
            report.say(f"unchanged {name}: version {version} is already current")
        results.append({"name": name, "reverted": reverted, "version": version})
        return 0

    status = run_each(_images_to_revert(operands, options, store), report, revert_one)
    report.result({"images": results})
    if not options.dry_run:
        update_after_publish(ltsp, conf, options, report)
    return status


def _images_to_revert(operands: Sequence[str], options: ImageOptions, store: Store) -> Sequence[str]:
    if options.name:
        return [options.name]
    if operands:
        return [derive_name(operand) if operand.startswith(("/", ".")) else operand for operand in operands]
    names = store.names()
    if len(names) != 1:
        raise UsageError(f"specify which image to revert: {', '.join(names) or 'there are none'}", "ltsp image -r NAME")
    return names


def _revert_image(name: str, options: ImageOptions, store: Store, report: Report) -> PublishedVersion | Unchanged:
    if not store.state(name).exists:
        raise LtspError(f"no image {name} in {printable(store.base_dir)}/images", "ltsp info lists the images")
    with store.locked(name, options.wait) as locked, ExitStack() as keep:
        previous = locked.previous()
        if previous.has_kernel or previous.manifest.origin is not Origin.FOREIGN:
            return locked.revert(Retention.of(options))
        # A NAME.img.old of another LTSP has its kernel inside. If it is a link, it resolves only under that name.
        path = locked.paths.old if previous.is_image_of(locked.state().old) else previous.image
        initrd_request = replace(ClientInitrdRequest.of(options), must_boot=False)
        source = find_source(path, store.base_dir, name=name, keep=keep)
        return publish_source_kernel(locked, source, path, options, initrd_request, report, of=previous)[0]
