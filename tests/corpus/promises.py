"""The promises in the table of docs/reliability.md, and the tests that check them."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
_ROW = re.compile(r"^\| (R\d+) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)
_ROWS = _ROW.findall((CHECKOUT / "docs" / "reliability.md").read_text())

PROMISES: dict[str, str] = {number: text.strip() for number, text, _ in _ROWS}
"""The promises by number."""
TESTS: dict[str, list[str]] = {number: re.findall(r"`(tests/[^`]+)`", tests) for number, _, tests in _ROWS}
"""The tests of a promise: a file, or `file::test`."""


def promises_of(nodeid: str) -> list[str]:
    """The promises that a test holds, from its name as pytest has it."""
    name = nodeid.split("[", maxsplit=1)[0]
    return [number for number, tests in TESTS.items() if name in tests or name.split("::")[0] in tests]
