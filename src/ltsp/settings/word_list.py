"""A list of words with the quotes and backslashes of a shell; nothing is expanded."""

from __future__ import annotations

import shlex

_REASONS = {
    "No closing quotation": "has an unclosed quote",
    "No escaped character": "ends with a backslash",
}


def split(text: str) -> tuple[str, ...]:
    """The words of a text; `''` is an empty word, and an empty text has none.

    Raises ValueError with the reason.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(_REASONS.get(str(error), str(error).lower())) from None
