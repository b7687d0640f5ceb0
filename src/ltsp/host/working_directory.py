"""The working directory, which may have been removed."""

from __future__ import annotations

import os


def is_removed() -> bool:
    """Whether the working directory was removed, so that relative paths do not work. getcwd(2), ENOENT"""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
