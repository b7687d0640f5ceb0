"""`ltsp dnsmasq`: configure dnsmasq so that clients boot from this server."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ltsp.build.server_files import write_config
from ltsp.errors import UsageError
from ltsp.host import command, systemd
from ltsp.host.interfaces import list_interfaces
from ltsp.report.report import Report
from ltsp.services.dnsmasq import DnsmasqConfig
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import DnsmasqOptions

_CONFIG_PATH = "/etc/dnsmasq.d/ltsp-dnsmasq.conf"
_RESOLV_CONF_PATHS = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
"""The first has the servers that systemd-resolved asks; the second then has only itself. systemd-resolved(8)"""
_THIS_SERVER = "0.0.0.0"  # noqa: S104 -- dnsmasq replaces it by its own address; nothing binds to it


def dnsmasq(options: DnsmasqOptions, ltsp: LtspOptions, report: Report, path: str = _CONFIG_PATH) -> None:
    """Raises UsageError if a DNS server is not an address, and LtspError if dnsmasq cannot be set up."""
    config = DnsmasqConfig(
        list_interfaces(),
        ltsp.tftp_dir,
        dns=options.dns,
        proxy_dhcp=options.proxy_dhcp,
        real_dhcp=options.real_dhcp,
        dns_servers=_check_addresses(options.dns_server) or _find_own_nameservers(dns=options.dns),
        tftp=options.tftp,
    )
    if options.proxy_dhcp and not config.interfaces:
        report.warn("this server has no IPv4 network: run ltsp dnsmasq again when it is connected")
    changed = write_config(path, config.text(), report, overwrite=ltsp.overwrite, dry_run=options.dry_run)
    if not changed:
        return
    if command.find_program("dnsmasq") is None:
        report.warn("dnsmasq not found: install the package dnsmasq")
    elif systemd.is_running():
        systemd.restart("dnsmasq")
    else:
        report.warn("systemd is not running: restart dnsmasq by hand")


def parse_nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The name servers in a resolv.conf(5) that clients can use, too: no loopback, and only IPv4 (for DHCPv4)."""
    found: dict[str, None] = {}
    for line in resolv_conf.splitlines():
        match line.split():
            case ["nameserver", address, *_]:
                try:
                    parsed = ipaddress.IPv4Address(address)
                except ValueError:
                    continue
                if not parsed.is_loopback:
                    found[str(parsed)] = None
            case _:
                continue
    return tuple(found)


def _check_addresses(texts: Sequence[str]) -> tuple[str, ...]:
    faults: list[str] = []
    for text in texts:
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            faults.append(f"{text!a} is not an IPv4 address")
    if faults:
        raise UsageError(f"option --dns-server: {'; '.join(faults)}", 'write --dns-server="192.168.1.1 9.9.9.9"')
    return tuple(texts)


def _find_own_nameservers(*, dns: bool) -> tuple[str, ...]:
    if dns:
        return (_THIS_SERVER,)
    for path in _RESOLV_CONF_PATHS:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                servers = parse_nameservers(file.read())
        except OSError:
            continue
        if servers:
            return servers
    return ()
