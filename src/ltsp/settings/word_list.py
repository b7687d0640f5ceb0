"""A list of words written as a shell would take it: quotes and backslashes group, nothing is expanded."""

from __future__ import annotations

import shlex

_REASONS = {
    "No closing quotation": "a quote is not closed",
    "No escaped character": "a backslash stands at the end",
}


def split(text: str) -> tuple[str, ...]:
    """The words of a text; `''` is an empty word, and an empty text has none.

    Raises ValueError, which says what is wrong with the text.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(_REASONS.get(str(error), str(error).lower())) from None
