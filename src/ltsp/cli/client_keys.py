"""The text of ltsp.conf(5) on keys that are not options: those of the menu and those of clients."""

from __future__ import annotations

from ltsp.cli.prose import Block, Item

MENU_KEYS: tuple[Block, ...] = (
    "In [server] or [clients] for all clients, or in a section for some of them. `ltsp ipxe` puts them in the menu.",
    Item("DEFAULT_IMAGE=NAME", "The entry that boots if no other is chosen; `r_NAME` is a chroot."),
    Item(
        "MENU_TIMEOUT=MILLISECONDS",
        "How long the menu waits for a key. 0 waits forever, and -1 shows no menu. Default: 5000.",
    ),
    Item("KERNEL_PARAMETERS=WORDS", "Additional kernel parameters."),
    Item(
        "IMAGE_TRANSPORT=nfs|http|nbd|file|auto",
        "How clients access their root file system. `http` and `file` load the whole image into memory; auto is `http` "
        "if the menu was fetched over HTTP, else `nfs`. Default: nfs.",
    ),
    Item(
        "CLIENT_INITRD=ltsp|distro",
        "Which initrd clients boot: only that of ltsp, or the distribution's followed by that of ltsp. Default: ltsp.",
    ),
    Item(
        "IPXE_NAME_IMG=TITLE",
        "The title of the image NAME in the menu; `IPXE_R_NAME_IMG` is for the chroot. In [server] or [common]. Write "
        "the name in capitals, with underscores for all but letters and digits: `IPXE_DEBIAN_12_IMG`.",
    ),
)

CLIENT_KEYS: tuple[Block, ...] = (
    (
        "In [clients] for all clients, or in a section for some of them. `ltsp initrd` passes them to clients. Replace "
        "x by any name, to distinguish several keys of one kind. In values, `%{IP}` is the host number in the "
        "client's IP address, `%{MAC}` its MAC address without colons, `%{HOSTNAME}` its hostname."
    ),
    Item("HOSTNAME=NAME", "As in `pc%{IP}` or `pc-%{MAC}`. Default: from DHCP, else `ltsp%{IP}`."),
    Item("SERVER=ADDRESS", "The address of the server. Default: where the client boots from."),
    Item("DNS_SERVER=ADDRESSES", "The DNS servers of clients. Default: from DHCP."),
    Item("SEARCH_DOMAIN=DOMAINS", "Domains to search for short names. Default: from DHCP."),
    Item("HOSTS_x=LINE", "A line for /etc/hosts."),
    Item("FSTAB_x=LINE", "A line for /etc/fstab, with all six fields."),
    Item(
        "CRONTAB_x=LINE",
        "A line for crontab(5): five time fields, a user and a command, as in `30 15 * * * root poweroff`.",
    ),
    Item(
        "PASSWORDS_x=USER/PASSWORD...",
        "Passwords of accounts on clients: in base64, as a crypt(5) hash in single quotes, or nothing after the slash "
        "for no password. USER may be a regular expression, which matches people but not services. Everyone who can "
        "boot a client can read the hashes.",
    ),
    Item(
        "AUTOLOGIN=USER",
        "The user to log in automatically, on consoles and by gdm, lightdm and sddm. `pc/guest` turns the hostname "
        "pc01 into guest01; a client without `pc` in its hostname asks for a login.",
    ),
    Item("RELOGIN=0|1", "Whether that user is logged in again after logging out. Default: 1."),
    Item("GDM3_CONF, LIGHTDM_CONF, SDDM_CONF=LINES", "Additional lines for the configuration of the display manager."),
    Item(
        "MASK_SYSTEM_SERVICES, DISABLE_SYSTEM_SERVICES=UNITS",
        "Services that cannot be started on clients, or that do not start automatically. A name, such as `ssh` or "
        "`mysql`, includes the service's sockets, timers and templates. Services that are useless on diskless clients "
        "are masked by default, and so are popular servers: Apache, nginx, MySQL, MariaDB, PostgreSQL, Redis, "
        "Docker, libvirt, LXD, Samba, Squid, BIND, OpenLDAP, mail servers and others, as well as DHCP, TFTP and NFS. "
        "The server can run them, and its clients do not. `ltsp image --dry-run` lists those that an image "
        "has; ssh, cups and snapd run as in the image.",
    ),
    Item(
        "KEEP_SYSTEM_SERVICES=UNITS",
        'Services that clients run anyway, as in `KEEP_SYSTEM_SERVICES="docker libvirtd"`.',
    ),
    Item(
        "MASK_SESSION_SERVICES, KEEP_SESSION_SERVICES=UNITS",
        "The same for units and autostart entries of user sessions.",
    ),
    Item("JOURNAL_SIZE=SIZE", "The memory limit of the journal. Default: 16M."),
    Item("LOCAL_SWAP=0|1", "Whether to use swap partitions on the client's disks. Default: 1."),
    Item("TIMEZONE=ZONE", "As in `Europe/Athens`. Default: that of the image."),
    Item(
        "CUPS_SERVER=MACHINE",
        "The print server. With `localhost` the client prints itself; `ignore` keeps the image's settings.",
    ),
    Item(
        "PRE_INIT_x, POST_INIT_x=COMMANDS",
        "Commands that a shell runs on the client: before init starts, and early during the start of systemd.",
    ),
    Item(
        "PWMERGE_SUR, PWMERGE_SGR=EXPRESSION",
        "Which users of the server get accounts on clients: a regular expression for their names, and one for their "
        "groups. Only for all clients. Default: all users.",
    ),
)
