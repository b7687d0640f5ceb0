"""The settings of ltsp.conf for one machine and applet: sections in order, later values win. ltsp.conf(5)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ltsp.errors import ConfError
from ltsp.host.identity import Identity
from ltsp.settings.conf_text import REMEDY, Assignment, Conf, ConfSection, ShellCode, Variable
from ltsp.settings.resolve import Setting

SPECIAL = frozenset({"", "common", "server", "clients"})
"""Sections that are roles; a machine of such a name does not match them."""

_MOST_SECTIONS = 10_000
_DEEPEST = 100
_LONGEST_VALUE = 1 << 20
"""Limits against exponential growth, if each section includes the previous one twice, or values repeat others."""


def evaluate(conf: Conf, identity: Identity, applet: str) -> dict[str, Setting]:
    """The settings of a server for one applet, by key.

    In this order: what precedes the first section, [common], [server], the server's MAC addresses, IP addresses and
    hostname, then [APPLET/], [APPLET/MAC], [APPLET/IP] and [APPLET/HOSTNAME].

    Raises ConfError with every line that would need a shell, and every INCLUDE of a missing section or in a loop.
    """
    evaluation = _ServerEvaluation(conf)
    for role in ("", "common", "server"):
        evaluation.run_all(section for section in conf.sections if section.name == role)
    for name in (*identity.macs, *identity.addresses):
        evaluation.run_all(section for section in conf.sections if matches(section, name))
    hostname = evaluation.values["HOSTNAME"].value if "HOSTNAME" in evaluation.values else ""
    if not hostname or "%{" in hostname:
        hostname = identity.hostname
    evaluation.run_all(section for section in conf.sections if matches(section, hostname))
    for name in ("", *identity.macs, *identity.addresses, hostname):
        evaluation.run_all(section for section in conf.sections if matches(section, name, applet))
    if evaluation.faults:
        raise ConfError(
            "; ".join(dict.fromkeys(evaluation.faults)),
            REMEDY,
        )
    return evaluation.values


def matches(section: ConfSection, name: str, applet: str = "") -> bool:
    """Whether a section is for a machine, or for an applet on that machine; case-insensitive."""
    if section.name in SPECIAL:
        return False
    for pattern in section.patterns:
        head, slash, tail = pattern.lower().partition("/")
        if bool(slash) != bool(applet):
            continue
        if not applet and name and fnmatchcase(name.lower(), head):
            return True
        if applet and fnmatchcase(applet, head) and (fnmatchcase(name.lower(), tail) if name else not tail):
            return True
    return False


def find_included(conf: Conf, name: str) -> tuple[ConfSection, ...]:
    """The sections that INCLUDE=NAME refers to: those with that name, or with it in a list divided by `|`."""
    return tuple(section for section in conf.sections if section.name and name in (section.name, *section.patterns))


def included_names(section: ConfSection) -> Iterator[str]:
    """The names that a section includes, if they are plain text."""
    for each in section.statements:
        if isinstance(each, Assignment) and each.key == "INCLUDE":
            for part in each.parts:
                if isinstance(part, str):
                    yield from part.split()


@dataclass(slots=True)
class _ServerEvaluation:
    conf: Conf
    values: dict[str, Setting] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    runs: int = 0

    def run_all(self, sections: Iterable[ConfSection]) -> None:
        for section in sections:
            self._run(section, (section.name,))

    def _run(self, section: ConfSection, chain: tuple[str, ...]) -> None:
        self.runs += 1
        if self.runs > _MOST_SECTIONS:
            self._fault(section.line, f"more than {_MOST_SECTIONS} sections are included")
            return
        code = [statement for statement in section.statements if isinstance(statement, ShellCode)]
        if code:
            self._fault(code[0].line, code[0].reason)
        for statement in section.statements:
            if isinstance(statement, Assignment):
                if statement.key == "INCLUDE":
                    self._include(statement, chain)
                else:
                    self.values[statement.key] = self._setting(statement)

    def _include(self, statement: Assignment, chain: tuple[str, ...]) -> None:
        setting = self._setting(statement)
        if setting.fault:
            self._fault(statement.line, f"INCLUDE: {setting.fault}")
        for name in setting.value.split():
            sections = find_included(self.conf, name)
            if not sections:
                self._fault(statement.line, f"INCLUDE: no section [{name}]")
            elif any(section.name in chain for section in sections):
                self._fault(statement.line, f"INCLUDE: [{name}] includes itself")
            elif len(chain) > _DEEPEST:
                self._fault(statement.line, "INCLUDE: sections are nested too deeply")
            elif self.runs <= _MOST_SECTIONS:
                for section in sections:
                    self._run(section, (*chain, section.name))

    def _setting(self, statement: Assignment) -> Setting:
        texts: list[str] = []
        faults: list[str] = []
        for part in statement.parts:
            if isinstance(part, Variable):
                known = self.values.get(part.name)
                texts.append("" if known is None else known.value)
                if known is None:
                    faults.append(f"${part.name} is not set before this line; use single quotes for a literal $")
                elif known.fault:
                    faults.append(known.fault)
            else:
                texts.append(part)
        if sum(map(len, texts)) > _LONGEST_VALUE:
            texts, faults = [], ["the value is too long"]
        return Setting(statement.key, "".join(texts), self.conf.where(statement.line), "; ".join(dict.fromkeys(faults)))

    def _fault(self, line: int, reason: str) -> None:
        self.faults.append(f"{self.conf.where(line)}: {reason}")
