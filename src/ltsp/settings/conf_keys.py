"""The known keys of ltsp.conf, who reads them, and a warning for each that has no effect in its section.

Keys that only clients or other applets of LTSP read are listed by name only, as in ltsp.conf(5) of LTSP 23.02 and its
successors; other modules define their meaning.
"""

from __future__ import annotations

from enum import Flag, auto
from fnmatch import fnmatchcase
from functools import cache, reduce
from operator import or_

from ltsp.host.identity import Identity
from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.closest_name import closest_name
from ltsp.settings.conf_sections import SPECIAL, find_included, included_names, matches
from ltsp.settings.conf_text import Assignment, Conf, ConfSection, Variable
from ltsp.settings.option import Reach, declared_options


class Side(Flag):
    """Who reads a key, or a section."""

    NOBODY = 0
    SERVER = auto()
    CLIENTS = auto()
    BOTH = SERVER | CLIENTS


SERVER_APPLETS = frozenset(APPLETS) | {"dnsmasq", "http", "initrd", "ipxe", "nfs", "service"}
CLIENT_APPLETS = frozenset({"initrd-bottom", "init", "login", "display", "service", "ltsp"})

_SERVER_KEYS = """
    NAT IPXE_* DNS PROXY_DHCP REAL_DHCP TFTP HTTP HTTP_IMAGE BINARIES NFS_HOME NFS_TFTP IN_PLACE
"""
_CLIENT_KEYS = """
    AUTOLOGIN RELOGIN GDM3_CONF LIGHTDM_CONF SDDM_CONF CRONTAB_* CUPS_SERVER FSTAB_* HOSTS_* IMAGE_TO_RAM JOURNAL_SIZE
    LOCAL_SWAP TIMEZONE
    MULTISEAT UDEV_SEAT_* DISABLE_SESSION_SERVICES DISABLE_SYSTEM_SERVICES KEEP_SESSION_SERVICES KEEP_SYSTEM_SERVICES
    MASK_SESSION_SERVICES MASK_SYSTEM_SERVICES PASSWORDS_* PWMERGE_SUR PWMERGE_SGR PWMERGE_DGR PWMERGE_DUR REMOTEAPPS
    SEARCH_DOMAIN X_DRIVER X_HORIZSYNC X_MODELINE X_MODES X_PREFERREDMODE X_VERTREFRESH X_VIRTUAL HOSTNAME_PREFIX
"""
_COMMON_KEYS = """
    INCLUDE SERVER HOSTNAME MAC_ADDRESS IP_ADDRESS DNS_SERVER DEBUG_LOG DEBUG_SHELL OMIT_FUNCTIONS
    DEFAULT_IMAGE KERNEL_PARAMETERS MENU_TIMEOUT IMAGE_TRANSPORT CLIENT_INITRD
"""


def _variable(applet: str) -> str:
    return applet.upper().replace("-", "_")


@cache
def known_keys() -> dict[str, Side]:
    """Keys and globs of keys."""
    keys = dict.fromkeys(_SERVER_KEYS.split(), Side.SERVER)
    keys |= dict.fromkeys(_CLIENT_KEYS.split(), Side.CLIENTS)
    for applets, side in ((SERVER_APPLETS, Side.SERVER), (CLIENT_APPLETS, Side.CLIENTS)):
        for applet in sorted(applets):
            for when in ("PRE", "POST"):
                key = f"{when}_{_variable(applet)}_*"
                keys[key] = keys.get(key, Side.NOBODY) | side
    for options, side in ((LtspOptions, Side.BOTH), *((each.options, Side.SERVER) for each in APPLETS.values())):
        keys |= {option.key: side for option in declared_options(options) if option.reach is Reach.EVERYWHERE}
    return keys | dict.fromkeys(_COMMON_KEYS.split(), Side.BOTH)


def side_of(key: str) -> Side:
    """Who reads a key; NOBODY if it is unknown."""
    keys = known_keys()
    if key in keys:
        return keys[key]
    found = (side for pattern, side in keys.items() if pattern.endswith("*") and fnmatchcase(key, pattern))
    return reduce(or_, found, Side.NOBODY)


def warnings(conf: Conf, identity: Identity) -> tuple[str, ...]:
    """A line for each unknown key, and for each that has no effect in its section."""
    sides = _sides(conf, identity)
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
        if isinstance(each, Assignment) and each.key not in used and (fault := _fault(each.key, section, side))
    )


def _fault(key: str, section: ConfSection, side: Side) -> str:
    readers = side_of(key)
    if not readers:
        return f"unknown key {key}{_suggestion(key)}"
    if not readers & side:
        who = "the server" if readers is Side.SERVER else "clients"
        return f"{key} has no effect in [{section.name}], which is not for {who}"
    return ""


def _suggestion(key: str) -> str:
    """The known key that was probably meant; for keys like FSTAB_x, with the given x."""
    names = [name for name in known_keys() if not name.endswith("*")]
    stems = [name[:-1] for name in known_keys() if name.endswith("*")]
    head, _, tail = key.upper().rpartition("_")
    if near := closest_name(key.upper(), names):
        return f"; did you mean {near}?"
    if tail and (near := closest_name(f"{head}_", stems)):
        return f"; did you mean {near}{tail}?"
    return ""


def _sides(conf: Conf, identity: Identity) -> list[Side]:
    """Who reads each section, by its name and by the sections that include it."""
    sides = [_own_side(section, identity) for section in conf.sections]
    numbers = {id(section): number for number, section in enumerate(conf.sections)}
    includers: dict[int, set[int]] = {}
    for number, section in enumerate(conf.sections):
        for name in included_names(section):
            for target in find_included(conf, name):
                includers.setdefault(numbers[id(target)], set()).add(number)
    for number in includers:
        if sides[number] is Side.CLIENTS and not _is_address(conf.sections[number]):
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


def _own_side(section: ConfSection, identity: Identity) -> Side:
    """Who reads a section by its name; any other name may be a client's."""
    match section.name:
        case "" | "common":
            return Side.BOTH
        case "server":
            return Side.SERVER
        case "clients":
            return Side.CLIENTS
    names = (*identity.macs, *identity.addresses, identity.hostname)
    if any(matches(section, name) for name in names):
        return Side.BOTH
    applets = [pattern.lower().partition("/")[0] for pattern in section.patterns if "/" in pattern]
    if any(fnmatchcase(applet, glob) for applet in SERVER_APPLETS for glob in applets):
        return Side.SERVER
    return Side.CLIENTS


def _is_address(section: ConfSection) -> bool:
    """Whether a section is certainly for machines, rather than a name for INCLUDE."""
    return section.name in SPECIAL or any(character in section.name for character in ":.*?/")
