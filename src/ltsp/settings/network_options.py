"""The options of the applets that clients boot by: menu, add-on, servers and the trial of a boot."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.settings.option import (
    Argument,
    Choice,
    FilePath,
    Flag,
    HostAddress,
    Integer,
    Reach,
    Text,
    Words,
    option,
    switch,
)


@dataclass(frozen=True, slots=True)
class IpxeOptions:
    """ltsp-ipxe(8)"""

    binaries: str = option(
        Choice(("0", "1", "")),
        "copy iPXE and memtest of the distribution's packages, even where they lie already",
        default="",
        default_text="copy those that are missing",
        short="b",
        argument=Argument.OPTIONAL,
        details="--overwrite has no effect on them.",
    )
    http: bool = option(
        Flag(),
        "let iPXE fetch menus, kernels and initrds by HTTP",
        default=False,
        details="The server must serve them: ltsp http does. Where it does not answer, clients go on by TFTP.",
    )
    http_port: int = option(Integer("PORT", least=1, most=65535), "where the server serves by HTTP", default=80)
    server: str = option(HostAddress(), "this server's address, where clients learn a wrong one from DHCP", default="")
    menu_shell: bool = option(Flag(), "offer iPXE's shell in the menu", default=True)
    menu_configuration: bool = option(Flag(), "offer iPXE's configuration in the menu", default=True)
    dry_run: bool = switch("write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class DnsmasqOptions:
    """ltsp-dnsmasq(8)"""

    dns: bool = option(Flag(), "answer DNS requests too", default=False, short="d")
    proxy_dhcp: bool = option(
        Flag(),
        "lead clients here that get their addresses from another DHCP server",
        default=True,
        short="p",
        details="In every network that the server has an address in when this is run.",
    )
    real_dhcp: bool = option(
        Flag(),
        "give addresses to clients of the network 192.168.67.0/24",
        default=True,
        short="r",
        details="It has no effect on servers without an address of that network.",
    )
    dns_server: tuple[str, ...] = option(
        Words("ADDRESSES"),
        "DNS servers of clients that get their address here",
        default=(),
        default_text="this server with --dns=1, else those that it asks itself",
        short="s",
        details="0.0.0.0 is this server.",
    )
    tftp: bool = option(Flag(), "serve the TFTP directory", default=True, short="t")
    dry_run: bool = switch("write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class NfsOptions:
    """ltsp-nfs(8)"""

    nfs_home: bool = option(
        Flag(),
        "export the homes too",
        default=False,
        short="h",
        details="NFS believes what clients say who their users are. The directory is that of --home-dir.",
    )
    nfs_tftp: bool = option(Flag(), "export the kernels and initrds too", default=True, short="t")
    export: str = option(
        Choice(("images", "base")),
        "what of the base directory to export",
        default="images",
        reach=Reach.ONCE,
        details="base is all of it, and makes every chroot and disk there readable: clients that boot from a chroot "
        "need it, and so do menus from before this release.",
    )
    dry_run: bool = switch("write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class DhcpSnippetOptions:
    """ltsp-dhcp-snippet(8)"""

    server: str = option(
        Text("ADDRESS"),
        "this server's address in the clients' network",
        default="",
        default_text="that of its interface, where there is but one",
    )
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class InitrdOptions:
    """ltsp-initrd(8)"""

    dry_run: bool = switch("write nothing; list the layers and what is in them", reach=Reach.ONCE)
    json: bool = switch("print the summary as JSON", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """ltsp-http(8)"""

    http_address: str = option(
        Text("ADDRESS"),
        "listen on this address of the server alone",
        default="::",
        default_text="all",
    )
    http_port: int = option(
        Integer("PORT", least=1, most=65535), "listen on this port", default=80, short="p", default_text="80"
    )
    nginx: bool = switch("print the configuration of nginx for the same files, and exit", reach=Reach.ONCE)
    service: bool = switch(
        "make it a service of systemd, which runs from now on and from each start of the server",
        reach=Reach.ONCE,
        details="Written is /etc/systemd/system/ltsp-http.service, with the options that are given here.",
    )
    dry_run: bool = switch("with --service: write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class BootTestOptions:
    """ltsp-boottest(8)"""

    version: str | None = option(
        Text("VERSION"),
        "boot this version, without the menu",
        default=None,
        default_text="the current one, through the menu",
        reach=Reach.ONCE,
    )
    transport: str = option(
        Choice(("nfs", "http", "nbd", "file")),
        "how the client gets its root",
        default="nfs",
        reach=Reach.ONCE,
        details="`file` is an image that iPXE loads together with the initrds.",
    )
    fetch: str = option(
        Choice(("tftp", "http")),
        "how iPXE gets menu, kernel and initrds",
        default="tftp",
        reach=Reach.ONCE,
    )
    firmware: str = option(
        Choice(("bios", "uefi")), "firmware of the virtual machine", default="bios", reach=Reach.ONCE
    )
    accel: str = option(
        Choice(("auto", "kvm", "tcg")),
        "what runs the guest",
        default="auto",
        reach=Reach.ONCE,
        details="`auto` is kvm where a trial of it succeeds within two seconds, else tcg, which emulates.",
    )
    memory: int = option(
        Integer("MIB", least=128, most=1 << 20), "memory of the virtual machine, in MiB", default=1024, reach=Reach.ONCE
    )
    timeout: int = option(
        Integer("SECONDS", least=1, most=86400), "seconds until the test has failed", default=300, reach=Reach.ONCE
    )
    kernel_arguments: str = option(
        Text("WORDS"), "more words for the kernel's command line", default="", reach=Reach.ONCE
    )
    console: str | None = option(
        FilePath(), "write all that the serial console says into this file", default=None, reach=Reach.ONCE
    )
    screenshot: str | None = option(
        FilePath(), "write what the screen shows at the end into this file, as PNG", default=None, reach=Reach.ONCE
    )
    json: bool = switch("print the verdict as JSON", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", short="h", argument=Argument.NONE, reach=Reach.ONCE)
