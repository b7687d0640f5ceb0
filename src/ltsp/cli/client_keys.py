"""What ltsp.conf(5) says of the keys that are no options: those of the menu, and those of clients."""

from __future__ import annotations

from ltsp.cli.prose import Block, Item

MENU_KEYS: tuple[Block, ...] = (
    "In [server] or [clients] for all clients, or in the section of some. `ltsp ipxe` makes the menu of them.",
    Item("DEFAULT_IMAGE=NAME", "The entry that is booted when nobody chooses another one; `r_NAME` is a chroot."),
    Item(
        "MENU_TIMEOUT=MILLISECONDS",
        "How long the menu waits for a key. 0 waits for ever, and -1 shows no menu. Default: 5000.",
    ),
    Item("KERNEL_PARAMETERS=WORDS", "More words for the kernel's command line."),
    Item(
        "IMAGE_TRANSPORT=nfs|http|nbd|file|auto",
        "How clients get their root. `http` and `file` take the whole image into memory; auto is `http` where the menu "
        "came by HTTP, and `nfs` elsewhere. Default: nfs.",
    ),
    Item(
        "CLIENT_INITRD=ltsp|distro",
        "Whose initrd clients start from: ours alone, or the distribution's with ours behind it. Default: ltsp.",
    ),
    Item(
        "IPXE_NAME_IMG=TITLE",
        "What the menu calls the image NAME, or the chroot where it is `IPXE_R_NAME_IMG`; in [server] or [common]. The "
        "name is in capitals, with underscores for what is neither letter nor digit: `IPXE_DEBIAN_12_IMG`.",
    ),
)

CLIENT_KEYS: tuple[Block, ...] = (
    (
        "In [clients] for all clients, or in the section of some. `ltsp initrd` brings them to clients. An x is any "
        "name that tells keys of one kind apart. `%{IP}` in a value is the number of the client in its network, "
        "`%{MAC}` its MAC address without colons, `%{HOSTNAME}` its name."
    ),
    Item("HOSTNAME=NAME", "As in `pc%{IP}` or `pc-%{MAC}`. Default: what DHCP says, else `ltsp%{IP}`."),
    Item("SERVER=ADDRESS", "What clients take for their server. Default: where they boot from."),
    Item("DNS_SERVER=ADDRESSES", "Default: what DHCP says."),
    Item("SEARCH_DOMAIN=DOMAINS", "Where short names are looked up. Default: what DHCP says."),
    Item("HOSTS_x=LINE", "A line for /etc/hosts."),
    Item("FSTAB_x=LINE", "A line for /etc/fstab, with all six fields."),
    Item("CRONTAB_x=LINE", "Five times, a user and a command, as in `30 15 * * * root poweroff`."),
    Item(
        "PASSWORDS_x=USER/PASSWORD...",
        "Passwords of accounts on clients: in base64, as a crypt(5) hash in single quotes, or none after the slash. "
        "USER may be a regular expression, which means people and not services. Whoever can boot can read the hashes.",
    ),
    Item(
        "AUTOLOGIN=USER",
        "Who is logged in without being asked, on consoles and by gdm, lightdm and sddm. `pc/guest` makes guest01 of "
        "the hostname pc01, wherever the client has that from; one without `pc` in its name asks.",
    ),
    Item("RELOGIN=0|1", "Whether that one is logged in again after logging out. Default: 1."),
    Item("GDM3_CONF, LIGHTDM_CONF, SDDM_CONF=LINES", "More lines for the configuration of the display manager."),
    Item(
        "MASK_SYSTEM_SERVICES, DISABLE_SYSTEM_SERVICES=UNITS",
        "Services that cannot be started on clients, or are not started by themselves. A name, as in `ssh` or `mysql`, "
        "means all that starts the service, sockets, timers and templates too. What is of no use on a client without "
        "disks is masked already, and so are popular servers: Apache, nginx, MySQL, MariaDB, PostgreSQL, Redis, "
        "Docker, libvirt, LXD, Samba, Squid, BIND, OpenLDAP, mail servers and others, besides DHCP, TFTP and NFS. "
        "So a server may run them, and its clients do not. `ltsp image --dry-run` lists those that an image "
        "has; ssh, cups and snapd run as in the image.",
    ),
    Item(
        "KEEP_SYSTEM_SERVICES=UNITS",
        'Services that clients run all the same, as in `KEEP_SYSTEM_SERVICES="docker libvirtd"`.',
    ),
    Item(
        "MASK_SESSION_SERVICES, KEEP_SESSION_SERVICES=UNITS",
        "The same for units and autostart entries of the sessions of users.",
    ),
    Item("JOURNAL_SIZE=SIZE", "Memory for the journal. Default: 16M."),
    Item("LOCAL_SWAP=0|1", "Whether partitions for swap on the client's disks are used. Default: 1."),
    Item("TIMEZONE=ZONE", "As in `Europe/Athens`. Default: that of the image."),
    Item("CUPS_SERVER=MACHINE", "Who prints. With `localhost` the client does so itself; `ignore` changes nothing."),
    Item(
        "PRE_INIT_x, POST_INIT_x=COMMANDS",
        "What a shell runs on the client: before its init starts, and early while systemd starts it.",
    ),
    Item(
        "PWMERGE_SUR, PWMERGE_SGR=EXPRESSION",
        "Which of the server's people have their accounts on clients: by a regular expression for their names, and for "
        "groups that they are members of. For all clients only. Default: all of them.",
    ),
)
