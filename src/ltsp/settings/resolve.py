"""The value of each option: command line before ltsp.conf before environment before default.

All faults are gathered, each with the place it came from, so that a person mends them in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ltsp.settings.option import Option, Reach, declared

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Given:
    """An option on the command line."""

    option: Option
    value: str | None
    """None where it stands without one."""
    spelling: str
    """`-b` or `--backup`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A key with the value that ltsp.conf gives it."""

    key: str
    value: str
    where: str
    """File and line: `/etc/ltsp/ltsp.conf:12`."""
    fault: str = ""
    """Why the value cannot be had; of no interest until somebody asks for it."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A text for an option, and where it comes from."""

    text: str
    where: str
    fault: str = ""


def resolve(
    options: type[T],
    given: Sequence[Given],
    conf: Mapping[str, Setting],
    environ: Mapping[str, str],
    faults: list[str],
) -> T:
    """The options with their values; where one is wrong its default stands and the fault is noted."""
    values: dict[str, object] = {}
    for option in declared(options):
        sources = _sources(option, given, conf, environ)
        taken = sources if option.repeated else sources[-1:]
        parsed = [_parsed(option, source, faults) for source in taken]
        if any(value is None for value in parsed) or not parsed:
            continue
        values[option.name] = tuple(parsed) if option.repeated else parsed[0]
    return options(**values)


def _sources(
    option: Option, given: Sequence[Given], conf: Mapping[str, Setting], environ: Mapping[str, str]
) -> list[_Source]:
    """The texts that the most important place gives; several where an option is repeated there."""
    named = [each for each in given if each.option == option]
    if named:
        return [
            _Source(option.implied if each.value is None else each.value, f"option {each.spelling}") for each in named
        ]
    if option.reach is Reach.ONCE:
        return []
    setting = conf.get(option.key)
    if setting is not None and (setting.fault or _says_something(option, setting.value)):
        return [_Source(setting.value, f"{setting.where}: {option.key}", setting.fault)]
    if option.key in environ and _says_something(option, environ[option.key]):
        return [_Source(environ[option.key], f"environment: {option.key}")]
    return []


def _says_something(option: Option, text: str) -> bool:
    """Whether a variable counts as set: an empty one does where emptiness is a value, as in IONICE=""."""
    return bool(text) or option.kind.takes_empty


def _parsed(option: Option, source: _Source, faults: list[str]) -> object:
    """The value, or None with its fault noted."""
    if source.fault:
        faults.append(f"{source.where}: {source.fault}")
        return None
    try:
        value: object = option.parse(source.text)
    except ValueError as error:
        faults.append(f"{source.where}: {source.text!a} {error}")
        return None
    return value
