"""The options of the network applets: boot menu, add-on initrd, servers and boot test."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.settings.option import (
    AppletOptions,
    Argument,
    Choice,
    FilePath,
    Flag,
    HostAddress,
    Integer,
    Reach,
    Text,
    Words,
    help_switch,
    option,
    switch,
)


@dataclass(frozen=True, slots=True)
class IpxeOptions(AppletOptions):
    """ltsp-ipxe(8)"""

    binaries: str = option(
        Choice(("0", "1", "")),
        "copy iPXE and memtest from the distribution's packages, even if they exist",
        default="",
        default_text="copy missing ones",
        short="b",
        argument=Argument.OPTIONAL,
        details="--overwrite does not apply to them.",
    )
    http: bool = option(
        Flag(),
        "let iPXE fetch menus, kernels and initrds over HTTP",
        default=False,
        details="The server must serve them, as ltsp http does. If it does not answer, clients fall back to TFTP.",
    )
    http_port: int = option(Integer("PORT", minimum=1, maximum=65535), "port of the HTTP server", default=80)
    server: str = option(HostAddress(), "this server's address, if DHCP gives clients another one", default="")
    menu_shell: bool = option(Flag(), "offer the iPXE shell in the menu", default=True)
    menu_configuration: bool = option(Flag(), "offer the iPXE configuration in the menu", default=True)
    dry_run: bool = switch("write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class DnsmasqOptions(AppletOptions):
    """ltsp-dnsmasq(8)"""

    dns: bool = option(Flag(), "answer DNS requests too", default=False, short="d")
    proxy_dhcp: bool = option(
        Flag(),
        "boot clients that get their addresses from another DHCP server",
        default=True,
        short="p",
        details="In every network in which the server has an address when this is run.",
    )
    real_dhcp: bool = option(
        Flag(),
        "act as the DHCP server of the network 192.168.67.0/24",
        default=True,
        short="r",
        details="This has no effect on servers without an address in that network.",
    )
    dns_server: tuple[str, ...] = option(
        Words("ADDRESSES"),
        "DNS servers of clients that get their addresses from this server",
        default=(),
        default_text="this server with --dns=1, else the ones it uses",
        short="s",
        details="0.0.0.0 means this server.",
    )
    tftp: bool = option(Flag(), "serve the TFTP directory", default=True, short="t")
    dry_run: bool = switch("write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class NfsOptions(AppletOptions):
    """ltsp-nfs(8)"""

    nfs_home: bool = option(
        Flag(),
        "also export the home directories",
        default=False,
        short="h",
        details="NFS trusts clients about the identity of their users. The directory is that of --home-dir.",
    )
    nfs_tftp: bool = option(Flag(), "also export the kernels and initrds", default=True, short="t")
    export: str = option(
        Choice(("images", "base")),
        "which part of the base directory to export",
        default="images",
        reach=Reach.ONCE,
        details="base is all of it, which makes every chroot and disk there readable: clients that boot from a chroot "
        "need it, and so do menus of earlier releases.",
    )
    dry_run: bool = switch("write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = switch("print this help and exit", argument=Argument.NONE, reach=Reach.ONCE)


@dataclass(frozen=True, slots=True)
class DhcpSnippetOptions(AppletOptions):
    """ltsp-dhcp-snippet(8)"""

    server: str = option(
        Text("ADDRESS"),
        "this server's address in the clients' network",
        default="",
        default_text="that of its only interface",
    )
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class InitrdOptions(AppletOptions):
    """ltsp-initrd(8)"""

    dry_run: bool = switch("write nothing; list the layers and their contents", reach=Reach.ONCE)
    json: bool = switch("print the summary as JSON", reach=Reach.ONCE)
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class HttpOptions(AppletOptions):
    """ltsp-http(8)"""

    http_address: str = option(
        Text("ADDRESS"),
        "listen only on this address of the server",
        default="::",
        default_text="all",
    )
    http_port: int = option(
        Integer("PORT", minimum=1, maximum=65535), "listen on this port", default=80, short="p", default_text="80"
    )
    nginx: bool = switch("print an nginx configuration for the same files, and exit", reach=Reach.ONCE)
    service: bool = switch(
        "install and start a systemd service, which also starts at boot",
        reach=Reach.ONCE,
        details="This writes /etc/systemd/system/ltsp-http.service, with the options given here.",
    )
    dry_run: bool = switch("with --service: write nothing; show what would be written", reach=Reach.ONCE)
    help: bool = help_switch()


@dataclass(frozen=True, slots=True)
class BootTestOptions(AppletOptions):
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
        "how the client accesses its root file system",
        default="nfs",
        reach=Reach.ONCE,
        details="With `file`, iPXE loads the image together with the initrds.",
    )
    fetch: str = option(
        Choice(("tftp", "http")),
        "how iPXE fetches the menu, kernel and initrds",
        default="tftp",
        reach=Reach.ONCE,
    )
    firmware: str = option(
        Choice(("bios", "uefi")), "firmware of the virtual machine", default="bios", reach=Reach.ONCE
    )
    accel: str = option(
        Choice(("auto", "kvm", "tcg")),
        "accelerator of the virtual machine",
        default="auto",
        reach=Reach.ONCE,
        details="`auto` is kvm if a test of it succeeds within two seconds, else tcg, which emulates the processor.",
    )
    memory: int = option(
        Integer("MIB", minimum=128, maximum=1 << 20),
        "memory of the virtual machine, in MiB",
        default=1024,
        reach=Reach.ONCE,
    )
    timeout: int = option(
        Integer("SECONDS", minimum=1, maximum=86400),
        "seconds after which the test fails",
        default=300,
        reach=Reach.ONCE,
    )
    kernel_arguments: str = option(Text("WORDS"), "additional kernel parameters", default="", reach=Reach.ONCE)
    console: str | None = option(
        FilePath(), "write the output of the serial console to this file", default=None, reach=Reach.ONCE
    )
    screenshot: str | None = option(
        FilePath(), "write the final contents of the screen to this file, as PNG", default=None, reach=Reach.ONCE
    )
    json: bool = switch("print the verdict as JSON", reach=Reach.ONCE)
    help: bool = help_switch()
