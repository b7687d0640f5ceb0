"""Damage to a disk."""

from __future__ import annotations

from pathlib import Path


def flip(image: Path, place: int) -> None:
    """Change one bit of a byte, as a failing disk does."""
    with image.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))
