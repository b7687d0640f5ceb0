"""The busyboxes that a client may run on: this machine's, and one of each suite with another release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import busyboxes

INSTALLED = "installed"
BUSYBOXES = (INSTALLED, *(pytest.param(suite, marks=pytest.mark.root) for suite in busyboxes.SUITES))
"""Parameters for tests; those of suites are fetched by root."""


def path_of(name: str) -> Path:
    if name == INSTALLED:
        return Path(shutil.which("busybox") or "busybox")
    return busyboxes.busybox_of(name)
