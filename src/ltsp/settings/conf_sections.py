"""Which machines, applets and INCLUDE lines a section of ltsp.conf is for, by its name. ltsp.conf(5)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from ltsp.settings.conf import Conf
from ltsp.settings.conf_text import Assignment, ConfSection

ROLE_SECTIONS = frozenset({"", "common", "server", "clients"})
"""Sections that are roles; a machine of such a name does not match them."""


def matches_machine(section: ConfSection, name: str, applet: str = "") -> bool:
    """Whether a section is for a machine, or for an applet on that machine; case-insensitive."""
    if section.name in ROLE_SECTIONS:
        return False
    for pattern in section.patterns:
        head, slash, tail = pattern.lower().partition("/")
        if bool(slash) != bool(applet):
            continue
        if not applet and name and fnmatchcase(name.lower(), head):
            return True
        if applet and fnmatchcase(applet, head) and (fnmatchcase(name.lower(), tail) if name else not tail):
            return True
    return False


def find_included(conf: Conf, name: str) -> tuple[ConfSection, ...]:
    """The sections that INCLUDE=NAME refers to: those with that name, or with it in a list divided by `|`."""
    return tuple(section for section in conf.sections if section.name and name in (section.name, *section.patterns))


def included_names(section: ConfSection) -> Iterator[str]:
    """The names that a section includes, if they are plain text."""
    for each in section.statements:
        if isinstance(each, Assignment) and each.key == "INCLUDE":
            for part in each.parts:
                if isinstance(part, str):
                    yield from part.split()


_WILDCARDS = frozenset("*?[")
_MAC_PAIR = re.compile(r"[0-9a-f]{2}")
_MAC_GLOB = re.compile(r"[0-9a-f:*?\[\]!-]+")
_SEPARATED_MAC = re.compile(r"(?:01[-:])?([0-9a-f]{1,2}(?:[-:.][0-9a-f]{1,2}){5})")
"""Also with a hardware type in front, as in PXELINUX's BOOTIF."""
_DOTTED_MAC = re.compile(r"([0-9a-f]{4})\.([0-9a-f]{4})\.([0-9a-f]{4})")
"""Cisco's notation."""
_BARE_MAC = re.compile(r"[0-9a-f]{12}")
_ADDRESS = re.compile(r"[0-9.*?\[\]!-]+")
_HOSTNAME = re.compile(r"[0-9a-z.*?\[\]!_-]+")


def find_pattern_fault(pattern: str) -> str:
    """Why no client can match a pattern (in lower case), with the right form; empty if one can."""
    if right := _normalized_mac(pattern):
        return "" if right == pattern else f"write the MAC address as [{right}]"
    if ":" in pattern:
        return "" if _is_mac_glob(pattern) else "a MAC address has six pairs, as in [52:54:00:12:34:56] or [52:54:00:*]"
    if _ADDRESS.fullmatch(pattern) and "." in pattern:
        return _find_address_fault(pattern)
    if not _HOSTNAME.fullmatch(pattern):
        return "a hostname consists of letters, digits and hyphens"
    return ""


def _normalized_mac(pattern: str) -> str:
    """The MAC address in a text without wildcards, in any usual notation; empty if it is not one."""
    match = _SEPARATED_MAC.fullmatch(pattern)
    if match and not ("." in pattern and all(map(str.isdecimal, re.split(r"[-:.]", pattern)))):
        return ":".join(pair.zfill(2) for pair in re.split(r"[-:.]", match[1]))
    digits = "".join(dotted.groups()) if (dotted := _DOTTED_MAC.fullmatch(pattern)) else pattern
    if _BARE_MAC.fullmatch(digits) and (dotted or not digits.isdecimal()):
        return ":".join(digits[at : at + 2] for at in range(0, 12, 2))
    return ""


def _is_mac_glob(pattern: str) -> bool:
    """Whether an address of six pairs can match."""
    groups = pattern.split(":")
    if not _MAC_GLOB.fullmatch(pattern) or not _WILDCARDS & set(pattern) or len(groups) > 6:
        return False
    wild = [bool(_WILDCARDS & set(group)) for group in groups]
    if not all(is_wild or _MAC_PAIR.fullmatch(group) for group, is_wild in zip(groups, wild, strict=True)):
        return False
    return len(groups) == 6 or "*" in pattern


def _find_address_fault(pattern: str) -> str:
    groups = pattern.split(".")
    if len(groups) > 4 or (len(groups) < 4 and "*" not in pattern):
        return "an IPv4 address has four numbers, as in [192.168.67.20] or [192.168.67.*]"
    for group in groups:
        if group.isdecimal() and int(group) > 255:
            return f"{group} is too large for an IPv4 address"
        if not group:
            return "an IPv4 address has four numbers, as in [192.168.67.20] or [192.168.67.*]"
    return ""
