"""Lines of account files: fields separated by colons, among comments and NIS lines.

Lines are bytes: old GECOS fields are often not UTF-8. passwd(5), group(5), shadow(5), gshadow(5)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")
"""Valid names of accounts and groups to add; existing ones in an image may have any name."""
_LOCKED = re.compile(rb"(?:x|\*|!|!!|!\*|\*LK\*|\*NP\*)?")
"""Values of field 2 of shadow and gshadow that are not password hashes."""


@dataclass(frozen=True, slots=True)
class GroupEntry:
    name: bytes
    gid: int
    members: tuple[bytes, ...]


def parse_groups(text: bytes) -> Iterator[GroupEntry]:
    for fields in parse_entries(text):
        gid = parse_number(fields, 2)
        if gid is not None and len(fields) >= 4:
            yield GroupEntry(fields[0], gid, tuple(name.strip() for name in fields[3].split(b",") if name.strip()))


def holds_hashes(text: bytes) -> bool:
    return any(len(fields) > 1 and not _LOCKED.fullmatch(fields[1]) for fields in parse_entries(text))


def list_names(text: bytes) -> frozenset[bytes]:
    return frozenset(fields[0] for fields in parse_entries(text))


def append_lines(text: bytes, lines: list[bytes]) -> bytes:
    """Insert new lines before NIS lines (`+`), which have to come last. nsswitch.conf(5), compat"""
    if not lines:
        return text
    own = text.split(b"\n")
    if not own[-1]:
        own.pop()
    at = next((number for number, line in enumerate(own) if line.startswith((b"+", b"-"))), len(own))
    return b"".join(line + b"\n" for line in (*own[:at], *lines, *own[at:]))


def parse_entries(text: bytes) -> Iterator[list[bytes]]:
    for line in text.split(b"\n"):
        if (fields := parse_entry(line)) is not None:
            yield fields


def parse_entry(line: bytes) -> list[bytes] | None:
    """The fields of an account; None if the line is not an account."""
    return None if not line.strip() or line.lstrip()[:1] in (b"#", b"+", b"-") else line.split(b":")


def parse_number(fields: list[bytes], index: int) -> int | None:
    text = fields[index].strip() if index < len(fields) else b""
    return int(text) if text.isdigit() and len(text) < 20 else None


def render(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
