"""The server's people in the account files of an image: names, numbers and groups, never a hash.

What the image has of its own stays: accounts of its packages, and people of its own unless one of the server's has the
name or the number. passwd(5), group(5), shadow(5), gshadow(5)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ltsp.errors import ConfError
from ltsp.transform.accounts import Limits

_LOCKED = re.compile(rb"(?:x|\*|!|!!|!\*|\*LK\*|\*NP\*)?")
"""What may stand in field 2 of shadow and gshadow without being anybody's password."""
_NAME = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9_.@-]*\$?")


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """The text of each file; None where there is none."""

    passwd: bytes
    group: bytes
    shadow: bytes | None = None
    gshadow: bytes | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of the server's people clients know; without either, all of them."""

    users: str = ""
    """A regular expression for whole names of accounts (PWMERGE_SUR)."""
    groups: str = ""
    """Likewise of groups, whose members are meant (PWMERGE_SGR); with `:` before it, of groups of the system, too."""


@dataclass(frozen=True, slots=True)
class Merged:
    files: dict[str, bytes]
    """By path, those that are not as before."""
    locked: tuple[str, ...]
    """Accounts to lock in a shadow that is not in `files`, because it holds hashes."""
    conflicts: tuple[str, ...]
    people: tuple[str, ...]
    """The names of the server's that are in."""


@dataclass(frozen=True, slots=True)
class _Person:
    name: bytes
    uid: int
    gid: int
    fields: tuple[bytes, ...]

    @property
    def line(self) -> bytes:
        return b":".join((self.name, b"x", *self.fields[2:]))


@dataclass(frozen=True, slots=True)
class _Group:
    name: bytes
    gid: int
    members: tuple[bytes, ...]


def merge(server: AccountFiles, image: AccountFiles, choice: Choice | None = None) -> Merged:
    """The image's files with the server's people in them.

    Raises ConfError where an expression of the choice is none.
    """
    conflicts: list[str] = []
    people = _compatible(_chosen(server, choice or Choice()), image, conflicts)
    names = frozenset(person.name for person in people)
    groups = _groups(server, image, people, conflicts)
    files = {
        "etc/passwd": _with_people(image, people),
        "etc/group": _with_groups(image.group, groups, _memberships(server, names), names),
    }
    locked: tuple[str, ...] = ()
    if image.shadow is not None:
        missing = [person.name for person in people if person.name not in _names(image.shadow)]
        if _holds_hashes(image.shadow):
            locked = tuple(name.decode("ascii") for name in missing)
        else:
            files["etc/shadow"] = _appended(image.shadow, [name + b":!:::::::" for name in missing])
    if image.gshadow is not None and not _holds_hashes(image.gshadow):
        files["etc/gshadow"] = _gshadow(image.gshadow, files["etc/group"])
    before = {
        "etc/passwd": image.passwd,
        "etc/group": image.group,
        "etc/shadow": image.shadow,
        "etc/gshadow": image.gshadow,
    }
    return Merged(
        {path: text for path, text in files.items() if text != before[path]},
        locked,
        tuple(conflicts),
        tuple(person.name.decode("ascii") for person in people),
    )


def people_names(files: AccountFiles) -> frozenset[str]:
    """The names of all accounts that are people's."""
    return frozenset(person.name.decode("ascii") for person in _people(files))


def account_names(passwd: bytes) -> frozenset[str]:
    """The names of all accounts."""
    return frozenset(fields[0].decode("ascii") for fields in _entries(passwd) if _NAME.fullmatch(fields[0]))


def _people(files: AccountFiles) -> Iterator[_Person]:
    for fields in _entries(files.passwd):
        uid, gid = _number(fields, 2), _number(fields, 3)
        if len(fields) == 7 and uid is not None and gid is not None and _NAME.fullmatch(fields[0]):
            person = _Person(fields[0], uid, gid, tuple(fields))
            if files.limits.is_person(uid) and not any(byte < 32 for byte in person.line):
                yield person


def _chosen(server: AccountFiles, choice: Choice) -> list[_Person]:
    everyone = list(_people(server))
    if not choice.users and not choice.groups:
        return everyone
    users = _expression(choice.users, "PWMERGE_SUR")
    taken = {person.name for person in everyone if users and users.fullmatch(person.name.decode("ascii"))}
    if choice.groups:
        of_system = choice.groups.startswith(":")
        groups = _expression(choice.groups.removeprefix(":"), "PWMERGE_SGR")
        for group in _parsed_groups(server.group):
            is_meant = groups is not None and groups.fullmatch(group.name.decode("utf-8", "surrogateescape"))
            if is_meant and (of_system or server.limits.is_of_people(group.gid)):
                taken.update(group.members)
                taken.update(person.name for person in everyone if person.gid == group.gid)
    return [person for person in everyone if person.name in taken]


def _expression(text: str, key: str) -> re.Pattern[str] | None:
    """Raises ConfError."""
    try:
        return re.compile(text) if text else None
    except re.error as error:
        raise ConfError(f"{key}: {text!a} is no regular expression: {error}") from None


def _compatible(people: Iterable[_Person], image: AccountFiles, conflicts: list[str]) -> list[_Person]:
    """Those whose name and number no account of the image's system has."""
    by_name: dict[bytes, int] = {}
    by_uid: dict[int, bytes] = {}
    for fields in _entries(image.passwd):
        if (uid := _number(fields, 2)) is not None:
            by_name.setdefault(fields[0], uid)
            by_uid.setdefault(uid, fields[0])
    taken: dict[int, bytes] = {}
    kept: list[_Person] = []
    for person in people:
        name = _shown(person.name)
        theirs = by_name.get(person.name)
        other = by_uid.get(person.uid, person.name)
        if theirs is not None and not image.limits.is_person(theirs):
            conflicts.append(f"{name} is left out: the image's own {name} has the number {theirs}")
        elif other != person.name and not image.limits.is_person(person.uid):
            conflicts.append(f"{name} is left out: the image's {_shown(other)} has its number {person.uid}")
        elif person.uid in taken:
            conflicts.append(f"{name} is left out: {_shown(taken[person.uid])} has its number {person.uid}, too")
        else:
            if theirs not in (None, person.uid):
                conflicts.append(f"{name} has the number {person.uid}; in the image it was {theirs}")
            if other != person.name:
                conflicts.append(f"the image's {_shown(other)} gives way to {name}, both have the number {person.uid}")
            taken[person.uid] = person.name
            kept.append(person)
    return kept


def _with_people(image: AccountFiles, people: list[_Person]) -> bytes:
    names = {person.name for person in people}
    uids = {person.uid for person in people}
    lines = [
        line
        for line in image.passwd.split(b"\n")
        if not ((fields := _entry(line)) and (fields[0] in names or _number(fields, 2) in uids))
    ]
    return _appended(b"\n".join(lines), [person.line for person in people])


def _groups(server: AccountFiles, image: AccountFiles, people: list[_Person], conflicts: list[str]) -> list[_Group]:
    """The server's groups that the image gets: those of people, and the own groups of those who are in."""
    names = frozenset(person.name for person in people)
    primary = {person.gid for person in people}
    by_name = {group.name: group.gid for group in _parsed_groups(image.group)}
    by_gid = {group.gid: group.name for group in _parsed_groups(image.group)}
    kept: list[_Group] = []
    for group in _parsed_groups(server.group):
        members = tuple(name for name in group.members if name in names)
        if group.gid not in primary and not (server.limits.is_of_people(group.gid) and members):
            continue
        name = _shown(group.name)
        theirs = by_name.get(group.name)
        other = by_gid.get(group.gid, group.name)
        if theirs == group.gid and not image.limits.is_of_people(group.gid):
            continue  # the same group of the system; memberships are another matter
        if theirs is not None and theirs != group.gid and not image.limits.is_of_people(theirs):
            conflicts.append(f"group {name} is left out: the image's own {name} has the number {theirs}")
        elif other != group.name and not image.limits.is_of_people(group.gid):
            conflicts.append(f"group {name} is left out: the image's {_shown(other)} has its number {group.gid}")
        elif _NAME.fullmatch(group.name):
            if other != group.name:
                conflicts.append(
                    f"the image's group {_shown(other)} gives way to {name}, both have the number {group.gid}"
                )
            kept.append(_Group(group.name, group.gid, members))
    return kept


def _memberships(server: AccountFiles, names: frozenset[bytes]) -> dict[bytes, list[bytes]]:
    """Who of those that are in belongs to which group of the server's system: audio, video, plugdev."""
    return {
        group.name: members
        for group in _parsed_groups(server.group)
        if not server.limits.is_of_people(group.gid) and (members := [name for name in group.members if name in names])
    }


def _with_groups(
    text: bytes, groups: list[_Group], memberships: dict[bytes, list[bytes]], names: frozenset[bytes]
) -> bytes:
    new_names = {group.name for group in groups}
    gids = {group.gid for group in groups}
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        fields = _entry(line)
        if fields is None or len(fields) < 4:
            lines.append(line)
            continue
        if fields[0] in new_names or _number(fields, 2) in gids:
            continue
        members = [name for name in fields[3].split(b",") if name and name not in names]
        members += memberships.get(fields[0], [])
        lines.append(b":".join((*fields[:3], b",".join(members), *fields[4:])))
    added = [b"%b:x:%d:%b" % (group.name, group.gid, b",".join(group.members)) for group in groups]
    return _appended(b"\n".join(lines), added)


def _gshadow(text: bytes, group: bytes) -> bytes:
    """A line for each group, with the members that it has; administrators of groups stay."""
    members = {each.name: b",".join(each.members) for each in _parsed_groups(group)}
    lines: list[bytes] = []
    for line in text.split(b"\n"):
        fields = _entry(line)
        if fields is None or len(fields) < 4:
            lines.append(line)
        elif fields[0] in members:
            lines.append(b":".join((*fields[:3], members[fields[0]])))
    known = _names(text)
    return _appended(b"\n".join(lines), [b"%b:!::%b" % pair for pair in members.items() if pair[0] not in known])


def _parsed_groups(text: bytes) -> Iterator[_Group]:
    for fields in _entries(text):
        gid = _number(fields, 2)
        if gid is not None and len(fields) >= 4:
            yield _Group(fields[0], gid, tuple(name.strip() for name in fields[3].split(b",") if name.strip()))


def _holds_hashes(text: bytes) -> bool:
    return any(len(fields) > 1 and not _LOCKED.fullmatch(fields[1]) for fields in _entries(text))


def _names(text: bytes) -> frozenset[bytes]:
    return frozenset(fields[0] for fields in _entries(text))


def _appended(text: bytes, lines: list[bytes]) -> bytes:
    """New lines come before those of NIS (`+`), which have to be the last ones. nsswitch.conf(5), compat"""
    if not lines:
        return text
    own = text.split(b"\n")
    if not own[-1]:
        own.pop()
    at = next((number for number, line in enumerate(own) if line.startswith((b"+", b"-"))), len(own))
    return b"".join(line + b"\n" for line in (*own[:at], *lines, *own[at:]))


def _entries(text: bytes) -> Iterator[list[bytes]]:
    for line in text.split(b"\n"):
        if (fields := _entry(line)) is not None:
            yield fields


def _entry(line: bytes) -> list[bytes] | None:
    """The fields of an account; None where the line is none."""
    return None if not line.strip() or line.lstrip()[:1] in (b"#", b"+", b"-") else line.split(b":")


def _number(fields: list[bytes], index: int) -> int | None:
    text = fields[index].strip() if index < len(fields) else b""
    return int(text) if text.isdigit() and len(text) < 20 else None


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
