"""The version of the program: what it says of itself, and what the package is called by."""

from __future__ import annotations

VERSION = "0.1.0"
