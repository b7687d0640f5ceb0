"""Checking words for configuration files: only words that need no quoting in any of them are accepted."""

from __future__ import annotations

import re

from ltsp.errors import LtspError
from ltsp.tree.name import printable

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@=~-]*")
_WORD = re.compile(r"[A-Za-z0-9._@-]+")


def check_path(text: str, what: str) -> str:
    """The absolute path itself.

    Raises LtspError if it contains characters that may have a special meaning in a configuration.
    """
    if not _PLAIN_PATH.fullmatch(text):
        raise LtspError(
            f"{what} {printable(text)!r} cannot be used in the configuration of a service",
            "use letters, digits and . _ / + @ = ~ - only; a bind mount can give a directory such a name",
        )
    return text


def check_word(text: str, what: str) -> str:
    """The word itself.

    Raises LtspError likewise.
    """
    if not _WORD.fullmatch(text):
        raise LtspError(
            f"the name of {what} {printable(text)!r} cannot be used in the configuration of a service",
            "use letters, digits and . _ @ - only",
        )
    return text
