"""Reports missing optional libraries, the extras of pyproject.toml, with how to install them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.errors import LtspError


@contextmanager
def require(purpose: str, library: str, extra: str, otherwise: str = "") -> Iterator[None]:
    """Wraps the import of an extra's library; `purpose` is what needs it.

    Raises LtspError if it is not installed; the hint says how to install it, or what else to do.
    """
    try:
        yield
    except ImportError as error:
        hint = f"pipx inject ltsp {library}, or pip install 'ltsp[{extra}]'"
        raise LtspError(
            f"{purpose} needs the Python package {library}: {error}", f"{hint}; {otherwise}" if otherwise else hint
        ) from error
