"""Reads account files, and removes users from them: only the accounts that the system needs stay, all of them locked.

Each function takes and returns the bytes of a file. Lines are bytes too: old GECOS fields are often not UTF-8.
Comments, blank lines and NIS lines (`+`, `-`) stay as they are, except for hashes in them.
passwd(5), group(5), shadow(5), gshadow(5), subuid(5), login.defs(5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

LOGIN_DEFS = ("usr/etc/login.defs", "etc/login.defs")
"""Files that set the UID and GID ranges of users, in the order in which they are read; the first is openSUSE's."""
_PASSWORD_HASH = re.compile(rb"\$(?:1|2[abxy]?|3|5|6|7|y|gy|md5|sha1|argon2[a-z]*)[$,][^:\s]*")
"""A password hash of crypt(5) in an unexpected place."""
_ID_RANGE_SETTING = re.compile(
    rb"^[ \t]*([UG]ID_M(?:IN|AX))[ \t]+(0[xX][0-9a-fA-F]+|[0-9]+)[ \t]*(?:#.*)?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class IdRanges:
    """The ID ranges of users, inclusive."""

    uid_min: int = 1000
    uid_max: int = 60000
    gid_min: int = 1000
    gid_max: int = 60000

    @classmethod
    def parse(cls, login_defs: Iterable[bytes]) -> IdRanges:
        """The ranges in an image's files, given in the order in which they are read; the last setting wins."""
        found: dict[str, int] = {}
        for text in login_defs:
            for key, value in _ID_RANGE_SETTING.findall(text):
                found[key.decode("ascii").lower()] = _parse_number(value)
        return cls(**found)

    def is_user(self, uid: int) -> bool:
        return uid != 0 and self.uid_min <= uid <= self.uid_max

    def is_user_group(self, gid: int) -> bool:
        return gid != 0 and self.gid_min <= gid <= self.gid_max


def _parse_number(text: bytes) -> int:
    """A number as read by strtoul(3) with base 0: `0x` and a leading zero select the base."""
    try:
        return int(text, 8 if text[:1] == b"0" and text[1:2] not in (b"x", b"X") and len(text) > 1 else 0)
    except ValueError:
        return int(text, 10)


@dataclass(frozen=True, slots=True)
class AccountSelection:
    """Which accounts of passwd stay and which are removed."""

    kept: frozenset[bytes]
    """Names."""
    removed: frozenset[bytes]
    primary_gids: frozenset[int]
    """The primary groups of the accounts that stay."""

    @classmethod
    def parse(cls, passwd: bytes, id_ranges: IdRanges) -> AccountSelection:
        kept: set[bytes] = set()
        removed: set[bytes] = set()
        primary_gids: set[int] = set()
        for line in passwd.split(b"\n"):
            fields = _split_account(line)
            if fields is None:
                continue
            if (uid := _parse_id(fields, 2)) is not None and id_ranges.is_user(uid):
                removed.add(fields[0])
                continue
            kept.add(fields[0])
            if (gid := _parse_id(fields, 3)) is not None:
                primary_gids.add(gid)
        return cls(frozenset(kept), frozenset(removed - kept), frozenset(primary_gids))


def clean_passwd(text: bytes, id_ranges: IdRanges) -> bytes:
    def line(fields: list[bytes]) -> list[bytes] | None:
        uid = _parse_id(fields, 2)
        return None if uid is not None and id_ranges.is_user(uid) else _strip_hash(fields)

    return _map_accounts(text, line)


def clean_group(text: bytes, accounts: AccountSelection, id_ranges: IdRanges) -> bytes:
    """Groups outside the range stay; user groups only if they have a member that stays."""

    def line(fields: list[bytes]) -> list[bytes] | None:
        if not _is_kept(fields, accounts, id_ranges):
            return None
        return [*_strip_hash(fields)[:3], _join_kept_members(fields, accounts), *fields[4:]]

    return _map_accounts(text, line)


def find_kept_groups(text: bytes, accounts: AccountSelection, id_ranges: IdRanges) -> frozenset[bytes]:
    """The names of the groups that stay."""
    lines = (_split_account(line) for line in text.split(b"\n"))
    return frozenset(fields[0] for fields in lines if fields is not None and _is_kept(fields, accounts, id_ranges))


def clean_shadow(text: bytes, accounts: AccountSelection) -> bytes:
    """Each account that stays is locked and never expires."""
    return _map_accounts(text, lambda fields: [fields[0], b"!", *[b""] * 7] if fields[0] in accounts.kept else None)


def make_shadow(passwd: bytes) -> bytes:
    """A shadow with the accounts of a passwd, as created by pwconv(8), without hashes and dates."""
    accounts = filter(None, map(_split_account, passwd.split(b"\n")))
    return b"".join(fields[0] + b":x:::::::\n" for fields in accounts)


def make_gshadow(group: bytes) -> bytes:
    """A gshadow with the groups and members of a group file, in the same way."""
    groups = filter(None, map(_split_account, group.split(b"\n")))
    return b"".join(b":".join([fields[0], b"x", b"", *fields[3:4]]) + b"\n" for fields in groups)


def clean_gshadow(text: bytes, accounts: AccountSelection, groups: frozenset[bytes]) -> bytes:
    """Groups that stay lose their password and administrators."""

    def line(fields: list[bytes]) -> list[bytes] | None:
        return [fields[0], b"*", b"", _join_kept_members(fields, accounts)] if fields[0] in groups else None

    return _map_accounts(text, line)


def clean_subordinate_ids(text: bytes, accounts: AccountSelection, id_ranges: IdRanges) -> bytes:
    """Clean subuid or subgid, whose lines begin with a user name or UID. Unknown names stay (`containers`)."""

    def line(fields: list[bytes]) -> list[bytes] | None:
        uid = _parse_id(fields, 0)
        gone = fields[0] in accounts.removed or (uid is not None and id_ranges.is_user(uid))
        return None if gone else fields

    return _map_accounts(text, line)


def _is_kept(fields: list[bytes], accounts: AccountSelection, id_ranges: IdRanges) -> bool:
    gid = _parse_id(fields, 2)
    return (
        gid is None
        or not id_ranges.is_user_group(gid)
        or gid in accounts.primary_gids
        or _join_kept_members(fields, accounts) != b""
    )


def _join_kept_members(fields: list[bytes], accounts: AccountSelection) -> bytes:
    names = fields[3].split(b",") if len(fields) > 3 else []
    return b",".join(name for name in names if name.strip() in accounts.kept)


def _strip_hash(fields: list[bytes]) -> list[bytes]:
    """The fields without the password in field 2, unless it only marks the account as locked or shadowed."""
    if len(fields) < 2 or fields[1] in (b"x", b"*", b"!", b"!!", b"!*", b"*LK*", b"*NP*"):
        return fields
    return [fields[0], b"x", *fields[2:]]


def _map_accounts(text: bytes, function: Callable[[list[bytes]], list[bytes] | None]) -> bytes:
    """The text with each account's fields replaced, or its line dropped if the function returns None."""
    kept: list[bytes] = []
    for line in text.split(b"\n"):
        fields = _split_account(line)
        if fields is None:
            kept.append(_PASSWORD_HASH.sub(b"x", line))
        elif (new := function(fields)) is not None:
            kept.append(_PASSWORD_HASH.sub(b"x", b":".join(new)))
    return b"\n".join(kept)


def _split_account(line: bytes) -> list[bytes] | None:
    """The fields of an account; None if the line is not an account."""
    if not line.strip() or line.lstrip()[:1] in (b"#", b"+", b"-"):
        return None
    return line.split(b":")


def _parse_id(fields: list[bytes], index: int) -> int | None:
    """The number in a field; None if it is not a number."""
    text = fields[index].strip() if index < len(fields) else b""
    return int(text) if text.isdigit() and len(text) < 20 else None


VALID_NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")
"""Valid names of accounts and groups to add; existing ones in an image may have any name."""
_NOT_A_HASH = re.compile(rb"(?:x|\*|!|!!|!\*|\*LK\*|\*NP\*)?")
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


def has_password_hashes(text: bytes) -> bool:
    return any(len(fields) > 1 and not _NOT_A_HASH.fullmatch(fields[1]) for fields in parse_entries(text))


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


def display_name(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
