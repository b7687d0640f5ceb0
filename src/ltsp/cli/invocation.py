"""An applet with all its settings: from the command line, ltsp.conf and the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ltsp.host import files
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.conf import CONF_PATH, CONF_VARIABLE, Conf, read_conf
from ltsp.settings.option import AppletOptions, GivenOption
from ltsp.settings.resolve import Hooks, Setting, find_hooks, resolve_options

if TYPE_CHECKING:
    from ltsp.host.identity import Identity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Invocation:
    """An applet, its options and operands."""

    ltsp: LtspOptions
    applet: str
    options: AppletOptions
    operands: tuple[str, ...]
    hooks: Hooks
    conf: Conf
    identity: Callable[[], Identity]
    """Reads that of this server."""
    warnings: tuple[str, ...]
    """Warnings, mostly about ltsp.conf, that do not keep the applet from running."""

    def options_as(self, kind: type[T]) -> T:
        """The options, if the caller knows the applet."""
        assert isinstance(self.options, kind)
        return self.options


def make_invocation(
    applet: str,
    given: Sequence[GivenOption],
    given_to_applet: Sequence[GivenOption],
    operands: tuple[str, ...],
    environ: Mapping[str, str],
    faults: list[str],
    conf_path: str = "",
    identity: Callable[[], Identity] | None = None,
) -> Invocation:
    """Add ltsp.conf and the environment to what was given on the command line, before the applet and to it.

    ltsp.conf is `conf_path`, else $LTSP_CONF, else /etc/ltsp/ltsp.conf. What is wrong is appended to `faults`; if there
    is any, the invocation must not be used. Raises ConfError.
    """
    chosen = conf_path or environ.get(CONF_VARIABLE, "")
    conf = read_conf(chosen or CONF_PATH, required=bool(chosen))
    identity = identity or _read_identity
    values, warnings = _evaluate(conf, identity, applet)
    run = Invocation(
        resolve_options(LtspOptions, given, values, environ, faults),
        applet,
        resolve_options(APPLETS[applet].options, given_to_applet, values, environ, faults),
        operands,
        find_hooks(values, applet, faults),
        conf,
        identity,
        (*_find_working_directory_warnings(), *warnings),
    )
    faults += _find_contradictions(run)
    return run


def _read_identity() -> Identity:
    from ltsp.host.identity import read_identity  # noqa: PLC0415 -- only sections of ltsp.conf and menus need it

    return read_identity()


def _evaluate(conf: Conf, identity: Callable[[], Identity], applet: str) -> tuple[Mapping[str, Setting], Sequence[str]]:
    """The server's settings in ltsp.conf, and warnings about the file."""
    if not conf.sections:
        return {}, ()
    from ltsp.settings.conf_values import evaluate_settings  # noqa: PLC0415 -- there may be no ltsp.conf
    from ltsp.settings.conf_warnings import conf_warnings  # noqa: PLC0415 -- likewise

    this = identity()
    return evaluate_settings(conf, this, applet), conf_warnings(conf, this)


def _find_working_directory_warnings() -> Iterator[str]:
    if files.is_working_directory_removed():
        yield "the working directory has been removed, so relative paths do not work: cd to another one"


def _find_contradictions(run: Invocation) -> Iterator[str]:
    """Options and operands that contradict each other."""
    count = len(run.operands)
    wanted = APPLETS[run.applet].operands
    if not wanted and count:
        yield f"ltsp {run.applet} takes no argument, but {run.operands[0]!a} is given"
    if wanted and not wanted.startswith("[") and count != 1:
        yield f"ltsp {run.applet} takes one {wanted}, but {count} are given"
    yield from run.options.contradictions(count)
