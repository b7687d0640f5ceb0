"""A parser of command lines that behaves exactly like getopt_long(3) of the GNU C library, including its messages.

Scripts rely on details that other parsers do differently: `-b0c0`, `--back=0`, options after operands,
`-m "-comp xz"`, optional values that must be joined. Not supported: `-W`, and long options after one hyphen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltsp.settings.option import Argument


@dataclass(frozen=True, slots=True)
class ParsedOption:
    """One option of a command line."""

    name: str
    """A single letter for a short option, the full name for a long one."""
    value: str | None
    """None if there is none; empty for `--revert=`."""

    @property
    def spelling(self) -> str:
        return f"-{self.name}" if len(self.name) == 1 else f"--{self.name}"


@dataclass(frozen=True, slots=True)
class ParsedArguments:
    options: tuple[ParsedOption, ...]
    operands: tuple[str, ...]
    faults: tuple[str, ...]
    """What getopt would print, without the program's name; like getopt, parsing continues after each."""


def getopt(
    arguments: Sequence[str],
    shorts: Mapping[str, Argument],
    longs: Mapping[str, Argument],
    *,
    options_first: bool = False,
) -> ParsedArguments:
    """Parse arguments.

    `options_first` ends the options at the first operand, like a leading `+` and POSIXLY_CORRECT; else operands may
    come anywhere before `--`. Long names have at least two characters.
    """
    scan = _GetoptScanner(list(arguments), shorts, longs)
    operands: list[str] = []
    while scan.rest:
        argument = scan.rest.pop(0)
        if argument == "--":
            break
        if len(argument) < 2 or argument[0] != "-":
            operands.append(argument)
            if options_first:
                break
        elif argument[1] == "-":
            scan.scan_long_option(argument[2:])
        else:
            scan.scan_short_options(argument[1:])
    return ParsedArguments(tuple(scan.found), (*operands, *scan.rest), tuple(scan.faults))


class _GetoptScanner:
    def __init__(self, rest: list[str], shorts: Mapping[str, Argument], longs: Mapping[str, Argument]) -> None:
        self.rest = rest
        self.shorts = shorts
        self.longs = longs
        self.found: list[ParsedOption] = []
        self.faults: list[str] = []

    def scan_short_options(self, letters: str) -> None:
        for at, letter in enumerate(letters, 1):
            joined = letters[at:]
            match self.shorts.get(letter):
                case None:
                    self.faults.append(f"invalid option -- '{letter}'")
                case Argument.NONE:
                    self.found.append(ParsedOption(letter, None))
                case Argument.OPTIONAL:
                    self.found.append(ParsedOption(letter, joined or None))
                    return
                case Argument.REQUIRED if joined or self.rest:
                    self.found.append(ParsedOption(letter, joined or self.rest.pop(0)))
                    return
                case _:
                    self.faults.append(f"option requires an argument -- '{letter}'")
                    return

    def scan_long_option(self, text: str) -> None:
        prefix, joined, value = text.partition("=")
        name = self._long_name(prefix, text)
        if name is None:
            return
        argument = self.longs[name]
        if joined and argument is Argument.NONE:
            self.faults.append(f"option '--{name}' doesn't allow an argument")
        elif joined or argument is not Argument.REQUIRED:
            self.found.append(ParsedOption(name, value if joined else None))
        elif self.rest:
            self.found.append(ParsedOption(name, self.rest.pop(0)))
        else:
            self.faults.append(f"option '--{name}' requires an argument")

    def _long_name(self, prefix: str, text: str) -> str | None:
        """The option with a prefix; an exact name has priority over longer ones that begin with it."""
        if prefix in self.longs:
            return prefix
        possible = [name for name in self.longs if name.startswith(prefix)]
        if not possible:
            self.faults.append(f"unrecognized option '--{text}'")
        elif len(possible) > 1:
            quoted = " ".join(f"'--{name}'" for name in possible)
            self.faults.append(f"option '--{text}' is ambiguous; possibilities: {quoted}")
        return possible[0] if len(possible) == 1 else None
