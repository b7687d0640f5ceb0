"""The part of iPXE that the scripts use: how a line is split into commands, and what a script does.

Modelled on core/exec.c, image/script.c and core/settings.c of iPXE, and compared with the real one in QEMU: a line is
split at blanks, settings are expanded in each word by itself, from the innermost on, again and again; a word that
begins with # ends the line; each command is run as the result of the one before it and the connector say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

CONNECTORS = {"&&": lambda ok: ok, "||": lambda ok: not ok, ";": lambda _ok: True}
_SETTING = re.compile(r"\$\{((?:(?!\$\{)[^}])*)\}")


def commands(line: str) -> list[tuple[str, list[str]]]:
    """The connector before each command, and its words; the first one has `;`. A label is no command."""
    if line.startswith(":"):
        return []
    found: list[tuple[str, list[str]]] = [(";", [])]
    for word in line.split():
        if word.startswith("#"):
            break
        if word in CONNECTORS:
            found.append((word, []))
        else:
            found[-1][1].append(word)
    return found


def expanded(word: str, settings: Mapping[str, str]) -> str:
    while match := _SETTING.search(word):
        word = word[: match.start()] + settings.get(match[1], "") + word[match.end() :]
    return word


@dataclass
class IpxeClient:
    """A PC that runs scripts."""

    settings: dict[str, str]
    x86_64: bool = True
    choose: Callable[[str, int], str | None] = lambda default, _timeout: default
    """What is chosen, given default and timeout; None for Escape."""
    chain: Callable[[str], bool] = lambda _uri: True
    """Whether what is chained to, booted or loaded succeeds; True ends the run."""
    fetch: Callable[[str], bool] = lambda _uri: True
    said: list[str] = field(default_factory=list)
    items: list[tuple[str, str]] = field(default_factory=list)
    """Label and text of the menu shown last; a heading's label is empty."""
    timeouts: list[int] = field(default_factory=list)
    loaded: list[list[str]] = field(default_factory=list)
    """kernel and initrd commands, expanded."""
    chained: list[str] = field(default_factory=list)

    def run(self, script: str) -> str:
        """How the script ended: booted, exit 0, exit 1, failed, or endless."""
        lines = script.splitlines()
        assert lines[0].startswith("#!ipxe"), lines[0]
        at = 0
        for _ in range(2000):
            if at >= len(lines):
                return "exit 0"
            line, at = lines[at], at + 1
            ok = True
            for connector, words in commands(line):
                if not CONNECTORS[connector](ok):
                    continue
                argv = [expanded(word, self.settings) for word in words]
                outcome = self._command(argv, lines)
                if isinstance(outcome, str):
                    return outcome
                if isinstance(outcome, bool):
                    ok = outcome
                else:
                    at, ok = outcome, True
                    break
            if not ok:
                return "failed"
        return "endless"

    def _command(self, argv: list[str], lines: list[str]) -> bool | int | str:
        match argv:
            case []:
                return True
            case ["echo", *words]:
                self.said.append(" ".join(words))
            case ["set", name, *words]:
                assert not name.startswith("-")
                self.settings[name] = " ".join(words)
            case ["clear", name]:
                return self.settings.pop(name, None) is not None
            case ["isset", value]:
                return bool(value)
            case ["iseq", first, second]:
                assert not first.startswith("-"), argv
                return first == second
            case ["cpuid", "--ext", "29"]:
                return self.x86_64 and self.settings.get("buildarch", "i386") in {"i386", "x86_64"}
            case ["goto", label]:
                places = [at for at, line in enumerate(lines) if line.split() == [f":{label}"]]
                return places[0] if places else False
            case ["exit", *status]:
                return f"exit {int(status[0]) if status else 0}"
            case ["menu", *_]:
                self.items = []
            case ["item", "--gap", *words]:
                self.items.append(("", " ".join(words)))
            case ["item", "--key", key, label, *words]:
                assert len(key) == 1
                self.items.append((label, " ".join(words)))
            case ["item", label, *words]:
                assert not label.startswith("-"), argv
                self.items.append((label, " ".join(words)))
            case ["choose", "--timeout", timeout, "--default", default, name]:
                self.timeouts.append(int(timeout))
                chosen = self.choose(default, int(timeout))
                if chosen is None:
                    return False
                self.settings[name] = chosen
            case ["chain", uri]:
                self.chained.append(uri)
                return "booted" if self.chain(uri) else False
            case ["kernel" | "initrd", uri, *_]:
                self.loaded.append(argv)
                return self.fetch(uri)
            case ["boot"] | ["sanboot", "--no-describe", "--drive", "0x80"]:
                return "booted"
            case ["config"] | ["shell"] | ["imgfree"] | ["prompt", "--timeout", *_]:
                return True
            case _:
                raise AssertionError(f"no command of ours: {argv}")
        return True
