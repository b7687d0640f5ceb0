"""Checking values of ltsp.conf for files that other programs parse: values with a special meaning there are refused.

Each function returns the text to write, and raises ValueError with a reason that follows the name of the key.
"""

from __future__ import annotations

import ipaddress
import re
import string

TEMPLATE_NAMES = frozenset({"IP", "MAC", "HOSTNAME", "SERVER"})
"""Names that a client expands in `%{NAME}`."""

_TEMPLATE = re.compile(r"%\{([^}]*)\}?")
_FIELD = re.compile(r"[^\s#]\S*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOSTNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_DOMAIN = re.compile(rf"{_HOSTNAME.pattern}(?:\.{_HOSTNAME.pattern})*\.?")
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,253}")
"""Wider than a hostname: names in hosts(5) may have underscores."""
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,254}")
_UNIT_SUFFIXES = (
    ".service",
    ".socket",
    ".timer",
    ".path",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".slice",
    ".device",
)
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_SIZE = re.compile(r"[1-9][0-9]*[KMG]?")
_SCHEDULE = re.compile(r"@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)|[0-9A-Za-z*/,~-]+")


def check_one_line(value: str) -> str:
    """A line of text without control characters, in UTF-8."""
    if "\n" in value:
        raise ValueError("has more than one line")
    for character in value:
        if 0xDC80 <= ord(character) <= 0xDCFF:
            raise ValueError("is not valid UTF-8")
        if not character.isprintable() and character != "\t":
            raise ValueError(f"contains the character {character!a}")
    return value


def check_template(value: str) -> str:
    """A line with templates that the client expands."""
    check_one_line(value)
    for match in _TEMPLATE.finditer(value):
        if not match[0].endswith("}") or match[1] not in TEMPLATE_NAMES:
            known = ", ".join(f"%{{{name}}}" for name in sorted(TEMPLATE_NAMES))
            raise ValueError(f"contains {match[0]}; clients expand only {known}")
    return value


def parse_flag(value: str) -> bool:
    if value not in {"0", "1"}:
        raise ValueError("is neither 0 nor 1")
    return value == "1"


def check_hostname(value: str) -> str:
    """A hostname of one label, possibly with numbers that the client expands."""
    if not _HOSTNAME.fullmatch(_fill_templates(value, {"IP", "MAC"})):
        raise ValueError("is not a hostname: use at most 63 letters, digits and hyphens, and %{IP} or %{MAC}")
    return value


def check_machine(value: str) -> str:
    if not is_address(value) and not _DOMAIN.fullmatch(value):
        raise ValueError("is neither an address nor a hostname")
    return value


def check_machine_or_server(value: str) -> str:
    """Like `check_machine`, or the client's server."""
    return value if value == "%{SERVER}" else check_machine(value)


def is_address(value: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, without an interface."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return "%" not in value


def check_addresses(value: str) -> str:
    """Addresses, separated by single spaces."""
    words = value.split()
    for word in words:
        if not is_address(word):
            raise ValueError(f"{word!a} is not an address")
    return " ".join(words)


def check_domains(value: str) -> str:
    """resolv.conf(5), search"""
    words = value.split()
    for word in words:
        if not _DOMAIN.fullmatch(word):
            raise ValueError(f"{word!a} is not a domain")
    return " ".join(words)


def check_hosts_line(value: str) -> str:
    """hosts(5)"""
    line = check_template(value).strip()
    first, *names = line.partition("#")[0].split() or [""]
    if line and not line.startswith("#"):
        if first != "%{SERVER}" and not is_address(first):
            raise ValueError("is not an address with names, such as 192.168.67.10 nfs-server")
        if not names or not all(_ALIAS.fullmatch(_fill_templates(name, TEMPLATE_NAMES)) for name in names):
            raise ValueError("has no hostnames after the address")
    return line


def check_fstab_line(value: str) -> str:
    """fstab(5)"""
    line = check_template(value).strip()
    if line and not line.startswith("#"):
        fields = line.split()
        if not 3 <= len(fields) <= 6 or not all(map(_FIELD.fullmatch, fields)):
            raise ValueError("is not an fstab line: device, mount point, type, options, 0, 0")
        if not all(field.isdecimal() for field in fields[4:]):
            raise ValueError("must have only numbers after the options; write \\040 for a space")
        if fields[1] != "none" and not fields[1].startswith("/") and fields[2] != "swap":
            raise ValueError(f"mounts at {fields[1]!a}, which is not an absolute path")
    return line


def check_crontab_line(value: str) -> str:
    """crontab(5) of the system, with the user before the command."""
    line = check_template(value).strip()
    if line and not line.startswith("#"):
        times = 1 if line.startswith("@") else 5
        fields = line.split(None, times + 1)
        if len(fields) < times + 2 or not all(map(_SCHEDULE.fullmatch, fields[:times])):
            raise ValueError(
                "is not a crontab line: five time fields, a user and a command, such as 30 15 * * * root poweroff"
            )
        if not _USER.fullmatch(fields[times]):
            raise ValueError(f"has {fields[times]!a} as its user, which is not an account name")
    return line


def parse_units(value: str) -> tuple[str, ...]:
    """Names of units; one without a suffix is a service. systemd.unit(5)"""
    return tuple(word if word.endswith(_UNIT_SUFFIXES) else f"{word}.service" for word in parse_unit_words(value))


def parse_unit_words(value: str) -> tuple[str, ...]:
    words = value.split()
    for word in words:
        if not _UNIT.fullmatch(word):
            raise ValueError(f"{word!a} is not a unit name")
    return tuple(words)


def has_unit_suffix(unit: str) -> bool:
    return unit.endswith(_UNIT_SUFFIXES)


def check_user(value: str) -> str:
    """The name of an account, possibly with numbers that the client expands."""
    if value and not _USER.fullmatch(_fill_templates(value, {"IP", "MAC"})):
        raise ValueError("is not an account name")
    return value


def check_time_zone(value: str) -> str:
    """The name of a file below /usr/share/zoneinfo. tzfile(5)"""
    if not _ZONE.fullmatch(value):
        raise ValueError("is not a time zone such as Europe/Athens")
    return value


def check_size(value: str) -> str:
    """journald.conf(5)"""
    if not _SIZE.fullmatch(value):
        raise ValueError("is not a size such as 16M")
    return value


def check_ini_lines(value: str) -> str:
    """Lines for a file of sections and keys; their meaning is not checked."""
    lines = value.strip().split("\n")
    for line in lines:
        check_template(line)
    if value.startswith("/"):
        raise ValueError("is a path; write the lines themselves here")
    return "".join(line.strip() + "\n" for line in lines if line.strip())


def check_script(value: str) -> str:
    """Any commands for a shell, without control characters; bytes that are not UTF-8 are kept."""
    for character in value:
        if (
            character not in string.whitespace
            and not character.isprintable()
            and not 0xDC80 <= ord(character) <= 0xDCFF
        ):
            raise ValueError(f"contains the character {character!a}")
    return value.rstrip("\n") + "\n"


def _fill_templates(value: str, names: frozenset[str] | set[str]) -> str:
    """The value with a digit in place of each template, to check the rest."""
    return _TEMPLATE.sub(lambda match: "0" if match[0].endswith("}") and match[1] in names else match[0], value)
