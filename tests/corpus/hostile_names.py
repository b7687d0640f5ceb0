"""Names and texts that would do harm if they were printed, typed or parsed unescaped."""

from __future__ import annotations

import itertools

_PIECES = (
    "\n",
    "\r",
    "\t",
    "\x00",
    "\x07",
    "\x08",
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\x9b31m",
    "\u2028",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\udcff",
    "\udc1b",
    "\udc80\udcbf",
    "[red]",
    "[/red]",
    "[link=file:///etc/passwd]",
    "{task.description}",
    "%s%n",
    "$(id)",
    "`id`",
    "; id",
    "| id",
    "'\"",
    "\\",
    "\\x0a",
    "<b>",
    "#!ipxe",
    "-rf",
    "é漢🐧",
)
NASTY = tuple(
    dict.fromkeys([*_PIECES, *(f"a{one}b{two}" for one, two in itertools.product(_PIECES, _PIECES[::4])), " "])
)
"""More than 300."""
