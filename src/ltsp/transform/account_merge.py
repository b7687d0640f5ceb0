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
from ltsp.transform.accounts import NAME, GroupEntry, IdRanges


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """The text of each file; None if it does not exist."""

    passwd: bytes
    group: bytes
    shadow: bytes | None = None
    gshadow: bytes | None = None
    limits: IdRanges = field(default_factory=IdRanges)


@dataclass(frozen=True, slots=True)
class PeopleChoice:
    """Which of the server's users clients get; without either setting, all of them."""

    users: str = ""
    """A regular expression for whole names of accounts (PWMERGE_SUR)."""
    groups: str = ""
    """The same for groups whose members are chosen (PWMERGE_SGR); with a leading `:`, for system groups too."""


@dataclass(frozen=True, slots=True)
class MergedAccounts:
    files: dict[str, bytes]
    """The changed files, by path."""
    locked: tuple[str, ...]
    """Accounts to lock in shadow, which is not in `files` because it holds hashes."""
    conflicts: tuple[str, ...]
    people: tuple[str, ...]
    """The names of the server's users that were merged."""


@dataclass(frozen=True, slots=True)
class _Person:
    name: bytes
    uid: int
    gid: int
    fields: tuple[bytes, ...]

    @property
    def line(self) -> bytes:
        return b":".join((self.name, b"x", *self.fields[2:]))


def merge_accounts(server: AccountFiles, image: AccountFiles, choice: PeopleChoice | None = None) -> MergedAccounts:
    """The image's files with the server's users merged.

    Raises ConfError for an invalid expression in the choice.
    """
    conflicts: list[str] = []
    people = _find_compatible(_choose_people(server, choice or PeopleChoice()), image, conflicts)
    names = frozenset(person.name for person in people)
    groups = _choose_groups(server, image, people, conflicts)
    files = {
        "etc/passwd": _merge_passwd(image, people),
        "etc/group": _merge_group(image.group, groups, _find_memberships(server, names), names),
    }
    locked: tuple[str, ...] = ()
    if image.shadow is not None:
        missing = [person.name for person in people if person.name not in accounts.list_names(image.shadow)]
        if accounts.holds_hashes(image.shadow):
            locked = tuple(name.decode("ascii") for name in missing)
        else:
            files["etc/shadow"] = accounts.append_lines(image.shadow, [name + b":!:::::::" for name in missing])
    if image.gshadow is not None and not accounts.holds_hashes(image.gshadow):
        files["etc/gshadow"] = _merge_gshadow(image.gshadow, files["etc/group"])
    before = {
        "etc/passwd": image.passwd,
        "etc/group": image.group,
        "etc/shadow": image.shadow,
        "etc/gshadow": image.gshadow,
    }
    return MergedAccounts(
        {path: text for path, text in files.items() if text != before[path]},
        locked,
        tuple(conflicts),
        tuple(person.name.decode("ascii") for person in people),
    )


def list_people(files: AccountFiles) -> frozenset[str]:
    """The names of all user accounts, without system accounts."""
    return frozenset(person.name.decode("ascii") for person in _parse_people(files))


def list_accounts(passwd: bytes) -> frozenset[str]:
    """The names of all accounts."""
    return frozenset(
        fields[0].decode("ascii") for fields in accounts.parse_entries(passwd) if NAME.fullmatch(fields[0])
    )


def _parse_people(files: AccountFiles) -> Iterator[_Person]:
    for fields in accounts.parse_entries(files.passwd):
        uid, gid = accounts.parse_number(fields, 2), accounts.parse_number(fields, 3)
        if len(fields) == 7 and uid is not None and gid is not None and NAME.fullmatch(fields[0]):
            person = _Person(fields[0], uid, gid, tuple(fields))
            if files.limits.is_person(uid) and not any(byte < 32 for byte in person.line):
                yield person


def _choose_people(server: AccountFiles, choice: PeopleChoice) -> list[_Person]:
    everyone = list(_parse_people(server))
    if not choice.users and not choice.groups:
        return everyone
    users = _compile_expression(choice.users, "PWMERGE_SUR")
    taken = {person.name for person in everyone if users and users.fullmatch(person.name.decode("ascii"))}
    if choice.groups:
        of_system = choice.groups.startswith(":")
        groups = _compile_expression(choice.groups.removeprefix(":"), "PWMERGE_SGR")
        for group in accounts.parse_groups(server.group):
            is_meant = groups is not None and groups.fullmatch(group.name.decode("utf-8", "surrogateescape"))
            if is_meant and (of_system or server.limits.is_of_people(group.gid)):
                taken.update(group.members)
                taken.update(person.name for person in everyone if person.gid == group.gid)
    return [person for person in everyone if person.name in taken]


def _compile_expression(text: str, key: str) -> re.Pattern[str] | None:
    """Raises ConfError."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ConfError(f"{key}: {text!a} is not a valid regular expression: {error}") from None


def _find_compatible(people: Iterable[_Person], image: AccountFiles, conflicts: list[str]) -> list[_Person]:
    """The users whose name and UID no system account of the image has."""
    by_name: dict[bytes, int] = {}
    by_uid: dict[int, bytes] = {}
    numbered = [(fields[0], accounts.parse_number(fields, 2)) for fields in accounts.parse_entries(image.passwd)]
    known = [(name, uid) for name, uid in numbered if uid is not None]
    # Of several lines for one name, that of the system account counts.
    for name, uid in sorted(known, key=lambda account: image.limits.is_person(account[1])):
        by_name.setdefault(name, uid)
        by_uid.setdefault(uid, name)
    taken: dict[int, bytes] = {}
    kept: list[_Person] = []
    for person in people:
        shown = accounts.render(person.name)
        theirs = by_name.get(person.name)
        other = by_uid.get(person.uid, person.name)
        if theirs is not None and not image.limits.is_person(theirs):
            conflicts.append(f"{shown} is left out: the image has a system account of that name (UID {theirs})")
        elif other != person.name and not image.limits.is_person(person.uid):
            conflicts.append(
                f"{shown} is left out: the image's system account {accounts.render(other)} "
                f"has UID {person.uid}"
            )
        elif person.uid in taken:
            conflicts.append(f"{shown} is left out: {accounts.render(taken[person.uid])} has the same UID {person.uid}")
        else:
            if theirs not in (None, person.uid):
                conflicts.append(
                    f"{shown} gets the server's UID {person.uid} instead of the image's {theirs}: "
                    f"its files in the image keep owner {theirs}"
                )
            if other != person.name:
                conflicts.append(
                    f"the image's {accounts.render(other)} is replaced by {shown}: both have UID {person.uid}"
                )
            taken[person.uid] = person.name
            kept.append(person)
    return kept


def _merge_passwd(image: AccountFiles, people: list[_Person]) -> bytes:
    names = {person.name for person in people}
    uids = {person.uid for person in people}
    lines = [
        line
        for line in image.passwd.split(b"\n")
        if not (
            (fields := accounts.parse_entry(line)) and (fields[0] in names or accounts.parse_number(fields, 2) in uids)
        )
    ]
    return accounts.append_lines(b"\n".join(lines), [person.line for person in people])


def _choose_groups(
    server: AccountFiles, image: AccountFiles, people: list[_Person], conflicts: list[str]
) -> list[GroupEntry]:
    """The server's groups to add: user groups, and the primary groups of the merged users."""
    names = frozenset(person.name for person in people)
    primary = {person.gid for person in people}
    by_name = {group.name: group.gid for group in accounts.parse_groups(image.group)}
    by_gid = {group.gid: group.name for group in accounts.parse_groups(image.group)}
    kept: list[GroupEntry] = []
    for group in accounts.parse_groups(server.group):
        members = tuple(name for name in group.members if name in names)
        if group.gid not in primary and not (server.limits.is_of_people(group.gid) and members):
            continue
        name = accounts.render(group.name)
        theirs = by_name.get(group.name)
        other = by_gid.get(group.gid, group.name)
        if theirs == group.gid and not image.limits.is_of_people(group.gid):
            continue  # the same system group; its members are merged separately
        if theirs is not None and theirs != group.gid and not image.limits.is_of_people(theirs):
            conflicts.append(f"group {name} is left out: the image has a system group of that name (GID {theirs})")
        elif other != group.name and not image.limits.is_of_people(group.gid):
            conflicts.append(f"group {name} is left out: the image's system group {accounts.render(other)} "
                f"has GID {group.gid}")
        elif NAME.fullmatch(group.name):
            if other != group.name:
                theirs_shown = accounts.render(other)
                conflicts.append(f"the image's group {theirs_shown} is replaced by {name}: both have GID {group.gid}")
            kept.append(GroupEntry(group.name, group.gid, members))
    return kept


def _find_memberships(server: AccountFiles, names: frozenset[bytes]) -> dict[bytes, list[bytes]]:
    """The merged users' memberships in system groups of the server: audio, video, plugdev."""
    return {
        group.name: members
        for group in accounts.parse_groups(server.group)
        if not server.limits.is_of_people(group.gid) and (members := [name for name in group.members if name in names])
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
