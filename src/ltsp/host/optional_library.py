"""Libraries that not every installation has, the extras of pyproject.toml: asked for by name where one is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ltsp.errors import LtspError


@contextmanager
def require(purpose: str, library: str, extra: str, otherwise: str = "") -> Iterator[None]:
    """For a block that imports an extra's library; `purpose` is what cannot be done without it.

    Raises LtspError where it is not installed; the hint is how to install it, or what else can be done.
    """
    try:
        yield
    except ImportError as error:
        hint = f"pipx inject ltsp {library}, or pip install 'ltsp[{extra}]'"
        raise LtspError(
            f"{purpose} needs the Python package {library}: {error}", f"{hint}; {otherwise}" if otherwise else hint
        ) from error
