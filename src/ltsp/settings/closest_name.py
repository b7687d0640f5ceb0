"""The known name closest to an unknown one."""

from __future__ import annotations

from collections.abc import Iterable


def closest_name(name: str, known: Iterable[str], alike: float = 0.75) -> str:
    """The known name closest to it; empty if none is. `alike`: the least similarity, from 0 to 1."""
    import difflib  # noqa: PLC0415 -- rarely needed

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=alike)
    return near[0] if near else ""
