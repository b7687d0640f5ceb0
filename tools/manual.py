"""The manual pages: prose from docs/man/*.md, in which comments mark where the declarations of ltsp go. groff_man(7)

`<!-- name -->`, `<!-- synopsis -->` and `<!-- options -->` are those of the page's applet; `<!-- applets -->` lists all
of them. `<!-- keys: options -->` are the options that ltsp.conf may set, and `<!-- keys: APPLET -->` the keys that an
applet acts on besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.conf_keys import CONF_KEYS, Reader
from ltsp.settings.option import Argument, Option, Reach, declared_options, group_options
from tools.roff import escape, roff

PROSE = Path(__file__).parent.parent / "docs" / "man"
_DATE = "2026-11-30"
"""Of the prose; pages do not depend on the day of the build."""
_MARKER = re.compile(r"^<!-- (.+) -->$", re.MULTILINE)
_TITLE = re.compile(r"# (.+)\((\d)\)\n")
_SPECIAL = re.compile(r"([\\*<\[\]])")


def pages() -> dict[str, str]:
    """Every page in roff, by file name, as in `ltsp-image.8`."""
    return {path.stem: page(path.read_text(encoding="utf-8")) for path in sorted(PROSE.glob("*.[58].md"))}


def page(prose: str) -> str:
    """A page in roff.

    Raises ValueError for a marker that is unknown, and for Markdown that pages cannot have.
    """
    title = _TITLE.match(prose)
    if title is None:
        raise ValueError(f"the first line is not a title such as # ltsp(8): {prose[:40]!r}")
    name, section = title.groups()
    markdown = _MARKER.sub(lambda found: _generated(found[1], name), prose[title.end() :])
    return f".TH {escape(name.upper())} {section} {_DATE} ltsp\n{roff(markdown)}"


def _generated(marker: str, page_name: str) -> str:
    """The Markdown that replaces a marker."""
    applet = APPLETS.get(page_name.removeprefix("ltsp-"))
    options = applet.options if applet else LtspOptions
    match marker.split():
        case ["name"] if applet:
            return f"{page_name} - {_quote(applet.summary)}"
        case ["synopsis"]:
            operands = applet.operands if applet else "APPLET [ARGUMENT]..."
            words = ("**ltsp** [*ltsp-options*]", f"**{applet.name}**") if applet else ("**ltsp**",)
            return " ".join([*words, *_synopsis(declared_options(options)), *_operands(operands)])
        case ["options"]:
            return "\n\n".join(_options(options))
        case ["applets"]:
            return _definitions((f"**ltsp-{each.name}**(8)", _sentence(each.summary)) for each in APPLETS.values())
        case ["keys:", "options"]:
            return _definitions(_option_keys())
        case ["keys:", reader]:
            declared = (keys for keys in CONF_KEYS if keys.reader is Reader(reader))
            return _definitions((f"`{each.label}`", _meaning(each.meaning, each.default)) for each in declared)
    raise ValueError(f"no such marker: {marker}")


def _synopsis(options: Iterable[Option]) -> Iterator[str]:
    """The options that have a letter; the OPTIONS section lists all of them."""
    lettered = (option for option in options if option.short)
    for option in sorted(lettered, key=lambda option: (option.short.lower(), option.short)):
        value = {
            Argument.NONE: "",
            Argument.REQUIRED: f"\xa0*{option.long}*",
            Argument.OPTIONAL: rf"\[*{option.kind.metavar}*\]",
        }[option.argument]
        yield rf"\[**-{option.short}**{value}\]"


def _operands(operands: str) -> Iterator[str]:
    """`APPLET [ARGUMENT]...` in italics."""
    for word in operands.split():
        yield re.sub(r"[A-Z]+", lambda name: f"*{name[0].lower()}*", _SPECIAL.sub(r"\\\1", word))


def _options(options: type) -> Iterator[str]:
    for group, members in group_options(options):
        if group.value:
            yield f"### {group.value[:1].upper()}{group.value[1:]}"
        yield _definitions((_spelling(option), _option_meaning(option)) for option in members)


def _option_keys() -> Iterator[tuple[str, str]]:
    keys: dict[str, Option] = {}
    declared: list[type] = [LtspOptions, *(applet.options for applet in APPLETS.values())]
    for options in declared:
        keys |= {each.key: each for each in declared_options(options) if each.reach is Reach.EVERYWHERE}
    for key in sorted(keys):
        yield f"`{key}={keys[key].kind.metavar}`", _option_meaning(keys[key])


def _spelling(option: Option) -> str:
    value = f"*{option.kind.metavar}*"
    short = f"**-{option.short}**, " if option.short else ""
    return f"{short}**--{option.long}**{option.argument.suffix(value)}".replace("[", r"\[").replace("]", r"\]")


def _option_meaning(option: Option) -> str:
    return _meaning(" ".join(filter(None, (_sentence(option.summary), option.details))), option.default_label)


def _meaning(text: str, default: str) -> str:
    return _quote(f"{text} Default: {default}." if default else text)


def _sentence(summary: str) -> str:
    return f"{summary[:1].upper()}{summary[1:]}."


def _quote(text: str) -> str:
    """Text of a declaration as Markdown: it knows `code` and nothing else."""
    return "`".join(part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(text.split("`")))


def _definitions(items: Iterable[tuple[str, str]]) -> str:
    return "\n\n".join(f"{term}\n:   {text}" for term, text in items)
