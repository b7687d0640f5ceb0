"""`ltsp image --revert`: exchange the current version and the one before, without a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ltsp.build.after_publish import follow
from ltsp.build.batch import each
from ltsp.build.client_initrd import Wanted
from ltsp.build.leftovers import let_go
from ltsp.build.publish_kernel import publish_found
from ltsp.errors import LtspError, UsageError
from ltsp.publish.contents import Published, Unchanged
from ltsp.publish.manifest import Origin
from ltsp.publish.retention import Retention
from ltsp.publish.store import Store
from ltsp.report.report import Report
from ltsp.settings.applets import ImageOptions, LtspOptions
from ltsp.settings.conf_text import Conf
from ltsp.source.find import find
from ltsp.source.names import name_of
from ltsp.tree.name import printable


def revert(operands: Sequence[str], options: ImageOptions, ltsp: LtspOptions, conf: Conf, report: Report) -> int:
    """Do it for each image, the only one where none is named, and return the worst exit status.

    Raises UsageError where it is not told which, and LtspError where there is but one image.
    """
    store = Store(ltsp.base_dir, ltsp.tftp_dir)
    results: list[Mapping[str, object]] = []

    def exchange(name: str) -> int:
        outcome = _exchanged(name, options, store, report)
        version, reverted = outcome.generation.version, isinstance(outcome, Published)
        if isinstance(outcome, Published):
            report.say(f"reverted  {name}: clients now boot version {version}")
            for line in let_go(outcome.collected):
                report.say(line)
        else:
            report.say(f"unchanged {name}: version {version} is current already")
        results.append({"name": name, "reverted": reverted, "version": version})
        return 0

    status = each(_names(operands, options, store), report, exchange)
    report.result({"images": results})
    if not options.dry_run:
        follow(ltsp, conf, options, report)
    return status


def _names(operands: Sequence[str], options: ImageOptions, store: Store) -> Sequence[str]:
    if options.name:
        return [options.name]
    if operands:
        return [name_of(operand) if operand.startswith(("/", ".")) else operand for operand in operands]
    every = store.names()
    if len(every) != 1:
        raise UsageError(f"which image to go back with: there are {', '.join(every) or 'none'}", "ltsp image -r NAME")
    return every


def _exchanged(name: str, options: ImageOptions, store: Store, report: Report) -> Published | Unchanged:
    if not store.state(name).exists:
        raise LtspError(f"no image {name} in {printable(store.base_dir)}/images", "ltsp info lists what there is")
    with store.locked(name, options.wait) as held:
        before = held.before()
        if before.bootable or before.manifest.origin is not Origin.FOREIGN:
            return held.revert(Retention.of(options))
        # What another LTSP left as NAME.img.old has its kernel inside. A link leads somewhere only under that name.
        path = held.places.old if before.is_image_of(held.state().old) else before.image
        wanted = replace(Wanted.of(options), must_boot=False)
        return publish_found(held, find(path, store.base_dir, name=name), path, options, wanted, report, of=before)[0]
