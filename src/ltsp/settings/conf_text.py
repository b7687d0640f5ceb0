"""Parser of ltsp.conf: sections of assignments with the quoting of a shell. ltsp.conf(5)

Nothing is executed, and no variable replaced. What only a shell could execute becomes `ShellCode` with the reason: it
is a fault only if a section with it is evaluated.

Encoding: a UTF-8 byte order mark at the start is skipped, CR LF counts as LF, invalid UTF-8 is preserved in values
(PEP 383); NUL bytes and UTF-16 are rejected.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass

from ltsp.errors import ConfError

SHELL_CODE_HINT = "fix these lines; ltsp.conf is parsed, not executed: put text in single quotes"
"""The hint about code, and about values that need a shell."""
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BLANKS = " \t"
_OPERATORS = "&|;<>()"
_BEFORE_COMMENT = frozenset(" \t;&|()")
_MAX_CODE_LENGTH = 16384
"""How many characters are searched for the end of a command."""

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_KEY_BEFORE_SPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*[ \t]+=")
_PLAIN = r"[^\s\[\]'\"`$\\;&()<>]*"
_HEADER = re.compile(rf"\[({_PLAIN}(?:\[{_PLAIN}\]{_PLAIN})*)\][ \t]*(?:#.*)?$", re.MULTILINE)
_HEADER_START = re.compile(r"\[(?!\[?[ \t])")
_PARAMETER_START = re.compile(r"[0-9@*#?$!-]|\\\n")
_NAME_CONTINUATION = re.compile(r"(?:\\\n)+[A-Za-z0-9_]")
"""A name that continues on the next line: a shell joins lines before it splits words."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`$NAME` or `${NAME}` in a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Assignment:
    key: str
    parts: tuple[str | Variable, ...]
    line: int


@dataclass(frozen=True, slots=True)
class ShellCode:
    """Text that only a shell could evaluate."""

    reason: str
    line: int
    key: str = ""
    """The key of the value, as in `KEY=$(date)`; empty if it is a command."""


@dataclass(frozen=True, slots=True)
class ConfSection:
    name: str
    """The text between the brackets; empty for the lines before the first section."""
    line: int
    statements: tuple[Assignment | ShellCode, ...]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names that it applies to: globs, separated by `|`."""
        return tuple(self.name.split("|"))


def parse_sections(raw: bytes, path: str) -> tuple[ConfSection, ...]:
    """The sections of a file, the unnamed one first; `path` is for messages.

    Raises ConfError with every line that is not valid in a shell either.
    """
    scanner = _Scanner(_decode(raw, path))
    sections = scanner.sections()
    if scanner.faults:
        raise ConfError("; ".join(f"{path}:{line}: {reason}" for line, reason in scanner.faults))
    return sections


def _decode(raw: bytes, path: str) -> str:
    if raw.startswith(_UTF16_MARKS):
        raise ConfError(f"{path}:1: the file is in UTF-16", "save it as UTF-8")
    nul = raw.find(b"\0")
    if nul >= 0:
        line = raw.count(b"\n", 0, nul) + 1
        raise ConfError(f"{path}:{line}: the file contains a NUL byte", "remove the NUL byte")
    return raw.removeprefix(_UTF8_MARK).replace(b"\r\n", b"\n").decode("utf-8", "surrogateescape")


class _NotPlainValue(Exception):
    """A shell would expand or execute this; the argument is the reason."""


class _UnclosedQuote(Exception):
    """An unclosed quote; the argument is its position."""


class _Scanner:
    """Scans a text once; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.line_breaks = [at for at, character in enumerate(text) if character == "\n"]
        self.at = 0
        self.key = ""
        """Of the last assignment of this statement."""
        self.faults: list[tuple[int, str]] = []

    def sections(self) -> tuple[ConfSection, ...]:
        sections: list[ConfSection] = []
        name, line = "", 1
        statements: list[Assignment | ShellCode] = []
        while self._skip_to_statement():
            if self._at_line_start() and _HEADER_START.match(self.text, self.at):
                sections.append(ConfSection(name, line, tuple(statements)))
                name, line, statements = self._header(), self._line(), []
                self.at = self._line_end(self.at)
            else:
                statements += self._statement()
        return (*sections, ConfSection(name, line, tuple(statements)))

    def _skip_to_statement(self) -> bool:
        """Skip blanks, comments and semicolons; returns whether anything follows."""
        while self.at < len(self.text):
            if self.text.startswith("\\\n", self.at):
                self.at += 2
            elif self.text[self.at] == "#":
                self.at = self._line_end(self.at)
            elif self.text[self.at] in " \t\n;":
                self.at += 1
            else:
                return True
        return False

    def _at_line_start(self) -> bool:
        return not self.text[self.text.rfind("\n", 0, self.at) + 1 : self.at].strip(_BLANKS)

    def _header(self) -> str:
        match = _HEADER.match(self.text, self.at)
        if match is None or not match[1]:
            self.faults.append(
                (self._line(), "write a section as [NAME], without spaces or quotes, on a line of its own")
            )
            return ""
        return match[1]

    def _line(self, at: int | None = None) -> int:
        return bisect_left(self.line_breaks, self.at if at is None else at) + 1

    def _line_end(self, at: int) -> int:
        end = self.text.find("\n", at)
        return len(self.text) if end < 0 else end

    def _statement(self) -> list[Assignment | ShellCode]:
        """The assignments of one command, or the command as code."""
        start, self.key = self.at, ""
        try:
            return [*self._assignments()]
        except _NotPlainValue as reason:
            line = self._line(start)
            self.at = start
            self._skip_code()
            return [ShellCode(str(reason), line, self.key)]
        except _UnclosedQuote as opening:
            self.faults.append((self._line(opening.args[0]), "unclosed quote"))
            self.at = len(self.text)
            return []

    def _assignments(self) -> list[Assignment]:
        """`A=1 B=2`: the assignments of one command."""
        found: list[Assignment] = []
        while self.at < len(self.text) and self.text[self.at] not in "\n;#":
            match = _KEY.match(self.text, self.at)
            if match is None:
                raise _NotPlainValue(self._code_reason(after_assignment=bool(found)))
            line, self.key = self._line(), match[1]
            self.at = match.end()
            found.append(Assignment(self.key, self._value(), line))
            while self.at < len(self.text) and (self.text[self.at] in _BLANKS or self.text.startswith("\\\n", self.at)):
                self.at += 1 if self.text[self.at] in _BLANKS else 2
        return found

    def _code_reason(self, *, after_assignment: bool) -> str:
        if after_assignment:
            return "a value with spaces needs quotes"
        if _KEY_BEFORE_SPACE.match(self.text, self.at):
            return "remove the space before ="
        return "not an assignment KEY=value"

    def _value(self) -> tuple[str | Variable, ...]:
        """A word as a shell reads it, up to the next blank or the end of the line."""
        parts: list[str | Variable] = []
        may_be_home = True
        while self.at < len(self.text):
            character = self.text[self.at]
            if character in _BLANKS or character in "\n;":
                break
            if character in _OPERATORS:
                raise _NotPlainValue(f"{character} needs quotes")
            if character == "~" and may_be_home:
                raise _NotPlainValue("~ is not expanded; write the full path, or quote it")
            may_be_home = character == ":" or (may_be_home and self.text.startswith("\\\n", self.at))
            if character == "'":
                parts.append(self._single_quoted())
            elif character == '"':
                parts += self._double_quoted()
            elif character == "\\":
                parts.append(self._escaped())
            elif character in "$`":
                parts.append(self._expansion(quoted=False))
            else:
                parts.append(character)
                self.at += 1
        return _join_texts(parts)

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise _UnclosedQuote(self.at)
        value = self.text[self.at + 1 : end]
        self.at = end + 1
        return value

    def _double_quoted(self) -> list[str | Variable]:
        opening = self.at
        parts: list[str | Variable] = []
        self.at += 1
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == '"':
                self.at += 1
                return parts
            if character == "\\":
                parts.append(self._escaped(escapable='$`"\\\n'))
            elif character in "$`":
                parts.append(self._expansion(quoted=True))
            else:
                parts.append(character)
                self.at += 1
        raise _UnclosedQuote(opening)

    def _escaped(self, escapable: str = "") -> str:
        """A backslash and the next character; it stays if it escapes nothing, and removes a line break."""
        following = self.text[self.at + 1 : self.at + 2]
        self.at += 1 + len(following)
        if following == "\n":
            return ""
        if not following or (escapable and following not in escapable):
            return "\\" + following
        return following

    def _expansion(self, *, quoted: bool) -> str | Variable:
        """The expansion that a dollar sign or backtick begins; a dollar sign may be literal."""
        if self.text[self.at] == "`":
            raise _NotPlainValue("command substitution is not supported")
        following = self.text[self.at + 1 : self.at + 2]
        for pattern in (_NAME, _BRACED):
            if match := pattern.match(self.text, self.at + 1):
                self.at = match.end()
                if pattern is _NAME and _NAME_CONTINUATION.match(self.text, self.at):
                    raise _NotPlainValue("a variable name on two lines is not supported; write ${NAME} on one line")
                return Variable(match[match.lastindex or 0])
        if self.text.startswith("((", self.at + 1):
            raise _NotPlainValue("arithmetic is not supported")
        if following == "(":
            raise _NotPlainValue("command substitution is not supported")
        if following == "{":
            raise _NotPlainValue("only $NAME and ${NAME} are supported for variables")
        if _PARAMETER_START.match(self.text, self.at + 1) or (following and following in "'\"" and not quoted):
            raise _NotPlainValue("a literal $ needs a backslash or single quotes")
        self.at += 1
        return "$"

    def _skip_code(self) -> None:
        """Skip a command up to the end of its line; quotes may contain line breaks.

        This does not parse shell code: if quotes do not seem to end, as in a here-document, only this line is skipped.
        """
        quote = ""
        at = self.at
        limit = min(len(self.text), at + _MAX_CODE_LENGTH)
        while at < limit:
            character = self.text[at]
            if character == "\\" and quote != "'":
                at += 1
            elif quote:
                quote = "" if character == quote else quote
            elif character == "\n":
                break
            elif character in "'\"`":
                quote = character
            elif character == "#" and self.text[at - 1 : at] in _BEFORE_COMMENT:
                at = self._line_end(at) - 1
            at += 1
        self.at = self._line_end(self.at) if quote or at >= limit < len(self.text) else min(at, len(self.text))


def _join_texts(parts: list[str | Variable]) -> tuple[str | Variable, ...]:
    """Join adjacent texts."""
    joined: list[str | Variable] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part:
            joined.append(part)
    return tuple(joined)
