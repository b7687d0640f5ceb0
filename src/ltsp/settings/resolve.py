"""The value of each option, and the commands around an applet.

The command line counts before ltsp.conf, that before the environment, and that before the default. All faults are
collected, each with its origin, so that they can be fixed in one go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ltsp.settings.option import GivenOption, Option, Reach, declared_options

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """A key and its value: in ltsp.conf, in the environment, or as an option."""

    key: str
    value: str
    where: str
    """For messages: `/etc/ltsp/ltsp.conf:12`, `option --backup`."""
    fault: str = ""
    """Why the value is invalid; reported only if the value is used."""


def resolve_options(
    options: type[T],
    given: Sequence[GivenOption],
    conf: Mapping[str, Setting],
    environ: Mapping[str, str],
    faults: list[str],
) -> T:
    """The options with their values; an invalid one gets its default, and its fault is appended to `faults`."""
    values: dict[str, object] = {}
    for option in declared_options(options):
        sources = _option_texts(option, given, conf, environ)
        used = sources if option.is_repeatable else sources[-1:]
        parsed = [_parse(option, source, faults) for source in used]
        if any(value is None for value in parsed) or not parsed:
            continue
        values[option.name] = tuple(parsed) if option.is_repeatable else parsed[0]
    return options(**values)


def _option_texts(
    option: Option, given: Sequence[GivenOption], conf: Mapping[str, Setting], environ: Mapping[str, str]
) -> list[Setting]:
    """The texts from the place with the highest priority; several if the option is repeated there."""
    named = [each for each in given if each.option == option]
    if named:
        return [
            Setting(option.key, option.implied_value if each.value is None else each.value, f"option {each.spelling}")
            for each in named
        ]
    if option.reach is Reach.ONCE:
        return []
    setting = conf.get(option.key)
    if setting is not None and (setting.fault or _is_set(option, setting.value)):
        return [Setting(option.key, setting.value, f"{setting.where}: {option.key}", setting.fault)]
    if option.key in environ and _is_set(option, environ[option.key]):
        return [Setting(option.key, environ[option.key], f"environment: {option.key}")]
    return []


def _is_set(option: Option, text: str) -> bool:
    """Whether a variable counts as set: an empty one does if empty is a value, as in IONICE=""."""
    return bool(text) or option.kind.accepts_empty


def _parse(option: Option, source: Setting, faults: list[str]) -> object:
    """The value, or None and an appended fault."""
    if source.fault:
        faults.append(f"{source.where}: {source.fault}")
        return None
    try:
        value: object = option.parse(source.value)
    except ValueError as error:
        faults.append(f"{source.where}: {source.value!a} {error}")
        return None
    return value


@dataclass(frozen=True, slots=True)
class Hooks:
    """Settings whose values are commands for a shell, to run before and after an applet."""

    pre_hooks: tuple[Setting, ...] = ()
    post_hooks: tuple[Setting, ...] = ()

    @property
    def hooks_with_root(self) -> tuple[Setting, ...]:
        """Those that mention LTSP_ROOT, and so need a writable tree."""
        return tuple(hook for hook in (*self.pre_hooks, *self.post_hooks) if "LTSP_ROOT" in hook.value)


def find_hooks(conf: Mapping[str, Setting], applet: str, faults: list[str]) -> Hooks:
    """The commands of an applet, each list in the order of the keys; empty ones are skipped."""
    variable = applet.upper().replace("-", "_")
    return Hooks(*(_make_hooks(conf, f"{when}_{variable}_", faults) for when in ("PRE", "POST")))


def _make_hooks(conf: Mapping[str, Setting], prefix: str, faults: list[str]) -> tuple[Setting, ...]:
    found = [conf[key] for key in sorted(conf) if key.startswith(prefix)]
    faults += [f"{setting.where}: {setting.key}: {setting.fault}" for setting in found if setting.fault]
    return tuple(each for each in found if each.value and not each.fault)
