"""The settings that sections of ltsp.conf give: INCLUDE and `$KEY` are replaced, and later values win. ltsp.conf(5)

`Evaluation` does that for the server and for clients; `evaluate_settings` is what the server reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ltsp.errors import ConfError
from ltsp.host.identity import Identity
from ltsp.settings.conf import Conf
from ltsp.settings.conf_sections import find_included, matches_machine
from ltsp.settings.conf_text import SHELL_CODE_HINT, Assignment, ConfSection, ShellCode
from ltsp.settings.resolve import Setting

_MAX_SECTIONS = 10_000
_MAX_DEPTH = 100
_MAX_VALUE_LENGTH = 1 << 20
"""Limits against exponential growth, if each section includes the previous one twice, or values repeat others."""


@dataclass(slots=True)
class Evaluation(ABC):
    """Evaluates sections, one after another. Subclasses decide about code and unset variables."""

    conf: Conf
    faults: list[str]
    """Each with file and line."""
    before: Mapping[str, Setting] = field(default_factory=dict)
    """Other settings that values may refer to."""
    values: dict[str, Setting] = field(default_factory=dict)
    """By key."""
    runs: int = 0

    def run(self, section: ConfSection, chain: tuple[str, ...]) -> None:
        """Evaluate a section; `chain` has its name, after those of the sections that include it."""
        self.runs += 1
        if self.runs > _MAX_SECTIONS:
            self.fault(section.line, f"more than {_MAX_SECTIONS} sections are included")
            return
        for statement in section.statements:
            if isinstance(statement, ShellCode):
                self.refuse_code(section, statement)
            elif statement.key == "INCLUDE":
                self._include(statement, chain)
            else:
                self.assign(statement.line, self._setting(statement))

    @abstractmethod
    def refuse_code(self, section: ConfSection, code: ShellCode) -> None:
        """What to do about text that only a shell could evaluate."""

    def assign(self, line: int, setting: Setting) -> None:  # noqa: ARG002 -- for subclasses
        self.values[setting.key] = setting

    def expand_unset(self, key: str, variable: str) -> str | None:  # noqa: ARG002 -- for subclasses
        """The text that a variable without a value becomes in the value of a key; None if that is a fault."""
        return None

    def fault(self, line: int, reason: str) -> None:
        self.faults.append(f"{self.conf.where(line)}: {reason}")

    def _include(self, statement: Assignment, chain: tuple[str, ...]) -> None:
        setting = self._setting(statement)
        if setting.fault:
            self.fault(statement.line, f"INCLUDE: {setting.fault}")
        for name in setting.value.split():
            sections = find_included(self.conf, name)
            if not sections:
                self.fault(statement.line, f"INCLUDE: no section [{name}]")
            elif any(section.name in chain for section in sections):
                self.fault(statement.line, f"INCLUDE: [{name}] includes itself")
            elif len(chain) > _MAX_DEPTH:
                self.fault(statement.line, "INCLUDE: sections are nested too deeply")
            elif self.runs <= _MAX_SECTIONS:
                for section in sections:
                    self.run(section, (*chain, section.name))

    def _setting(self, statement: Assignment) -> Setting:
        texts: list[str] = []
        faults: list[str] = []
        for part in statement.parts:
            if isinstance(part, str):
                texts.append(part)
            elif known := self.values.get(part.name, self.before.get(part.name)):
                texts.append(known.value)
                faults += [known.fault] if known.fault else []
            elif (text := self.expand_unset(statement.key, part.name)) is not None:
                texts.append(text)
            else:
                faults.append(f"${part.name} is not set before this line; use single quotes for a literal $")
        if sum(map(len, texts)) > _MAX_VALUE_LENGTH:
            texts, faults = [], [f"the value is too long: the limit is {_MAX_VALUE_LENGTH} characters"]
        return Setting(statement.key, "".join(texts), self.conf.where(statement.line), "; ".join(dict.fromkeys(faults)))


def evaluate_settings(conf: Conf, identity: Identity, applet: str) -> dict[str, Setting]:
    """The settings of a server for one applet, by key.

    In this order: what precedes the first section, [common], [server], the server's MAC addresses, IP addresses and
    hostname, then [APPLET/], [APPLET/MAC], [APPLET/IP] and [APPLET/HOSTNAME].

    Raises ConfError with every line that would need a shell, and every INCLUDE of a missing section or in a loop.
    """
    evaluation = _ServerEvaluation(conf, [])
    for role in ("", "common", "server"):
        evaluation.run_all(section for section in conf.sections if section.name == role)
    for name in (*identity.macs, *identity.addresses):
        evaluation.run_all(section for section in conf.sections if matches_machine(section, name))
    hostname = evaluation.values["HOSTNAME"].value if "HOSTNAME" in evaluation.values else ""
    if not hostname or "%{" in hostname:
        hostname = identity.hostname
    evaluation.run_all(section for section in conf.sections if matches_machine(section, hostname))
    for name in ("", *identity.macs, *identity.addresses, hostname):
        evaluation.run_all(section for section in conf.sections if matches_machine(section, name, applet))
    if evaluation.faults:
        raise ConfError("; ".join(dict.fromkeys(evaluation.faults)), SHELL_CODE_HINT)
    return evaluation.values


class _ServerEvaluation(Evaluation):
    __slots__ = ()

    def run_all(self, sections: Iterable[ConfSection]) -> None:
        for section in sections:
            self.run(section, (section.name,))

    def refuse_code(self, section: ConfSection, code: ShellCode) -> None:
        """Report the first command of a section: later lines may belong to it."""
        if code is next(statement for statement in section.statements if isinstance(statement, ShellCode)):
            self.fault(code.line, code.reason)
