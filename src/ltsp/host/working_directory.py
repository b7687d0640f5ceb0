"""The directory that relative paths count from, which may have been removed since."""

from __future__ import annotations

import os


def is_removed() -> bool:
    """Whether no relative path leads anywhere. getcwd(2), ENOENT"""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
