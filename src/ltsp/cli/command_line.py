"""The parsed command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ltsp.cli.getopt import ParsedArguments, getopt
from ltsp.errors import UsageError
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.naming import closest_name
from ltsp.settings.option import GivenOption, declared_options

if TYPE_CHECKING:
    from ltsp.cli.invocation import Invocation
    from ltsp.host.identity import Identity


@dataclass(frozen=True, slots=True)
class HelpRequest:
    """`--help`, before or after the applet; for ltsp itself if `applet` is empty."""

    applet: str = ""


@dataclass(frozen=True, slots=True)
class VersionRequest:
    """`--version`."""


def parse_command_line(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    conf_path: str = "",
    identity: Callable[[], Identity] | None = None,
) -> HelpRequest | VersionRequest | Invocation:
    """Parse a command line, without the program's name.

    ltsp.conf is read as `make_invocation` says, but not for --help; `identity` reads that of this server.

    Raises UsageError with all faults of command line, ltsp.conf and environment, and ConfError.
    """
    ltsp_arguments, given = _parse_options(arguments, LtspOptions, options_first=True)
    applet = ltsp_arguments.operands[0] if ltsp_arguments.operands else ""
    given_values = {each.option.name: each.value for each in given}
    if "help" in given_values:
        return HelpRequest(_check_applet(given_values["help"] or applet, allow_none=True))
    if "version" in given_values:
        return VersionRequest()
    _raise_faults(ltsp_arguments.faults, "")
    options = APPLETS[_check_applet(applet)].options
    applet_arguments, given_to_applet = _parse_options(
        ltsp_arguments.operands[1:], options, options_first="POSIXLY_CORRECT" in environ
    )
    if any(each.option.name == "help" for each in given_to_applet):
        return HelpRequest(applet)
    _raise_faults(applet_arguments.faults, applet)

    from ltsp.cli.invocation import make_invocation  # noqa: PLC0415 -- --help needs no settings

    faults: list[str] = []
    invocation = make_invocation(
        applet, given, given_to_applet, applet_arguments.operands, environ, faults, conf_path, identity
    )
    _raise_faults(faults, applet)
    return invocation


def _parse_options(
    arguments: Sequence[str], options: type, *, options_first: bool
) -> tuple[ParsedArguments, list[GivenOption]]:
    every = declared_options(options)
    shorts = {each.short: each for each in every if each.short}
    longs = {each.long: each for each in every}
    parsed = getopt(
        arguments,
        {name: each.argument for name, each in shorts.items()},
        {name: each.argument for name, each in longs.items()},
        options_first=options_first,
    )
    return parsed, [
        GivenOption((shorts if len(found.name) == 1 else longs)[found.name], found.value, found.spelling)
        for found in parsed.options
    ]


def _check_applet(name: str, *, allow_none: bool = False) -> str:
    if name in APPLETS or (allow_none and not name):
        return name
    if not name:
        raise UsageError("no applet given", f"ltsp {'|'.join(APPLETS)} ..., or ltsp --help")
    near = closest_name(name, APPLETS, 0.6)
    hint = f"did you mean ltsp {near}?" if near else f"choose one of {', '.join(APPLETS)}"
    raise UsageError(f"unknown applet {name!a}", hint)


def _raise_faults(faults: Sequence[str], applet: str) -> None:
    if faults:
        raise UsageError("; ".join(faults), f"ltsp --help{f'={applet}' if applet else ''} shows the options")
