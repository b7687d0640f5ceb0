"""What a person asked for: the command line, with ltsp.conf and the environment behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ltsp.cli.getopt import Parsed, getopt
from ltsp.errors import UsageError
from ltsp.host import working_directory
from ltsp.host.identity import Identity, this_machine
from ltsp.settings import conf_file, conf_keys, conf_sections, section_names
from ltsp.settings.applets import APPLETS, ImageOptions, InfoOptions, KernelOptions, LtspOptions, VersionsOptions
from ltsp.settings.conf_text import Conf
from ltsp.settings.hooks import Hooks, hooks
from ltsp.settings.network_options import (
    BootTestOptions,
    DhcpSnippetOptions,
    DnsmasqOptions,
    HttpOptions,
    InitrdOptions,
    IpxeOptions,
    NfsOptions,
)
from ltsp.settings.option import declared
from ltsp.settings.resolve import Given, resolve

ImageApplet = ImageOptions | InfoOptions | KernelOptions | VersionsOptions
NetworkApplet = (
    BootTestOptions | DhcpSnippetOptions | DnsmasqOptions | HttpOptions | InitrdOptions | IpxeOptions | NfsOptions
)
AppletOptions = ImageApplet | NetworkApplet


@dataclass(frozen=True, slots=True)
class Help:
    """`--help`, before or after the applet: its page, or that of ltsp where the applet is empty."""

    applet: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """`--version`."""


@dataclass(frozen=True, slots=True)
class Run:
    """An applet, its options and what it is to be done with."""

    ltsp: LtspOptions
    applet: str
    options: AppletOptions
    operands: tuple[str, ...]
    hooks: Hooks
    conf: Conf
    identity: Identity
    """Of this server."""
    warnings: tuple[str, ...]
    """Lines about ltsp.conf; nothing that keeps the applet from running."""


def parse(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    conf_path: str = "",
    identity: Callable[[], Identity] = this_machine,
) -> Help | Version | Run:
    """Understand a command line, without the program's name.

    ltsp.conf is `conf_path`, else what LTSP_CONF names, else /etc/ltsp/ltsp.conf. It is not read for help.

    Raises UsageError with all faults of command line, ltsp.conf and environment, and ConfError.
    """
    front, given = _take(arguments, LtspOptions, options_first=True)
    applet = front.operands[0] if front.operands else ""
    asked = {each.option.name: each.value for each in given}
    if "help" in asked:
        return Help(_known_applet(asked["help"] or applet, allow_none=True))
    if "version" in asked:
        return Version()
    _refuse(front.faults, "")
    options = APPLETS[_known_applet(applet)].options
    back, given_to_applet = _take(front.operands[1:], options, options_first="POSIXLY_CORRECT" in environ)
    if any(each.option.name == "help" for each in given_to_applet):
        return Help(applet)
    _refuse(back.faults, applet)

    chosen = conf_path or environ.get(conf_file.VARIABLE, "")
    conf = conf_file.read(chosen or conf_file.PATH, required=bool(chosen))
    this = identity()
    values = conf_sections.evaluate(conf, this, applet)
    faults: list[str] = []
    run = Run(
        resolve(LtspOptions, given, values, environ, faults),
        applet,
        resolve(options, given_to_applet, values, environ, faults),
        back.operands,
        hooks(values, applet, faults),
        conf,
        this,
        (*_astray(), *conf_keys.warnings(conf, this), *section_names.warnings(conf, this)),
    )
    _refuse([*faults, *_contradictions(run)], applet)
    return run


def _astray() -> Iterator[str]:
    if working_directory.is_removed():
        yield "the working directory has been removed, so that relative paths lead nowhere: cd to another one"


def _contradictions(run: Run) -> Iterator[str]:
    """What each option allows and all together do not."""
    count = len(run.operands)
    wanted = APPLETS[run.applet].operands
    if not wanted and count:
        yield f"ltsp {run.applet} takes no argument, and {run.operands[0]!a} is one"
    if wanted and not wanted.startswith("[") and count != 1:
        yield f"ltsp {run.applet} takes one {wanted}, and {count} are given"
    match run.options:
        case ImageOptions(name=name, revert=True):
            if name and count > 1:
                yield f"option --name: {count} images cannot share one name"
        case ImageOptions(name=name) | KernelOptions(name=name):
            if name and count != 1:
                yield f"option --name: {count} images cannot share one name"
        case VersionsOptions() as options:
            if options.keep is not None and not options.prune:
                yield "option --keep says what --prune leaves, and goes with it"
            if options.force and not options.remove_all:
                yield "option --force goes with --remove-all"
            if options.remove_all and not count:
                yield "option --remove-all removes the images that are named, and none is"
            if options.remove_all and (options.use or options.pin or options.unpin or options.remove or options.prune):
                yield "option --remove-all leaves nothing that another option could act on"
            if (options.use or options.pin or options.unpin or options.remove) and count != 1:
                yield f"a version belongs to one image, and {count} are named"
        case _:
            pass


def _take(arguments: Sequence[str], options: type, *, options_first: bool) -> tuple[Parsed, list[Given]]:
    every = declared(options)
    shorts = {each.short: each for each in every if each.short}
    longs = {each.long: each for each in every}
    parsed = getopt(
        arguments,
        {name: each.argument for name, each in shorts.items()},
        {name: each.argument for name, each in longs.items()},
        options_first=options_first,
    )
    return parsed, [
        Given((shorts if len(found.name) == 1 else longs)[found.name], found.value, found.spelling)
        for found in parsed.options
    ]


def _known_applet(name: str, *, allow_none: bool = False) -> str:
    if name in APPLETS or (allow_none and not name):
        return name
    if not name:
        raise UsageError("no applet is named", f"ltsp {'|'.join(APPLETS)} ..., or ltsp --help")
    import difflib  # noqa: PLC0415 -- seldom needed

    near = difflib.get_close_matches(name, APPLETS, n=1)
    hint = f"did you mean ltsp {near[0]}?" if near else f"there are {', '.join(APPLETS)}"
    raise UsageError(f"there is no applet {name!a}", hint)


def _refuse(faults: Sequence[str], applet: str) -> None:
    if faults:
        raise UsageError("; ".join(faults), f"ltsp --help{f'={applet}' if applet else ''} shows the options")
