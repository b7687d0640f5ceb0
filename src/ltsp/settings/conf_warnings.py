"""Warnings about lines of ltsp.conf without effect: unknown keys, keys in sections that their reader does not read, and
sections whose names resemble those of a role or an applet, but match a computer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase

from ltsp.host.identity import Identity
from ltsp.settings.conf import Conf
from ltsp.settings.conf_keys import CLIENT_APPLETS, SERVER_APPLETS, Side, find_side, known_keys
from ltsp.settings.conf_sections import ROLE_SECTIONS, find_included, included_names, matches_machine
from ltsp.settings.conf_text import Assignment, ConfSection, Variable
from ltsp.settings.naming import closest_name

_PLAIN_WORD = re.compile(r"[a-z-]+")
"""Names with digits, dots or wildcards are meant for computers: `[client01]`, `[server*]`."""
_ROLES = ROLE_SECTIONS - {""}
_APPLETS = CLIENT_APPLETS | SERVER_APPLETS


def conf_warnings(conf: Conf, identity: Identity) -> tuple[str, ...]:
    """A line for each key, and then for each section, that has no effect."""
    return (*key_warnings(conf, identity), *section_warnings(conf, identity))


def key_warnings(conf: Conf, identity: Identity) -> tuple[str, ...]:
    """A line for each unknown key, and for each that has no effect in its section."""
    sides = _find_section_sides(conf, identity)
    used = {
        part.name
        for section in conf.sections
        for each in section.statements
        if isinstance(each, Assignment)
        for part in each.parts
        if isinstance(part, Variable)
    }
    return tuple(
        f"{conf.where(each.line)}: {fault}"
        for section, side in zip(conf.sections, sides, strict=True)
        for each in section.statements
        if isinstance(each, Assignment) and each.key not in used and (fault := _key_fault(each.key, section, side))
    )


def _key_fault(key: str, section: ConfSection, side: Side) -> str:
    readers = find_side(key)
    if not readers:
        return f"unknown key {key}{_suggest_key(key)}"
    if not readers & side:
        reader, target = ("the server reads", "server") if readers is Side.SERVER else ("clients read", "clients")
        return f"{key} has no effect in [{section.name}]: only {reader} it; move it to [{target}]"
    return ""


def _suggest_key(key: str) -> str:
    """The known key that was probably meant; for keys like FSTAB_x, with the given x."""
    names = [name for name in known_keys() if not name.endswith("*")]
    stems = [name[:-1] for name in known_keys() if name.endswith("*")]
    head, _, tail = key.upper().rpartition("_")
    if near := closest_name(key.upper(), names):
        return f"; did you mean {near}?"
    if tail and (near := closest_name(f"{head}_", stems)):
        return f"; did you mean {near}{tail}?"
    return ""


def _find_section_sides(conf: Conf, identity: Identity) -> list[Side]:
    """Who reads each section, by its name and by the sections that include it."""
    sides = [_side_by_name(section, identity) for section in conf.sections]
    numbers = {id(section): number for number, section in enumerate(conf.sections)}
    includers: dict[int, set[int]] = {}
    for number, section in enumerate(conf.sections):
        for name in included_names(section):
            for target in find_included(conf, name):
                includers.setdefault(numbers[id(target)], set()).add(number)
    for number in includers:
        if sides[number] is Side.CLIENTS and not _is_machine_section(conf.sections[number]):
            sides[number] = Side.NOBODY
    changed = True
    while changed:
        changed = False
        for number, sources in includers.items():
            side = sides[number]
            for source in sources:
                side |= sides[source]
            changed |= side is not sides[number]
            sides[number] = side
    return sides


def _side_by_name(section: ConfSection, identity: Identity) -> Side:
    """Who reads a section by its name; any other name may be a client's."""
    match section.name:
        case "" | "common":
            return Side.BOTH
        case "server":
            return Side.SERVER
        case "clients":
            return Side.CLIENTS
    names = (*identity.macs, *identity.addresses, identity.hostname)
    if any(matches_machine(section, name) for name in names):
        return Side.BOTH
    applets = [pattern.lower().partition("/")[0] for pattern in section.patterns if "/" in pattern]
    if any(fnmatchcase(applet, glob) for applet in SERVER_APPLETS for glob in applets):
        return Side.SERVER
    return Side.CLIENTS


def _is_machine_section(section: ConfSection) -> bool:
    """Whether a section is certainly for machines, rather than a name for INCLUDE."""
    return section.name in ROLE_SECTIONS or any(character in section.name for character in ":.*?/")


def section_warnings(conf: Conf, identity: Identity) -> tuple[str, ...]:
    """A line for each section whose name is probably a mistake."""
    not_hosts = {name for section in conf.sections for name in included_names(section)} | {identity.hostname}
    return tuple(
        f"{conf.where(section.line)}: [{section.name}] {fault}"
        for section in conf.sections
        if section.name not in ROLE_SECTIONS
        for fault in _name_faults(section, not_hosts)
    )


def _name_faults(section: ConfSection, not_hosts: Collection[str]) -> Iterator[str]:
    for pattern in section.patterns:
        head, slash, tail = pattern.partition("/")
        word = head.lower()
        if not _PLAIN_WORD.fullmatch(word) or pattern in not_hosts or section.name in not_hosts:
            continue
        if slash and word not in _APPLETS:
            near = closest_name(word, _APPLETS)
            yield f"has no effect: no applet {head}" + (f"; did you mean [{near}/{tail}]?" if near else "")
        elif not slash and word in _ROLES and len(section.patterns) > 1:
            yield f"matches a computer named {head}: write [{word}] as a section of its own"
        elif not slash and (near := word if word in _ROLES else closest_name(word, _ROLES, 0.8)):
            yield f"matches a computer named {head}; did you mean [{near}]?"
