"""Text for iPXE scripts.

iPXE has neither quotes nor escapes: a line is split at blanks, `${` begins a setting wherever it stands, a word that
begins with `#` ends the line, and the words `;`, `&&` and `||` end a command (iPXE's core/exec.c). Text written by
people gets into a script only through `check_words`, which accepts only characters without a special meaning.
"""

from __future__ import annotations

import string
import unicodedata

from ltsp.errors import ConfError
from ltsp.tree.name import printable

_LETTERS_AND_DIGITS = frozenset(string.ascii_letters + string.digits)
_PLAIN_CHARACTERS = _LETTERS_AND_DIGITS | frozenset("._+-/:=,@%!*?()[]^~'\"")
"""Characters of words, without those that could begin a setting, comment, separator or line continuation."""
_REPLACEMENT = "_"
_MAX_TITLE_LENGTH = 72
"""Characters; iPXE's menu is 80 columns wide and shows the seconds left at the end of the line."""
MAX_PARAMETERS_LENGTH = 1024
"""Characters. An x86 kernel takes 2047 in all (COMMAND_LINE_SIZE), and LTSP's own need up to 700."""


class UnwritableText(ValueError):
    """A text that an iPXE script cannot contain; the message says why: `contains '$'`."""


def check_words(text: str) -> str:
    """The words of a text for a script, separated by single spaces, as iPXE passes them on.

    Raises UnwritableText.
    """
    for character in text:
        if character not in _PLAIN_CHARACTERS and character not in " \t":
            raise UnwritableText(f"contains {character!a}")
    return " ".join(text.split())


def check_word(text: str) -> str:
    """A text that is a single word: an address, a path, a label.

    Raises UnwritableText.
    """
    if not text or " " in text or "\t" in text:
        raise UnwritableText("is empty" if not text else "contains a space")
    return check_words(text)


def check_parameters(text: str, key: str, location: str) -> str:
    """Words for a kernel's command line, from a key of a file; `location` is its name and line.

    Raises ConfError rather than change the text: a kernel with other parameters than written helps nobody.
    """
    try:
        words = check_words(text.replace("\n", " "))
    except UnwritableText as fault:
        raise ConfError(
            f"{location}: {key}: {printable(text)!r} {fault}, which iPXE scripts cannot contain",
            f"use letters, digits, spaces and {''.join(sorted(_PLAIN_CHARACTERS - _LETTERS_AND_DIGITS))}",
        ) from None
    if len(words) > MAX_PARAMETERS_LENGTH:
        raise ConfError(
            f"{location}: {key} is too long: {len(words)} characters; the limit is {MAX_PARAMETERS_LENGTH}",
            "remove some parameters",
        )
    return words


def format_title(text: str) -> str:
    """A title that a script can contain: accents are removed, and `_` replaces other characters that are not allowed.

    It is never empty, and does not begin with a hyphen, which some commands would take for an option.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    words = check_words("".join(c if c in _PLAIN_CHARACTERS else " " if c.isspace() else _REPLACEMENT for c in plain))
    shown = words[:_MAX_TITLE_LENGTH].strip()
    return _REPLACEMENT + shown if not shown or shown.startswith("-") else shown
