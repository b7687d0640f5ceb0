"""Words that mean themselves in every configuration that we write: nothing in them needs quotes anywhere."""

from __future__ import annotations

import re

from ltsp.errors import LtspError
from ltsp.tree.name import printable

_PLAIN = re.compile(r"/[A-Za-z0-9._/+@=~-]*")
_WORD = re.compile(r"[A-Za-z0-9._@-]+")


def check_path(text: str, what: str) -> str:
    """The absolute path itself.

    Raises LtspError if it holds what a configuration could take for something else.
    """
    if not _PLAIN.fullmatch(text):
        raise LtspError(
            f"{what} {printable(text)!r} cannot be written into the configuration of a service",
            "letters, digits and . _ / + @ = ~ - can; a bind mount gives a directory such a name",
        )
    return text


def check_word(text: str, what: str) -> str:
    """The word itself.

    Raises LtspError likewise.
    """
    if not _WORD.fullmatch(text):
        raise LtspError(
            f"the name of {what} {printable(text)!r} cannot be written into the configuration of a service",
            "letters, digits and . _ @ - can",
        )
    return text
