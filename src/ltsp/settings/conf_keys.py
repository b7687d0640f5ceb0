"""The keys of ltsp.conf, declared once: who reads them, what they mean, and what ltsp.conf(5) says.

Options of applets are keys as well; they are declared with the applets. Keys without a reader are those of LTSP 23.02
and its successors that have no effect here; they are known, so that they are not reported as misspelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto
from fnmatch import fnmatchcase
from functools import cache, reduce
from operator import or_

from ltsp.settings.applets import APPLETS, LtspOptions
from ltsp.settings.option import Reach, declared_options


class Side(Flag):
    """Who reads a key, or a section."""

    NOBODY = 0
    SERVER = auto()
    CLIENTS = auto()
    BOTH = SERVER | CLIENTS


class Reader(Enum):
    """The applet that acts on keys which are not options."""

    NOBODY = ""
    IMAGE = "image"
    INITRD = "initrd"
    IPXE = "ipxe"


@dataclass(frozen=True, slots=True)
class ConfKeys:
    """A key, or several that mean the same for different things."""

    names: tuple[str, ...]
    """A `*` at the end stands for any name: `FSTAB_*`."""
    side: Side
    reader: Reader = Reader.NOBODY
    value: str = ""
    """How the manual shows the value: `LINE`."""
    meaning: str = ""
    """What the manual says; empty for keys without a reader."""
    default: str = ""
    """In words; empty if there is none."""
    shown: str = ""
    """The names in the manual, if they are not `names` with `x` for the asterisk."""

    @property
    def label(self) -> str:
        """As the manual shows them: `GDM3_CONF, SDDM_CONF=LINES`."""
        return f"{self.shown or ', '.join(self.names).replace('*', 'x')}={self.value}"


def _keys(
    names: str, side: Side, reader: Reader, value: str, meaning: str, default: str = "", shown: str = ""
) -> ConfKeys:
    """A declaration that gives the names in one string."""
    return ConfKeys(tuple(names.split()), side, reader, value, meaning, default, shown)


SERVER_APPLETS = frozenset(APPLETS) | {"service"}
CLIENT_APPLETS = frozenset({"initrd-bottom", "init", "login", "display", "service", "ltsp"})

CONF_KEYS = (
    # For builds
    _keys(
        "PRE_IMAGE_* POST_IMAGE_*",
        Side.SERVER,
        Reader.IMAGE,
        "COMMANDS",
        "Commands that a shell runs before and after `ltsp image`, in the order of the keys. In one that uses "
        "`LTSP_ROOT`, this is a writable view of the source, and changes there go only into the image. Exclusions and "
        "cleanup also apply to them. Single quotes keep `$LTSP_ROOT` for that shell.",
    ),
    # For the menu
    _keys(
        "DEFAULT_IMAGE",
        Side.BOTH,
        Reader.IPXE,
        "NAME",
        "The entry that boots if no other is chosen; `r_NAME` is a chroot.",
    ),
    _keys(
        "MENU_TIMEOUT",
        Side.BOTH,
        Reader.IPXE,
        "MILLISECONDS",
        "How long the menu waits for a key. 0 waits forever, and -1 shows no menu.",
        "5000",
    ),
    _keys("KERNEL_PARAMETERS", Side.BOTH, Reader.IPXE, "WORDS", "Additional kernel parameters."),
    _keys(
        "IMAGE_TRANSPORT",
        Side.BOTH,
        Reader.IPXE,
        "nfs|http|nbd|file|auto",
        "How clients access their root file system. `http` and `file` load the whole image into memory; auto is `http` "
        "if the menu was fetched over HTTP, else `nfs`.",
        "nfs",
    ),
    _keys(
        "CLIENT_INITRD",
        Side.BOTH,
        Reader.IPXE,
        "ltsp|distro",
        "Which initrd clients boot: only that of ltsp, or the distribution's followed by that of ltsp.",
        "ltsp",
    ),
    _keys(
        "IPXE_*",
        Side.SERVER,
        Reader.IPXE,
        "TITLE",
        "The title of the image NAME in the menu; `IPXE_R_NAME_IMG` is for the chroot. In [server] or [common]. Write "
        "the name in capitals, with underscores for all but letters and digits: `IPXE_DEBIAN_12_IMG`.",
        shown="IPXE_NAME_IMG",
    ),
    # For clients
    _keys(
        "HOSTNAME",
        Side.BOTH,
        Reader.INITRD,
        "NAME",
        "As in `pc%{IP}` or `pc-%{MAC}`.",
        "from DHCP, else `ltsp%{IP}`",
    ),
    _keys("SERVER", Side.BOTH, Reader.INITRD, "ADDRESS", "The address of the server.", "where the client boots from"),
    _keys("DNS_SERVER", Side.BOTH, Reader.INITRD, "ADDRESSES", "The DNS servers of clients.", "from DHCP"),
    _keys("SEARCH_DOMAIN", Side.CLIENTS, Reader.INITRD, "DOMAINS", "Domains to search for short names.", "from DHCP"),
    _keys("HOSTS_*", Side.CLIENTS, Reader.INITRD, "LINE", "A line for /etc/hosts."),
    _keys("FSTAB_*", Side.CLIENTS, Reader.INITRD, "LINE", "A line for /etc/fstab, with all six fields."),
    _keys(
        "CRONTAB_*",
        Side.CLIENTS,
        Reader.INITRD,
        "LINE",
        "A line for crontab(5): five time fields, a user and a command, as in `30 15 * * * root poweroff`.",
    ),
    _keys(
        "PASSWORDS_*",
        Side.CLIENTS,
        Reader.INITRD,
        "USER/PASSWORD...",
        "Passwords of accounts on clients: in base64, as a crypt(5) hash in single quotes, or nothing after the slash "
        "for no password. USER may be a regular expression, which matches people but not services. Everyone who can "
        "boot a client can read the hashes.",
    ),
    _keys(
        "AUTOLOGIN",
        Side.CLIENTS,
        Reader.INITRD,
        "USER",
        "The user to log in automatically, on consoles and by gdm, lightdm and sddm. `pc/guest` turns the hostname "
        "pc01 into guest01; a client without `pc` in its hostname asks for a login.",
    ),
    _keys(
        "RELOGIN",
        Side.CLIENTS,
        Reader.INITRD,
        "0|1",
        "Whether that user is logged in again after logging out.",
        "1",
    ),
    _keys(
        "GDM3_CONF LIGHTDM_CONF SDDM_CONF",
        Side.CLIENTS,
        Reader.INITRD,
        "LINES",
        "Additional lines for the configuration of the display manager.",
    ),
    _keys(
        "MASK_SYSTEM_SERVICES DISABLE_SYSTEM_SERVICES",
        Side.CLIENTS,
        Reader.INITRD,
        "UNITS",
        "Services that cannot be started on clients, or that do not start automatically. A name, such as `ssh` or "
        "`mysql`, includes the service's sockets, timers and templates. Services that are useless on diskless clients "
        "are masked by default, and so are popular servers: Apache, nginx, MySQL, MariaDB, PostgreSQL, Redis, Docker, "
        "libvirt, LXD, Samba, Squid, BIND, OpenLDAP, mail servers and others, as well as DHCP, TFTP and NFS. The "
        "server can run them, and its clients do not. `ltsp image --dry-run` lists those that an image has; ssh, cups "
        "and snapd run as in the image.",
    ),
    _keys(
        "KEEP_SYSTEM_SERVICES",
        Side.CLIENTS,
        Reader.INITRD,
        "UNITS",
        'Services that clients run anyway, as in `KEEP_SYSTEM_SERVICES="docker libvirtd"`.',
    ),
    _keys(
        "MASK_SESSION_SERVICES KEEP_SESSION_SERVICES",
        Side.CLIENTS,
        Reader.INITRD,
        "UNITS",
        "The same for units and autostart entries of user sessions.",
    ),
    _keys("JOURNAL_SIZE", Side.CLIENTS, Reader.INITRD, "SIZE", "The memory limit of the journal.", "16M"),
    _keys(
        "LOCAL_SWAP",
        Side.CLIENTS,
        Reader.INITRD,
        "0|1",
        "Whether to use swap partitions on the client's disks.",
        "1",
    ),
    _keys("TIMEZONE", Side.CLIENTS, Reader.INITRD, "ZONE", "As in `Europe/Athens`.", "that of the image"),
    _keys(
        "CUPS_SERVER",
        Side.CLIENTS,
        Reader.INITRD,
        "MACHINE",
        "The print server. With `localhost` the client prints itself; `ignore` keeps the image's settings.",
    ),
    _keys(
        "PRE_INIT_* POST_INIT_*",
        Side.CLIENTS,
        Reader.INITRD,
        "COMMANDS",
        "Commands that a shell runs on the client: before init starts, and early during the start of systemd.",
    ),
    _keys(
        "PWMERGE_SUR PWMERGE_SGR",
        Side.CLIENTS,
        Reader.INITRD,
        "EXPRESSION",
        "Which users of the server get accounts on clients: a regular expression for their names, and one for their "
        "groups. Only for all clients.",
        "all users",
    ),
    # Of every file
    ConfKeys(("INCLUDE",), Side.BOTH),
    # Of LTSP
    ConfKeys(("NAT", "HTTP_IMAGE", "IN_PLACE"), Side.SERVER),
    ConfKeys(
        ("MAC_ADDRESS", "IP_ADDRESS", "DEBUG_LOG", "DEBUG_SHELL", "OMIT_FUNCTIONS"),
        Side.BOTH,
    ),
    ConfKeys(
        (
            *("IMAGE_TO_RAM", "MULTISEAT", "UDEV_SEAT_*", "DISABLE_SESSION_SERVICES", "PWMERGE_DGR", "PWMERGE_DUR"),
            *("REMOTEAPPS", "X_DRIVER", "X_HORIZSYNC", "X_MODELINE", "X_MODES", "X_PREFERREDMODE", "X_VERTREFRESH"),
            *("X_VIRTUAL", "HOSTNAME_PREFIX"),
        ),
        Side.CLIENTS,
    ),
)
"""All but the options of applets, in the order of the manual."""


def keys_of(reader: Reader) -> tuple[str, ...]:
    """Keys, and globs of keys, that an applet acts on besides its options."""
    return tuple(name for keys in CONF_KEYS if keys.reader is reader for name in keys.names)


def reader_of(key: str) -> Reader:
    """The applet that acts on a key besides its options."""
    families = ((name[:-1], keys.reader) for keys in CONF_KEYS for name in keys.names if name.endswith("*"))
    exact = (keys.reader for keys in CONF_KEYS if key in keys.names)
    return next(exact, next((reader for stem, reader in families if key.startswith(stem)), Reader.NOBODY))


@cache
def known_keys() -> dict[str, Side]:
    """Keys and globs of keys, and who reads them."""
    known: dict[str, Side] = {}
    for applets, side in ((SERVER_APPLETS, Side.SERVER), (CLIENT_APPLETS, Side.CLIENTS)):
        for applet in sorted(applets):
            for when in ("PRE", "POST"):
                key = f"{when}_{applet.upper().replace('-', '_')}_*"
                known[key] = known.get(key, Side.NOBODY) | side
    for options, side in ((LtspOptions, Side.BOTH), *((each.options, Side.SERVER) for each in APPLETS.values())):
        known |= {option.key: side for option in declared_options(options) if option.reach is Reach.EVERYWHERE}
    return known | {name: keys.side for keys in CONF_KEYS for name in keys.names}


def find_side(key: str) -> Side:
    """Who reads a key; NOBODY if it is unknown."""
    keys = known_keys()
    if key in keys:
        return keys[key]
    found = (side for pattern, side in keys.items() if pattern.endswith("*") and fnmatchcase(key, pattern))
    return reduce(or_, found, Side.NOBODY)
