"""Merges the server's users into the account files of an image: names, IDs and groups, never a hash.

Accounts of the image stay: those of its packages, and its own users unless one of the server's has the same name or
ID. passwd(5), group(5), shadow(5), gshadow(5)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ltsp.errors import ConfError
from ltsp.transform import accounts
from ltsp.transform.accounts import VALID_NAME, GroupEntry, IdRanges


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """The text of each file; None if it does not exist."""

    passwd: bytes
    group: bytes
    shadow: bytes | None = None
    gshadow: bytes | None = None
    id_ranges: IdRanges = field(default_factory=IdRanges)


@dataclass(frozen=True, slots=True)
class UserSelection:
    """Which of the server's users clients get; without either setting, all of them."""

    users: str = ""
    """A regular expression for whole names of accounts (PWMERGE_SUR)."""
    groups: str = ""
    """The same for groups whose members are chosen (PWMERGE_SGR); with a leading `:`, for system groups too."""


@dataclass(frozen=True, slots=True)
class MergedAccounts:
    files: dict[str, bytes]
    """The changed files, by path."""
    accounts_to_lock: tuple[str, ...]
    """Accounts to lock in shadow, which is not in `files` because it holds hashes."""
    conflicts: tuple[str, ...]
    merged_users: tuple[str, ...]
    """The names of the server's users that were merged."""


@dataclass(frozen=True, slots=True)
class _UserAccount:
    name: bytes
    uid: int
    gid: int
    fields: tuple[bytes, ...]

    @property
    def line(self) -> bytes:
        return b":".join((self.name, b"x", *self.fields[2:]))


def merge_accounts(server: AccountFiles, image: AccountFiles, selection: UserSelection | None = None) -> MergedAccounts:
    """The image's files with the server's users merged.

    Raises ConfError for an invalid expression in the choice.
    """
    conflicts: list[str] = []
    users_to_merge = _drop_conflicting(_choose_users(server, selection or UserSelection()), image, conflicts)
    names = frozenset(user.name for user in users_to_merge)
    groups = _choose_groups(server, image, users_to_merge, conflicts)
    files = {
        "etc/passwd": _merge_passwd(image, users_to_merge),
        "etc/group": _merge_group(image.group, groups, _find_memberships(server, names), names),
    }
    accounts_to_lock: tuple[str, ...] = ()
    if image.shadow is not None:
        missing = [user.name for user in users_to_merge if user.name not in accounts.list_names(image.shadow)]
        if accounts.has_password_hashes(image.shadow):
            accounts_to_lock = tuple(name.decode("ascii") for name in missing)
        else:
            files["etc/shadow"] = accounts.append_lines(image.shadow, [name + b":!:::::::" for name in missing])
    if image.gshadow is not None and not accounts.has_password_hashes(image.gshadow):
        files["etc/gshadow"] = _merge_gshadow(image.gshadow, files["etc/group"])
    before = {
        "etc/passwd": image.passwd,
        "etc/group": image.group,
        "etc/shadow": image.shadow,
        "etc/gshadow": image.gshadow,
    }
    return MergedAccounts(
        {path: text for path, text in files.items() if text != before[path]},
        accounts_to_lock,
        tuple(conflicts),
        tuple(user.name.decode("ascii") for user in users_to_merge),
    )


def list_users(files: AccountFiles) -> frozenset[str]:
    """The names of all user accounts, without system accounts."""
    return frozenset(user.name.decode("ascii") for user in _parse_users(files))


def list_accounts(passwd: bytes) -> frozenset[str]:
    """The names of all accounts."""
    return frozenset(
        fields[0].decode("ascii") for fields in accounts.parse_entries(passwd) if VALID_NAME.fullmatch(fields[0])
    )


def _parse_users(files: AccountFiles) -> Iterator[_UserAccount]:
    for fields in accounts.parse_entries(files.passwd):
        uid, gid = accounts.parse_number(fields, 2), accounts.parse_number(fields, 3)
        if len(fields) == 7 and uid is not None and gid is not None and VALID_NAME.fullmatch(fields[0]):
            user = _UserAccount(fields[0], uid, gid, tuple(fields))
            if files.id_ranges.is_user(uid) and not any(byte < 32 for byte in user.line):
                yield user


def _choose_users(server: AccountFiles, selection: UserSelection) -> list[_UserAccount]:
    everyone = list(_parse_users(server))
    if not selection.users and not selection.groups:
        return everyone
    users = _compile_expression(selection.users, "PWMERGE_SUR")
    chosen = {user.name for user in everyone if users and users.fullmatch(user.name.decode("ascii"))}
    if selection.groups:
        include_system_groups = selection.groups.startswith(":")
        groups = _compile_expression(selection.groups.removeprefix(":"), "PWMERGE_SGR")
        for group in accounts.parse_groups(server.group):
            matches = groups is not None and groups.fullmatch(group.name.decode("utf-8", "surrogateescape"))
            if matches and (include_system_groups or server.id_ranges.is_user_group(group.gid)):
                chosen.update(group.members)
                chosen.update(user.name for user in everyone if user.gid == group.gid)
    return [user for user in everyone if user.name in chosen]


def _compile_expression(text: str, key: str) -> re.Pattern[str] | None:
    """Raises ConfError."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ConfError(f"{key}: {text!a} is not a valid regular expression: {error}") from None


def _drop_conflicting(
    users_to_merge: Iterable[_UserAccount], image: AccountFiles, conflicts: list[str]
) -> list[_UserAccount]:
    """The users whose name and UID no system account of the image has."""
    by_name: dict[bytes, int] = {}
    by_uid: dict[int, bytes] = {}
    numbered = [(fields[0], accounts.parse_number(fields, 2)) for fields in accounts.parse_entries(image.passwd)]
    known = [(name, uid) for name, uid in numbered if uid is not None]
    # Of several lines for one name, that of the system account counts.
    for name, uid in sorted(known, key=lambda account: image.id_ranges.is_user(account[1])):
        by_name.setdefault(name, uid)
        by_uid.setdefault(uid, name)
    chosen: dict[int, bytes] = {}
    kept: list[_UserAccount] = []
    for user in users_to_merge:
        shown = accounts.display_name(user.name)
        image_id = by_name.get(user.name)
        other = by_uid.get(user.uid, user.name)
        if image_id is not None and not image.id_ranges.is_user(image_id):
            conflicts.append(f"{shown} is left out: the image has a system account of that name (UID {image_id})")
        elif other != user.name and not image.id_ranges.is_user(user.uid):
            conflicts.append(
                f"{shown} is left out: the image's system account {accounts.display_name(other)} has UID {user.uid}"
            )
        elif user.uid in chosen:
            conflicts.append(
                f"{shown} is left out: {accounts.display_name(chosen[user.uid])} has the same UID {user.uid}"
            )
        else:
            if image_id not in (None, user.uid):
                conflicts.append(
                    f"{shown} gets the server's UID {user.uid} instead of the image's {image_id}: "
                    f"its files in the image keep owner {image_id}"
                )
            if other != user.name:
                conflicts.append(
                    f"the image's {accounts.display_name(other)} is replaced by {shown}: both have UID {user.uid}"
                )
            chosen[user.uid] = user.name
            kept.append(user)
    return kept


def _merge_passwd(image: AccountFiles, users_to_merge: list[_UserAccount]) -> bytes:
    names = {user.name for user in users_to_merge}
    uids = {user.uid for user in users_to_merge}
    lines = [
        line
        for line in image.passwd.split(b"\n")
        if not (
            (fields := accounts.parse_entry(line)) and (fields[0] in names or accounts.parse_number(fields, 2) in uids)
        )
    ]
    return accounts.append_lines(b"\n".join(lines), [user.line for user in users_to_merge])


def _choose_groups(
    server: AccountFiles, image: AccountFiles, users_to_merge: list[_UserAccount], conflicts: list[str]
) -> list[GroupEntry]:
    """The server's groups to add: user groups, and the primary groups of the merged users."""
    names = frozenset(user.name for user in users_to_merge)
    primary = {user.gid for user in users_to_merge}
    by_name = {group.name: group.gid for group in accounts.parse_groups(image.group)}
    by_gid = {group.gid: group.name for group in accounts.parse_groups(image.group)}
    kept: list[GroupEntry] = []
    for group in accounts.parse_groups(server.group):
        members = tuple(name for name in group.members if name in names)
        if group.gid not in primary and not (server.id_ranges.is_user_group(group.gid) and members):
            continue
        name = accounts.display_name(group.name)
        image_id = by_name.get(group.name)
        other = by_gid.get(group.gid, group.name)
        if image_id == group.gid and not image.id_ranges.is_user_group(group.gid):
            continue  # the same system group; its members are merged separately
        if image_id is not None and image_id != group.gid and not image.id_ranges.is_user_group(image_id):
            conflicts.append(f"group {name} is left out: the image has a system group of that name (GID {image_id})")
        elif other != group.name and not image.id_ranges.is_user_group(group.gid):
            conflicts.append(
                f"group {name} is left out: the image's system group {accounts.display_name(other)} has GID {group.gid}"
            )
        elif VALID_NAME.fullmatch(group.name):
            if other != group.name:
                other_shown = accounts.display_name(other)
                conflicts.append(f"the image's group {other_shown} is replaced by {name}: both have GID {group.gid}")
            kept.append(GroupEntry(group.name, group.gid, members))
    return kept


def _find_memberships(server: AccountFiles, names: frozenset[bytes]) -> dict[bytes, list[bytes]]:
    """The merged users' memberships in system groups of the server: audio, video, plugdev."""
    return {
        group.name: members
        for group in accounts.parse_groups(server.group)
        if not server.id_ranges.is_user_group(group.gid)
        and (members := [name for name in group.members if name in names])
    }


def _merge_group(
    text: bytes, groups: list[GroupEntry], memberships: dict[bytes, list[bytes]], names: frozenset[bytes]
) -> bytes:
    new_names = {group.name for group in groups}
    gids = {group.gid for group in groups}
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        fields = accounts.parse_entry(line)
        if fields is None or len(fields) < 4:
            lines.append(line)
            continue
        if fields[0] in new_names or accounts.parse_number(fields, 2) in gids:
            continue
        members = [name for name in fields[3].split(b",") if name and name not in names]
        members += memberships.get(fields[0], [])
        lines.append(b":".join((*fields[:3], b",".join(members), *fields[4:])))
    added = [b"%b:x:%d:%b" % (group.name, group.gid, b",".join(group.members)) for group in groups]
    return accounts.append_lines(b"\n".join(lines), added)


def _merge_gshadow(text: bytes, group: bytes) -> bytes:
    """A gshadow line for each group, with its members; group administrators stay."""
    members = {each.name: b",".join(each.members) for each in accounts.parse_groups(group)}
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        fields = accounts.parse_entry(line)
        if fields is None or len(fields) < 4:
            lines.append(line)
        elif fields[0] in members:
            lines.append(b":".join((*fields[:3], members[fields[0]])))
    known = accounts.list_names(text)
    return accounts.append_lines(
        b"\n".join(lines), [b"%b:!::%b" % pair for pair in members.items() if pair[0] not in known]
    )
