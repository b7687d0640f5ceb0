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

_HARMLESS = frozenset(string.ascii_letters + string.digits + "._+-/:=,@%!*?()[]^~'\"")
"""Characters of words, without those that could begin a setting, comment, separator or line continuation."""
_STAND_IN = "_"
_LONGEST_TITLE = 72
"""Characters; iPXE's menu is 80 columns wide and shows the seconds left at the end of the line."""
LONGEST_PARAMETERS = 1024
"""Characters. An x86 kernel takes 2047 in all (COMMAND_LINE_SIZE), and LTSP's own need up to 700."""


class UnwritableText(ValueError):
    """A text that an iPXE script cannot contain; the message says why: `contains '$'`."""


def check_words(text: str) -> str:
    """The words of a text for a script, separated by single spaces, as iPXE passes them on.

    Raises UnwritableText.
    """
    for character in text:
        if character not in _HARMLESS and character not in " \t":
            raise UnwritableText(f"contains {character!a}")
    return " ".join(text.split())


def check_word(text: str) -> str:
    """A text that is a single word: an address, a path, a label.

    Raises UnwritableText.
    """
    if not text or " " in text or "\t" in text:
        raise UnwritableText("is empty" if not text else "contains a space")
    return check_words(text)


def check_parameters(text: str, key: str, where: str) -> str:
    """Words for a kernel's command line, from a key of a file; `where` is its name and line.

    Raises ConfError rather than change the text: a kernel with other parameters than written helps nobody.
    """
    try:
        words = check_words(text.replace("\n", " "))
    except UnwritableText as fault:
        raise ConfError(
            f"{where}: {key}: {printable(text)!r} {fault}, which iPXE scripts cannot contain",
            f"use letters, digits, spaces and {''.join(sorted(_HARMLESS - set(string.ascii_letters + string.digits)))}",
        ) from None
    if len(words) > LONGEST_PARAMETERS:
        raise ConfError(
            f"{where}: {key} is too long: {len(words)} characters; the limit is {LONGEST_PARAMETERS}",
            "remove some parameters",
        )
    return words


def title(text: str) -> str:
    """A title that a script can contain: accents are removed, and `_` replaces other characters that are not allowed.

    It is never empty, and does not begin with a hyphen, which some commands would take for an option.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    words = check_words("".join(c if c in _HARMLESS else " " if c.isspace() else _STAND_IN for c in plain))
    shown = words[:_LONGEST_TITLE].strip()
    return _STAND_IN + shown if not shown or shown.startswith("-") else shown
