"""Text for iPXE scripts.

iPXE has neither quotes nor escapes: a line is split at blanks, `${` begins a setting wherever it stands, a word that
begins with `#` ends the line, and the words `;`, `&&` and `||` end a command (iPXE's core/exec.c). What a person wrote
gets into a script only through `check_words`, which lets characters pass that mean nothing there, and no others.
"""

from __future__ import annotations

import string
import unicodedata

from ltsp.errors import ConfError
from ltsp.tree.name import printable

_HARMLESS = frozenset(string.ascii_letters + string.digits + "._+-/:=,@%!*?()[]^~'\"")
"""In words. Not there: what could begin a setting, a comment, a separator or the continuation of a line."""
_STAND_IN = "_"
_LONGEST_TITLE = 72
"""Characters; iPXE's menu is 80 columns wide and shows the seconds left at the end of the line."""
LONGEST_PARAMETERS = 1024
"""Characters. The kernel of x86 takes 2047 in all (COMMAND_LINE_SIZE), and ours need up to 700."""


class UnwritableText(ValueError):
    """A text that no iPXE script can hold; the message says why: `holds '$'`."""


def check_words(text: str) -> str:
    """The words of a text as a script may hold them, a single space between two of them, as iPXE hands them on.

    Raises Unwritable.
    """
    for character in text:
        if character not in _HARMLESS and character not in " \t":
            raise UnwritableText(f"holds {character!a}")
    return " ".join(text.split())


def check_word(text: str) -> str:
    """A text that is a single word: an address, a path, a label.

    Raises Unwritable.
    """
    if not text or " " in text or "\t" in text:
        raise UnwritableText("is empty" if not text else "holds a space")
    return check_words(text)


def check_parameters(text: str, key: str, where: str) -> str:
    """Words for a kernel's command line, from the key of a file, whose name and line are `where`.

    Raises ConfError, since a kernel that is told something else than what was written helps nobody.
    """
    try:
        words = check_words(text.replace("\n", " "))
    except UnwritableText as fault:
        raise ConfError(
            f"{where}: {key}: {printable(text)!r} {fault}, which no iPXE script can hold",
            f"letters, digits, spaces and {''.join(sorted(_HARMLESS - set(string.ascii_letters + string.digits)))} "
            "can be written there",
        ) from None
    if len(words) > LONGEST_PARAMETERS:
        raise ConfError(
            f"{where}: {key} has {len(words)} characters, and a kernel takes {LONGEST_PARAMETERS} of them at most",
            "leave some out",
        )
    return words


def title(text: str) -> str:
    """A text for people, as near as a script can hold it: accents go, and `_` stands for what else cannot be written.

    It is never empty, and does not begin with a hyphen, which some commands would take for an option.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    words = check_words("".join(c if c in _HARMLESS else " " if c.isspace() else _STAND_IN for c in plain))
    shown = words[:_LONGEST_TITLE].strip()
    return _STAND_IN + shown if not shown or shown.startswith("-") else shown
