"""The name that a person may have meant by one that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def likely(name: str, known: Iterable[str], alike: float = 0.75) -> str:
    """The one that is most like it; empty where none is. `alike`: by which part of their letters, from 0 to 1."""
    import difflib  # noqa: PLC0415 -- seldom needed

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=alike)
    return near[0] if near else ""
