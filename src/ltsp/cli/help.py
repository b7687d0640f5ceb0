"""The short help: `ltsp --help`, `ltsp image --help`, `ltsp --help=image`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import Option, declared_options, group_options

_WIDTH = 100
_SUMMARY_COLUMN = 34
"""Columns; a longer spelling has a line of its own."""


def format_help(applet: str = "") -> str:
    """The help of an applet, or of ltsp itself."""
    return "\n".join(_applet_lines(applet) if applet else _ltsp_lines()) + "\n"


def _ltsp_lines() -> Iterator[str]:
    yield "Usage: ltsp [LTSP-OPTIONS] APPLET [OPTIONS] [ARGUMENT]..."
    yield "Turn a Linux system into an image that diskless PCs boot over the network."
    yield ""
    yield "Applets:"
    for applet in APPLETS.values():
        yield from _format_entry(applet.name, applet.summary)
    yield from _format_options("LTSP options", declared_options(LtspOptions))
    yield ""
    yield "ltsp --help=APPLET shows the options of an applet; see ltsp(8) for more."


def _applet_lines(name: str) -> Iterator[str]:
    applet = APPLETS[name]
    yield f"Usage: {synopsis(name)}"
    yield f"{applet.summary[:1].upper()}{applet.summary[1:]}."
    for group, options in group_options(applet.options):
        yield from _format_options(f"Options, {group.value}" if group.value else "Options", options)
    yield ""
    yield f"ltsp --help shows the options before the applet; see ltsp-{name}(8) for more."


def synopsis(name: str) -> str:
    """`ltsp [LTSP-OPTIONS] image [OPTIONS] [IMAGE]...`"""
    return f"ltsp [LTSP-OPTIONS] {name} [OPTIONS] {APPLETS[name].operands}".rstrip()


def _format_options(heading: str, options: tuple[Option, ...]) -> Iterator[str]:
    yield ""
    yield f"{heading}:"
    for option in options:
        spelling = option.spelling if option.short else f"    {option.spelling}"
        default = f" (default: {option.default_label})" if option.default_label else ""
        yield from _format_entry(spelling, option.summary + default)


def _format_entry(head: str, summary: str) -> Iterator[str]:
    lines = textwrap.wrap(summary, _WIDTH - _SUMMARY_COLUMN)
    if len(head) + 4 > _SUMMARY_COLUMN:
        yield f"  {head}"
    else:
        lines[0] = f"  {head}".ljust(_SUMMARY_COLUMN) + lines[0]
    yield from (line if line.startswith("  ") else " " * _SUMMARY_COLUMN + line for line in lines)
