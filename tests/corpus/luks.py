"""Encrypted volumes, made by cryptsetup itself: it encrypts a file in place, without device-mapper."""

from __future__ import annotations

import subprocess
from pathlib import Path

FAST = ("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000")
"""What makes key slots quickly, which guard nothing."""
_ROOM = 32 << 20
"""Bytes of which cryptsetup takes half for the header."""


def encrypted(path: Path, key: Path, *options: str, first_version: bool = False) -> Path:
    """A file becomes a volume of LUKS that holds what it held. cryptsetup-reencrypt(8), cryptsetup-convert(8)"""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + _ROOM)
    words = ["reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", f"{_ROOM >> 20}M", *FAST]
    _cryptsetup(*words, *options, "--key-file", key, path)
    if first_version:
        _cryptsetup("convert", "--type", "luks1", path)
    return path


def _cryptsetup(*words: object) -> None:
    command = ["cryptsetup", "--batch-mode", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
