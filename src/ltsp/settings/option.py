"""An option, declared once as a field of a dataclass; parser, ltsp.conf, manual and completion read the declaration.

```python
@dataclass(frozen=True, slots=True)
class Options:
    backup: bool = option(Flag(), "keep the previous image", default=True, short="b")
```
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from ltsp.settings import naming

_HOSTNAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9.-]*")
_QUOTING_FAULTS = {
    "No closing quotation": "has an unclosed quote",
    "No escaped character": "ends with a backslash",
}
"""By the messages of shlex."""


class Argument(Enum):
    """Whether an option takes a value, in the notation of getopt(3)."""

    NONE = ""
    REQUIRED = ":"
    OPTIONAL = "::"

    def suffix(self, value: str) -> str:
        """What follows a long option, in help texts."""
        return {Argument.NONE: "", Argument.REQUIRED: f"={value}", Argument.OPTIONAL: f"[={value}]"}[self]


class Reach(Enum):
    """Where an option may be set."""

    EVERYWHERE = "command line, ltsp.conf and environment"
    ONCE = "command line"
    """For options of a single run, and names that are too common in environments, such as NAME."""


# Each kind of value has a `metavar`, how it is shown, and `parse`, which raises ValueError with the reason.
# `accepts_empty`: whether a variable that is set but empty is a value, rather than unset.


class Flag:
    metavar: ClassVar[str] = "0|1"
    accepts_empty: ClassVar[bool] = False

    def parse(self, text: str) -> bool:
        if text not in {"0", "1"}:
            raise ValueError("is neither 0 nor 1")
        return text == "1"


@dataclass(frozen=True, slots=True)
class Text:
    metavar: str = "TEXT"
    accepts_empty: ClassVar[bool] = True

    def parse(self, text: str) -> str:
        return text


class HostAddress:
    """An IPv4 address, or a name that clients can look up."""

    metavar: ClassVar[str] = "ADDRESS"
    accepts_empty: ClassVar[bool] = True

    def parse(self, text: str) -> str:
        if text and not _HOSTNAME.fullmatch(text):
            import ipaddress  # noqa: PLC0415 -- rarely needed, as are the other modules that values import

            try:
                ipaddress.IPv4Address(text)
            except ValueError:
                raise ValueError("is not an IPv4 address such as 192.168.1.10") from None
        return text


class DirectoryPath:
    metavar: ClassVar[str] = "DIR"
    accepts_empty: ClassVar[bool] = False

    def parse(self, text: str) -> str:
        """The absolute path; a relative one starts at the working directory."""
        if not text:
            raise ValueError("is empty")
        return os.path.join(os.getcwd(), text) if not text.startswith("/") else text


class FilePath:
    metavar: ClassVar[str] = "FILE"
    accepts_empty: ClassVar[bool] = False

    def parse(self, text: str) -> str:
        """The absolute path; a relative one starts at the working directory."""
        return DirectoryPath().parse(text)


class ImageName:
    metavar: ClassVar[str] = "NAME"
    accepts_empty: ClassVar[bool] = False

    def parse(self, text: str) -> str:
        if fault := naming.find_fault(text):
            suggested = naming.suggest_name(text)
            raise ValueError(fault if suggested == self.metavar else f"{fault}; {suggested} is valid")
        return text


@dataclass(frozen=True, slots=True)
class Choice:
    choices: tuple[str, ...]
    accepts_empty: ClassVar[bool] = False

    @property
    def metavar(self) -> str:
        return "|".join(self.choices)

    def parse(self, text: str) -> str:
        if text not in self.choices:
            raise ValueError(f"is not one of {', '.join(self.choices)}")
        return text


@dataclass(frozen=True, slots=True)
class Integer:
    metavar: str = "N"
    accepts_empty: ClassVar[bool] = False
    minimum: int = 0
    maximum: int = 2**31 - 1

    def parse(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError("is not a whole number")
        if len(text) > len(str(self.maximum)) + 1 or not self.minimum <= int(text) <= self.maximum:
            raise ValueError(f"is not between {self.minimum} and {self.maximum}")
        return int(text)


class Mode:
    """Permission bits in octal; the owner must be able to read."""

    metavar: ClassVar[str] = "MODE"
    accepts_empty: ClassVar[bool] = False

    def parse(self, text: str) -> int:
        digits = text.lstrip("0")
        if not text or len(digits) > 3 or set(digits) - set("01234567"):
            raise ValueError("is not a mode such as 0640")
        mode = int(text, 8)
        if not mode & 0o400:
            raise ValueError("must let the owner read (0400)")
        return mode


@dataclass(frozen=True, slots=True)
class Words:
    """A list of words with the quoting of a shell."""

    metavar: str = "WORDS"
    accepts_empty: ClassVar[bool] = True

    def parse(self, text: str) -> tuple[str, ...]:
        """The words; `''` is an empty one, an empty text has none, and nothing is expanded."""
        import shlex  # noqa: PLC0415

        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(_QUOTING_FAULTS.get(str(error), str(error).lower())) from None


ValueKind = Flag | Text | HostAddress | DirectoryPath | FilePath | ImageName | Choice | Integer | Mode | Words


class OptionGroup(Enum):
    """The headings under which help and manual list options, in this order."""

    MAIN = ""
    CONTENT = "contents"
    COMPRESSION = "compression"
    PUBLISHING = "publishing"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    """The field's name: `base_dir`."""
    kind: ValueKind
    summary: str
    """What it does, in one line."""
    details: str
    """What the manual page says beyond the summary."""
    default: object
    default_text: str
    """The default in words, if the value is not clear."""
    short: str
    """One letter, or empty."""
    argument: Argument
    implied_value: str
    """The value if the option is given without one."""
    reach: Reach
    is_repeatable: bool
    """Whether it may be given several times, for a tuple of values; else the last one wins."""
    group: OptionGroup

    @property
    def long(self) -> str:
        """The name on the command line, without the hyphens before it."""
        return self.name.replace("_", "-")

    @property
    def key(self) -> str:
        """The name in ltsp.conf and in the environment."""
        return self.name.upper()

    @property
    def spelling(self) -> str:
        """As in help texts: `-b, --backup=0|1`."""
        short = f"-{self.short}, " if self.short else ""
        return f"{short}--{self.long}{self.argument.suffix(self.kind.metavar)}"

    @property
    def default_label(self) -> str:
        """The default in help texts; empty if it is obvious, as for switches that are off."""
        if self.default_text:
            return self.default_text
        match self.default:
            case None | "" | ():
                return ""
            case bool(on):
                return "" if not on and self.argument is not Argument.REQUIRED else str(int(on))
        return str(self.default)

    @property
    def values(self) -> tuple[str, ...]:
        """All possible values, if they can be listed."""
        match self.kind:
            case Flag():
                return ("0", "1")
            case Choice(choices):
                return choices
        return ()

    def parse(self, text: str) -> Any:
        """The value of a text.

        Raises ValueError with the reason, worded to follow the text: `is neither 0 nor 1`.
        """
        return self.kind.parse(text)


@dataclass(frozen=True, slots=True)
class GivenOption:
    """An option on the command line."""

    option: Option
    value: str | None
    """None if it is given without one."""
    spelling: str
    """`-b` or `--backup`."""


class AppletOptions:
    """What the options of every applet are; they are the fields of dataclasses."""

    __slots__ = ()

    def contradictions(self, _operands: int) -> Iterable[str]:
        """Faults of options that contradict each other, or the number of operands."""
        return ()


def option(
    kind: ValueKind,
    summary: str,
    *,
    default: object,
    short: str = "",
    details: str = "",
    default_text: str = "",
    argument: Argument = Argument.REQUIRED,
    implied_value: str = "1",
    reach: Reach = Reach.EVERYWHERE,
    is_repeatable: bool = False,
    group: OptionGroup = OptionGroup.MAIN,
) -> Any:
    """A dataclass field that is an option."""
    declaration = Option(
        "", kind, summary, details, default, default_text, short, argument, implied_value, reach, is_repeatable, group
    )
    return field(default=default, metadata={"option": declaration})


def switch(
    summary: str,
    *,
    short: str = "",
    details: str = "",
    argument: Argument = Argument.OPTIONAL,
    reach: Reach = Reach.EVERYWHERE,
    group: OptionGroup = OptionGroup.MAIN,
) -> Any:
    """A flag that is off by default: `--verify`, `--verify=1`; `=0` overrides ltsp.conf."""
    return option(
        Flag(), summary, default=False, short=short, details=details, argument=argument, reach=reach, group=group
    )


def help_switch() -> bool:
    declared: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)
    return declared


def declared_options(options: type) -> tuple[Option, ...]:
    """The options of a dataclass, in the order of its fields."""
    return tuple(
        dataclasses.replace(each.metadata["option"], name=each.name)
        for each in dataclasses.fields(options)
        if "option" in each.metadata
    )


def group_options(options: type) -> list[tuple[OptionGroup, tuple[Option, ...]]]:
    """The options of a dataclass by heading, those with a letter first; without empty groups."""
    ordered = sorted(
        declared_options(options), key=lambda option: (not option.short, option.short.lower(), option.long)
    )
    groups = ((group, tuple(option for option in ordered if option.group is group)) for group in OptionGroup)
    return [(group, members) for group, members in groups if members]
