"""`ltsp initrd`: the add-on ltsp.img, which carries the site's configuration to every client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from textwrap import wrap

from ltsp.build.add_on import AddOnLayer, add_on_path, lock_add_on, make_add_on, read_add_on, write_add_on
from ltsp.build.add_on_sources import list_site_files
from ltsp.initrd.site.layer import LIST_NAMES, SiteLayer
from ltsp.report import units
from ltsp.report.report import Report
from ltsp.settings.applets import LtspOptions
from ltsp.settings.conf import Conf
from ltsp.settings.network_options import InitrdOptions
from ltsp.tree.name import printable

_LIST_WIDTH = 72
"""Characters of a list on one line of the table."""
_MAX_NAMED_FILES = 20
"""How many of the site's files are named."""


def initrd(options: InitrdOptions, ltsp: LtspOptions, conf: Conf, report: Report, system: str = "/") -> None:
    """Make it, and replace the previous one if it differs. `system` is the root directory that has the server's /etc.

    Raises ConfError with every invalid client setting of ltsp.conf, and LtspError.
    """
    path = add_on_path(ltsp)
    with nullcontext() if options.dry_run else lock_add_on(path, ltsp.tftp_dir):
        layers, archive = make_add_on(ltsp, conf, report.warn, system)
        changed = read_add_on(path) != archive
        if changed and not options.dry_run:
            write_add_on(path, archive)
    _print_summary(layers, path, len(archive), report, options, changed=changed)


def _print_summary(
    layers: list[AddOnLayer], path: str, size: int, report: Report, options: InitrdOptions, *, changed: bool
) -> None:
    if options.json:
        report.result(
            {
                "path": path,
                "size": size,
                "changed": changed,
                "written": changed and not options.dry_run,
                "layers": [
                    {
                        "name": each.name,
                        "title": each.title,
                        "where": each.where,
                        "match": list(each.layer.match),
                        "env": dict(each.layer.env),
                        "files": sorted(each.layer.files),
                        "parts": {file: sorted(pieces) for file, pieces in each.layer.parts.items()},
                        "unneeded": list(each.layer.unneeded),
                        "mask": list(each.layer.mask),
                        "disable": list(each.layer.disable),
                        "enable": list(each.layer.enable),
                        "keep": list(each.layer.keep),
                        "remove": list(each.layer.remove),
                        "passwords": sorted(name for name, hashed in each.layer.shadow.items() if hashed != "!"),
                    }
                    for each in layers
                ],
            }
        )
        return
    if options.dry_run:
        report.table(
            ("layer", "source", "clients", "contents"),
            [_layer_row(each, line) for each in layers for line in _layer_lines(each.layer)],
        )
        return
    summary = f"{printable(path)}: {units.format_size(size)}, {units.format_count(len(layers), 'layer')}"
    report.say(summary if changed else f"unchanged {summary}")
    if files := list_site_files(layers[0].layer.files):
        more = (
            f", and {len(files) - _MAX_NAMED_FILES} more; --dry-run lists them" if len(files) > _MAX_NAMED_FILES else ""
        )
        report.note(f"files of /etc/ltsp that clients get: {', '.join(map(printable, files[:_MAX_NAMED_FILES]))}{more}")


def _layer_row(each: AddOnLayer, line: str) -> tuple[str, str, str, str]:
    clients = " ".join(each.layer.match) or ("every client" if each.name == "common" else "its clients")
    return each.name, printable(each.title), printable(clients), printable(line)


def _layer_lines(layer: SiteLayer) -> Iterator[str]:
    """The contents of a layer, one item a line; neither passwords nor hashes."""
    yield from (f"{key}={value}" for key, value in sorted(layer.env.items()))
    yield from (f"file {path}" for path in sorted(layer.files))
    yield from (f"part of {path}: {name}" for path, each in sorted(layer.parts.items()) for name in sorted(each))
    for name in LIST_NAMES:
        entries: tuple[str, ...] = getattr(layer, name)
        yield from (
            f"{name} {line}"
            for line in wrap(" ".join(entries), _LIST_WIDTH, break_long_words=False, break_on_hyphens=False)
        )
    yield from (f"password of {name}" for name, hashed in layer.shadow.items() if hashed != "!")
