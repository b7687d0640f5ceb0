r"""The second half of `--kernel-initrd`: substitutions, as in sed, that turn a kernel's path into its initrd's.

`s|vmlinuz|initrd.img|`, several of them separated by `;`, basic regular expressions with the extensions of GNU sed,
`&` and `\1` to `\9`, the flags `g` and `I`. Nothing else of sed is supported. sed(1)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ltsp.errors import UsageError
from ltsp.tree.name import printable

_FLAGS = re.compile(r"[gI]*")
_ESCAPED_IN_REVERSE = "(){}|+?"
"""Characters that need a backslash in a basic regular expression and none in Python's, and vice versa."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """One `s|…|…|`."""

    pattern: re.Pattern[str]
    replacement: str
    """As `re.sub` takes it."""
    replace_all: bool

    def apply(self, text: str) -> str:
        return self.pattern.sub(self.replacement, text, count=0 if self.replace_all else 1)


def parse_substitutions(text: str) -> tuple[Substitution, ...]:
    """Raises UsageError if the text is not a sequence of substitutions."""
    found: list[Substitution] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\n;":
            at += 1
            continue
        if text[at] != "s" or at + 1 >= len(text) or text[at + 1] in "\\\n":
            raise _syntax_error(text, "it does not have the form s|vmlinuz|initrd.img|")
        delimiter = text[at + 1]
        old, at = _split_part(text, at + 2, delimiter)
        new, at = _split_part(text, at, delimiter)
        flags = _FLAGS.match(text, at)
        assert flags is not None  # it matches the empty text
        at = flags.end()
        if at < len(text) and text[at] not in " \t\n;":
            raise _syntax_error(text, f"unknown flag {text[at]} (known: g, I)")
        found.append(_compile(text, old, new, flags[0]))
    return tuple(found)


def _compile(text: str, old: str, new: str, flags: str) -> Substitution:
    try:
        pattern = re.compile(_to_python_regex(old), re.IGNORECASE if "I" in flags else 0)
        replacement = _translate_replacement(new)
        if max(map(int, re.findall(r"\\g<(\d+)>", replacement)), default=0) > pattern.groups:
            raise _syntax_error(text, "the replacement refers to a group that the pattern does not have")
    except re.error as error:
        raise _syntax_error(text, str(error)) from error
    return Substitution(pattern, replacement, "g" in flags)


def _split_part(text: str, at: int, delimiter: str) -> tuple[str, int]:
    """The text up to the delimiter, and the offset after it; a backslash escapes the delimiter."""
    part: list[str] = []
    while at < len(text):
        if text[at] == delimiter:
            return "".join(part), at + 1
        if text[at] == "\\" and at + 1 < len(text):
            part.append(text[at + 1] if text[at + 1] == delimiter else text[at : at + 2])
            at += 2
        else:
            part.append(text[at])
            at += 1
    raise _syntax_error(text, f"the closing {delimiter} is missing")


def _to_python_regex(basic: str) -> str:
    """A basic regular expression in Python's syntax."""
    atoms = re.findall(r"\\.|\[\^?\]?[^\]]*\]|.", basic, re.DOTALL)
    return "".join(_translate_atom(atoms, index) for index in range(len(atoms)))


def _translate_atom(atoms: list[str], index: int) -> str:
    atom = atoms[index]
    before = atoms[index - 1] if index else None
    after = atoms[index + 1] if index + 1 < len(atoms) else None
    if atom.startswith("[") and len(atom) > 1:
        return atom.replace("\\", "\\\\").replace("[[", "[\\[")
    if atom.startswith("\\"):
        return atom[1:] if atom[1] in _ESCAPED_IN_REVERSE else atom
    if atom in _ESCAPED_IN_REVERSE:
        return "\\" + atom
    if atom == "*" and before in (None, "^", "\\(", "\\|"):
        return r"\*"
    if atom == "^" and before not in (None, "\\(", "\\|"):
        return r"\^"
    if atom == "$":
        return r"\Z" if after in (None, "\\)", "\\|") else r"\$"
    return atom


def _translate_replacement(new: str) -> str:
    def translate(match: re.Match[str]) -> str:
        atom = match[0]
        if atom == "&":
            return r"\g<0>"
        if atom.startswith("\\"):
            return rf"\g<{atom[1]}>" if atom[1].isdigit() else atom[1].replace("\\", r"\\")
        return atom

    return re.sub(r"\\.|&|\\", translate, new, flags=re.DOTALL)


def _syntax_error(text: str, reason: str) -> UsageError:
    return UsageError(
        f"invalid initrd rule {printable(text)}: {reason}",
        "for example: --kernel-initrd='live/vmlinuz-* s|vmlinuz|initrd.img|'",
    )
