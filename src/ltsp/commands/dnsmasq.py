"""`ltsp dnsmasq`: have dnsmasq lead clients to this server."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from ltsp.build import config_file
from ltsp.errors import UsageError
from ltsp.host import command, systemd
from ltsp.host.interfaces import list_interfaces
from ltsp.report.report import Report
from ltsp.services.dnsmasq import DnsmasqConfig
from ltsp.settings.applets import LtspOptions
from ltsp.settings.network_options import DnsmasqOptions

_PATH = "/etc/dnsmasq.d/ltsp-dnsmasq.conf"
_RESOLVERS = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")
"""The first one has what systemd-resolved asks; the other one then names itself alone. systemd-resolved(8)"""
_THIS_SERVER = "0.0.0.0"  # noqa: S104 -- dnsmasq puts its own address in its place, and nothing is bound to it


def dnsmasq(options: DnsmasqOptions, ltsp: LtspOptions, report: Report, path: str = _PATH) -> None:
    """Raises UsageError for a DNS server that is no address, and LtspError where dnsmasq cannot be set up."""
    wanted = DnsmasqConfig(
        list_interfaces(),
        ltsp.tftp_dir,
        dns=options.dns,
        proxy_dhcp=options.proxy_dhcp,
        real_dhcp=options.real_dhcp,
        dns_servers=_check_addresses(options.dns_server) or _find_own_nameservers(dns=options.dns),
        tftp=options.tftp,
    )
    if options.proxy_dhcp and not wanted.interfaces:
        report.warn("this server has no IPv4 network now: run ltsp dnsmasq again when it is connected")
    changed = config_file.write(path, wanted.text(), report, overwrite=ltsp.overwrite, dry_run=options.dry_run)
    if not changed:
        return
    if command.find("dnsmasq") is None:
        report.warn("dnsmasq is not there: install the package dnsmasq")
    elif systemd.is_running():
        systemd.restart("dnsmasq")
    else:
        report.warn("systemd does not run here: start dnsmasq anew by hand")


def parse_nameservers(resolv_conf: str) -> tuple[str, ...]:
    """The addresses in a resolv.conf(5) that clients can ask, too: none of the loopback, and IPv4 alone for DHCPv4."""
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
            faults.append(f"{text!a} is no IPv4 address")
    if faults:
        raise UsageError(f"option --dns-server: {'; '.join(faults)}", 'write --dns-server="192.168.1.1 9.9.9.9"')
    return tuple(texts)


def _find_own_nameservers(*, dns: bool) -> tuple[str, ...]:
    if dns:
        return (_THIS_SERVER,)
    for path in _RESOLVERS:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                servers = parse_nameservers(file.read())
        except OSError:
            continue
        if servers:
            return servers
    return ()
