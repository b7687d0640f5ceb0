"""Sizes and counts for people."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def format_size(count: int) -> str:
    """Bytes: `0 bytes`, `1.5 KiB`, `412 MiB`, with up to three digits."""
    if abs(count) < 1024:
        return f"{count} bytes"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if abs(value) < 1000 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}" if abs(value) < 10 else f"{value:.0f} {unit}"


def format_count(count: int, noun: str) -> str:
    """`1 package`, `2 packages`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
