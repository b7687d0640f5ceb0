"""The manual pages, in roff: options from their declarations, prose from `ltsp.cli.pages`. groff_man(7)"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import assert_never

from ltsp.cli.pages import APPLET_PAGES as PROSE
from ltsp.cli.pages import CONF_PAGE, LTSP_PAGE
from ltsp.cli.prose import Block, Example, Item, Prose
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import Argument, Option, Reach, declared_options, group_options

_WIDTH = 78
_DATE = "2026-11-22"
"""Of the prose; pages do not depend on the day of the build."""

_HOOKS = (
    Item(
        "PRE_IMAGE_x, POST_IMAGE_x",
        "Commands that a shell runs before and after `ltsp image`, in the order of the keys. In one that uses "
        "`LTSP_ROOT`, this is a writable view of the source, and changes there go only into the image. "
        "Exclusions and cleanup also apply to them. Single quotes keep `$LTSP_ROOT` for that shell.",
    ),
)


def pages() -> dict[str, str]:
    """Every page by file name, as in `ltsp-image.8`."""
    every = {"ltsp.8": _ltsp(), "ltsp.conf.5": _conf()}
    return every | {f"ltsp-{name}.8": _applet(name) for name in APPLETS}


def _ltsp() -> str:
    synopsis = [*_synopsis(["ltsp"], declared_options(LtspOptions)), r".I applet", r".RI [ argument ].\|.\|."]
    applets = [
        Item(f"ltsp-{each.name}(8)", f"{each.summary[:1].upper()}{each.summary[1:]}.") for each in APPLETS.values()
    ]
    return _page("LTSP", "8", LTSP_PAGE, synopsis, [*_section("APPLETS", applets), *_options(LtspOptions)])


def _applet(name: str) -> str:
    prose, applet = PROSE[name], APPLETS[name]
    synopsis = [
        *(r".B ltsp", r".RI [ ltsp-options ]", rf".B {_escape(name)}"),
        *_synopsis([], declared_options(applet.options)),
        *_operands(applet.operands),
    ]
    return _page(
        f"LTSP-{name.upper()}",
        "8",
        prose,
        synopsis,
        _options(applet.options, "See `ltsp(8)` for the options before the applet."),
    )


def _operands(operands: str) -> list[str]:
    """`IMAGE` or `[IMAGE]...` in a synopsis."""
    name = operands.strip("[].").lower()
    if not name:
        return []
    return [rf".RI [ {name} ].\|.\|." if operands.startswith("[") else rf".I {name}"]


def _conf() -> str:
    keys: dict[str, Option] = {}
    for options in (LtspOptions, *(applet.options for applet in APPLETS.values())):
        keys |= {each.key: each for each in declared_options(options) if each.reach is Reach.EVERYWHERE}
    items = [Item(f"{key}={keys[key].kind.metavar}", _meaning(keys[key])) for key in sorted(keys)]
    body: list[Block] = ["Command line options, with their long names in capitals:", *items, *_HOOKS]
    return _page("LTSP.CONF", "5", CONF_PAGE, [".I /etc/ltsp/ltsp.conf"], _section("KEYS", body))


def _page(name: str, section: str, prose: Prose, synopsis: Iterable[str], options: Iterable[str]) -> str:
    lines = [
        rf".TH {_escape(name)} {section} {_DATE} ltsp",
        *(".SH NAME", rf"{_escape(prose.title.replace(' ', '-'))} \- {_text(prose.summary)}"),
        *(".SH SYNOPSIS", *synopsis),
        *_section("DESCRIPTION", prose.description),
        *options,
    ]
    for title, blocks in prose.more:
        lines += _section(title, blocks)
    for title, items in (("FILES", prose.files), ("EXIT STATUS", prose.exit_status), ("EXAMPLES", prose.examples)):
        lines += _section(title, items) if items else []
    others = [rf".BR {_escape(each.partition('(')[0])} ({each.partition('(')[2]}" for each in prose.see_also]
    return "\n".join([*lines, ".SH SEE ALSO", *(f"{other} ," for other in others[:-1]), others[-1], ""])


def _synopsis(program: list[str], options: Iterable[Option]) -> Iterator[str]:
    """The options that have a letter; the OPTIONS section lists all of them."""
    yield from (rf".B {each}" for each in program)
    lettered = (option for option in options if option.short)
    for option in sorted(lettered, key=lambda option: (option.short.lower(), option.short)):
        value = {
            Argument.NONE: "",
            Argument.REQUIRED: rf"\ \fI{_escape(option.long)}\fR",
            Argument.OPTIONAL: rf"[\fI{_escape(option.kind.metavar)}\fR]",
        }[option.argument]
        yield rf"[\fB\-{option.short}\fR{value}]"


def _options(options: type, *blocks: Block) -> Iterator[str]:
    yield from _section("OPTIONS", blocks)
    for group, members in group_options(options):
        if group.value:
            yield f".SS {group.value[:1].upper()}{group.value[1:]}"
        for option in members:
            yield from (".TP", _spelling(option), _text(_meaning(option)))


def _spelling(option: Option) -> str:
    value = rf"\fI{_escape(option.kind.metavar)}\fR"
    short = rf"\fB\-{option.short}\fR, " if option.short else ""
    return rf"{short}\fB\-\-{_escape(option.long)}\fR{option.argument.suffix(value)}"


def _meaning(option: Option) -> str:
    """Summary, details and default as sentences."""
    default = f"Default: {option.default_label}." if option.default_label else ""
    summary = f"{option.summary[:1].upper()}{option.summary[1:]}."
    return " ".join(filter(None, (summary, option.details, default)))


def _section(title: str, blocks: Iterable[Block]) -> Iterator[str]:
    yield f".SH {title}"
    for number, block in enumerate(blocks):
        match block:
            case str():
                yield from ([".PP"] if number else [])
                yield _text(block)
            case Item(term, text):
                yield from (".TP", rf"\fB{_escape(term)}\fR", _text(text))
            case Example(text, lines):
                yield from ([".PP"] if number else [])
                yield _text(text)
                yield from (".PP", ".RS 4", ".nf", *map(_escape, lines.splitlines()), ".fi", ".RE")
            case _:
                assert_never(block)


def _text(text: str) -> str:
    """Running text; literals in back quotes become bold."""
    roff = "".join(
        rf"\fB{_escape(part)}\fR" if number % 2 else part.replace("\\", r"\e").replace("--", r"\-\-")
        for number, part in enumerate(text.split("`"))
    )
    wrapped = textwrap.wrap(roff, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(_guard_line(line) for line in wrapped)


def _escape(text: str) -> str:
    """Literal text: hyphens stay hyphens, quotes stay straight."""
    for character, escape in (
        ("\\", r"\e"),
        ("-", r"\-"),
        ("'", r"\(aq"),
        ("`", r"\(ga"),
        ("~", r"\(ti"),
        ("^", r"\(ha"),
    ):
        text = text.replace(character, escape)
    return _guard_line(text)


def _guard_line(line: str) -> str:
    """Keep a line that begins with a dot or quote from being a request."""
    return re.sub(r"^([.'])", r"\\&\1", line)
