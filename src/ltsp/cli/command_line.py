"""The parsed command line, with ltsp.conf and the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ltsp.cli.getopt import ParsedArguments, getopt
from ltsp.errors import UsageError
from ltsp.host import files
from ltsp.host.identity import Identity, read_identity
from ltsp.settings import conf_values
from ltsp.settings.applets import APPLETS, ImageOptions, InfoOptions, KernelOptions, LtspOptions, VersionsOptions
from ltsp.settings.conf_text import CONF_PATH, CONF_VARIABLE, Conf, read_conf
from ltsp.settings.conf_warnings import conf_warnings
from ltsp.settings.naming import closest_name
from ltsp.settings.network_options import (
    BootTestOptions,
    DhcpSnippetOptions,
    DnsmasqOptions,
    HttpOptions,
    InitrdOptions,
    IpxeOptions,
    NfsOptions,
)
from ltsp.settings.option import declared_options
from ltsp.settings.resolve import GivenOption, Hooks, find_hooks, resolve

ImageApplet = ImageOptions | InfoOptions | KernelOptions | VersionsOptions
NetworkApplet = (
    BootTestOptions | DhcpSnippetOptions | DnsmasqOptions | HttpOptions | InitrdOptions | IpxeOptions | NfsOptions
)
AppletOptions = ImageApplet | NetworkApplet


@dataclass(frozen=True, slots=True)
class HelpRequest:
    """`--help`, before or after the applet; for ltsp itself if `applet` is empty."""

    applet: str = ""


@dataclass(frozen=True, slots=True)
class VersionRequest:
    """`--version`."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """An applet, its options and operands."""

    ltsp: LtspOptions
    applet: str
    options: AppletOptions
    operands: tuple[str, ...]
    hooks: Hooks
    conf: Conf
    identity: Identity
    """Of this server."""
    warnings: tuple[str, ...]
    """Warnings, mostly about ltsp.conf, that do not keep the applet from running."""


def parse_command_line(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    conf_path: str = "",
    identity: Callable[[], Identity] = read_identity,
) -> HelpRequest | VersionRequest | Invocation:
    """Parse a command line, without the program's name.

    ltsp.conf is `conf_path`, else $LTSP_CONF, else /etc/ltsp/ltsp.conf. It is not read for --help.

    Raises UsageError with all faults of command line, ltsp.conf and environment, and ConfError.
    """
    front, given = _parse_options(arguments, LtspOptions, options_first=True)
    applet = front.operands[0] if front.operands else ""
    given_values = {each.option.name: each.value for each in given}
    if "help" in given_values:
        return HelpRequest(_check_applet(given_values["help"] or applet, allow_none=True))
    if "version" in given_values:
        return VersionRequest()
    _raise_faults(front.faults, "")
    options = APPLETS[_check_applet(applet)].options
    back, given_to_applet = _parse_options(front.operands[1:], options, options_first="POSIXLY_CORRECT" in environ)
    if any(each.option.name == "help" for each in given_to_applet):
        return HelpRequest(applet)
    _raise_faults(back.faults, applet)

    chosen = conf_path or environ.get(CONF_VARIABLE, "")
    conf = read_conf(chosen or CONF_PATH, required=bool(chosen))
    this = identity()
    values = conf_values.evaluate(conf, this, applet)
    faults: list[str] = []
    run = Invocation(
        resolve(LtspOptions, given, values, environ, faults),
        applet,
        resolve(options, given_to_applet, values, environ, faults),
        back.operands,
        find_hooks(values, applet, faults),
        conf,
        this,
        (*_working_directory_warnings(), *conf_warnings(conf, this)),
    )
    _raise_faults([*faults, *_contradictions(run)], applet)
    return run


def _working_directory_warnings() -> Iterator[str]:
    if files.is_working_directory_removed():
        yield "the working directory has been removed, so relative paths do not work: cd to another one"


def _contradictions(run: Invocation) -> Iterator[str]:
    """Options and operands that contradict each other."""
    count = len(run.operands)
    wanted = APPLETS[run.applet].operands
    if not wanted and count:
        yield f"ltsp {run.applet} takes no argument, but {run.operands[0]!a} is given"
    if wanted and not wanted.startswith("[") and count != 1:
        yield f"ltsp {run.applet} takes one {wanted}, but {count} are given"
    match run.options:
        case ImageOptions(name=name, revert=True):
            if name and count > 1:
                yield f"option --name: {count} images cannot share one name"
        case ImageOptions(name=name) | KernelOptions(name=name):
            if name and count != 1:
                yield f"option --name: {count} images cannot share one name"
        case VersionsOptions() as options:
            if options.keep is not None and not options.prune:
                yield "option --keep requires --prune"
            if options.force and not options.remove_all:
                yield "option --force requires --remove-all"
            if options.remove_all and not count:
                yield "option --remove-all requires the names of the images"
            if options.remove_all and (options.use or options.pin or options.unpin or options.remove or options.prune):
                yield "option --remove-all cannot be combined with --use, --pin, --unpin, --remove or --prune"
            if (options.use or options.pin or options.unpin or options.remove) and count != 1:
                yield f"options for a version require one image, but {count} are given"
        case _:
            pass


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
    hint = f"did you mean ltsp {near}?" if near else f"applets: {', '.join(APPLETS)}"
    raise UsageError(f"unknown applet {name!a}", hint)


def _raise_faults(faults: Sequence[str], applet: str) -> None:
    if faults:
        raise UsageError("; ".join(faults), f"ltsp --help{f'={applet}' if applet else ''} shows the options")
