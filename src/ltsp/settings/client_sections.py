"""The settings of ltsp.conf for clients: a layer for all of them, and one for each section that some of them match.

Which sections a client matches is known only when it boots, so layers are not merged here: a section's layer has its
own settings, and these may refer (`$KEY`) to settings for all clients. Values that a shell on the client executes
(PRE_INIT_x, POST_INIT_x) stay text. Commands among the settings are rejected, as on the server: they are not executed,
and assignments between `if` and `fi` would apply to all. ltsp.conf(5)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ltsp.settings.conf import Conf
from ltsp.settings.conf_keys import CLIENT_APPLETS, Reader, Side, find_side, reader_of
from ltsp.settings.conf_sections import ROLE_SECTIONS, find_pattern_fault, included_names
from ltsp.settings.conf_text import ConfSection, ShellCode
from ltsp.settings.conf_values import Evaluation
from ltsp.settings.resolve import Setting

COMMON_SECTIONS = ("", "common", "clients")
"""The sections for every client, in the order in which they are read; later values win."""

_CLIENT_VARIABLES = frozenset({"SERVER", "HOSTNAME"})
"""Variables whose values only the client knows: they become `%{NAME}`, which the client replaces."""
_EARLY_CLIENT_APPLETS = frozenset({"init", "initrd-bottom"})
"""In `[APPLET/HOST]`: client applets of LTSP that run before login, so that their settings apply here."""
_NETWORK_PATTERN = re.compile(r"[0-9.]+/[0-9.]+")
"""192.168.67.0/24 or /255.255.255.0; other patterns with a slash name an applet."""
_HOOK_KEY = re.compile(r"(?:PRE|POST)_[A-Z_]+_\w+")


@dataclass(frozen=True, slots=True)
class ClientLayer:
    """The settings of one section, or those for every client."""

    title: str
    """For messages: `[pc*]`."""
    where: str
    """File and line of the section: `/etc/ltsp/ltsp.conf:12`; only the file for the common layer."""
    match: tuple[str, ...]
    """Globs of MAC addresses, IP addresses and hostnames in lower case, one of which matches; empty for all clients."""
    settings: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClientSettings:
    common: ClientLayer
    sections: tuple[ClientLayer, ...]
    """In the order of the file, in which they take effect."""
    warnings: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    """Each with file and line; if there is any, the settings must not be used."""


def read_client_settings(conf: Conf) -> ClientSettings:
    """The layers of a file. INCLUDE is resolved; a missing section or a loop is a fault."""
    messages = _Messages(conf)
    for section in conf.sections:
        if _is_client_section(section):
            messages.refuse_code(section)
    shared = _ClientEvaluation(conf, messages.faults)
    for role in COMMON_SECTIONS:
        for section in conf.sections:
            if section.name == role:
                shared.run(section, (role,))
    for section in conf.sections:
        if any(head in _EARLY_CLIENT_APPLETS and not tail for head, tail in _applet_patterns(section)):
            shared.run(section, (section.name,))
    layers: list[ClientLayer] = []
    for section in conf.sections:
        patterns = tuple(_client_patterns(conf, section, messages))
        if patterns:
            section_evaluation = _ClientEvaluation(conf, messages.faults, shared.values)
            section_evaluation.run(section, (section.name,))
            layers.append(
                ClientLayer(f"[{section.name}]", conf.where(section.line), patterns, section_evaluation.values)
            )
    common = ClientLayer("[clients]", conf.path, (), shared.values)
    return ClientSettings(
        common, tuple(layers), tuple(dict.fromkeys(messages.warnings)), tuple(dict.fromkeys(messages.faults))
    )


def _is_client_section(section: ConfSection) -> bool:
    """Whether clients may use it: all sections but [server] and those of server applets, such as [image/]."""
    heads = [head for head, _ in _applet_patterns(section)]
    return section.name != "server" and (len(heads) < len(section.patterns) or any(map(_is_of_client_applet, heads)))


def _is_of_client_applet(head: str) -> bool:
    return any(fnmatchcase(applet, head) for applet in CLIENT_APPLETS)


def _client_patterns(conf: Conf, section: ConfSection, messages: _Messages) -> Iterator[str]:
    """The globs of clients that a section matches; none if it is for others or only a name for INCLUDE."""
    if section.name in ROLE_SECTIONS or _is_only_included(conf, section):
        return
    hosts = [tail for head, tail in _applet_patterns(section) if head in _EARLY_CLIENT_APPLETS and tail]
    for pattern in section.patterns:
        if _NETWORK_PATTERN.fullmatch(pattern):
            messages.warn(section.line, f"[{section.name}] matches no client: write a network as [192.168.67.*]")
    hosts += [pattern.lower() for pattern in section.patterns if "/" not in pattern]
    for pattern in hosts:
        if fault := find_pattern_fault(pattern):
            messages.warn(section.line, f"[{section.name}] matches no client: {fault}")
        else:
            yield pattern


def _applet_patterns(section: ConfSection) -> Iterator[tuple[str, str]]:
    for pattern in section.patterns:
        head, slash, tail = pattern.lower().partition("/")
        if slash:
            yield head, tail


def _is_only_included(conf: Conf, section: ConfSection) -> bool:
    """A plain name that some section includes is a group of settings, not a hostname."""
    if any(character in section.name for character in ":.*?/["):
        return False
    names = {name for each in conf.sections for name in included_names(each)}
    return not names.isdisjoint((section.name, *section.patterns))


@dataclass(slots=True)
class _Messages:
    conf: Conf
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def warn(self, line: int, text: str) -> None:
        self.warnings.append(f"{self.conf.where(line)}: {text}")

    def fault(self, line: int, text: str) -> None:
        self.faults.append(f"{self.conf.where(line)}: {text}")

    def refuse_code(self, section: ConfSection) -> None:
        """Report each value that needs a shell, and the first command: lines after `if` or `f() {` belong to it."""
        refused = False
        for each in section.statements:
            if not isinstance(each, ShellCode):
                continue
            if each.key:
                self.fault(each.line, f"{each.key}: {each.reason}")
            elif not refused:
                refused = True
                self.fault(each.line, f"{each.reason}; put commands for clients in quotes: POST_INIT_x='COMMANDS'")


class _ClientEvaluation(Evaluation):
    __slots__ = ()

    def refuse_code(self, _section: ConfSection, code: ShellCode) -> None:
        """Code was reported already; values that refer to its key get the same fault."""
        if code.key:
            self.values[code.key] = Setting(code.key, "", self.conf.where(code.line), code.reason)

    def assign(self, line: int, setting: Setting) -> None:
        super().assign(line, setting)
        if _HOOK_KEY.fullmatch(setting.key) and setting.value.startswith("section_"):
            self.fault(line, f"{setting.key}: a section is not a command; write its commands here, in quotes")

    def expand_unset(self, key: str, variable: str) -> str | None:
        if _HOOK_KEY.fullmatch(key):
            return f"${{{variable}}}"
        return f"%{{{variable}}}" if variable in _CLIENT_VARIABLES else None


def ignored_key_warnings(layers: Iterable[ClientLayer]) -> tuple[str, ...]:
    """A warning for each key of LTSP that has no effect on clients here; `conf_warnings` reports unknown keys."""
    return tuple(
        f"{setting.where}: {setting.key} has no effect on clients"
        for layer in layers
        for setting in layer.settings.values()
        if find_side(setting.key) is Side.CLIENTS and reader_of(setting.key) is Reader.NOBODY
    )
