"""`ltsp dhcp-snippet KIND`: settings for an existing DHCP server."""

from __future__ import annotations

import ipaddress

from ltsp.errors import LtspError, UsageError
from ltsp.host.interfaces import list_interfaces
from ltsp.report.report import Report
from ltsp.services.snippet import SNIPPETS
from ltsp.settings.network_options import DhcpSnippetOptions


def dhcp_snippet(kind: str, options: DhcpSnippetOptions, report: Report) -> None:
    """Raises UsageError for an unknown kind, and LtspError if --server is needed."""
    if kind not in SNIPPETS:
        raise UsageError(f"unknown kind of DHCP server: {kind!a}", f"choose one of {', '.join(SNIPPETS)}")
    server = _find_server_address(options.server)
    for line in "\n".join(SNIPPETS[kind](server)).splitlines():
        report.say(line)


def _find_server_address(text: str) -> ipaddress.IPv4Address:
    if text:
        try:
            return ipaddress.IPv4Address(text)
        except ValueError:
            raise UsageError(
                f"option --server: {text!a} is not an IPv4 address", "for example --server=192.168.1.10"
            ) from None
    addresses = [each.address.ip for each in list_interfaces()]
    if len(addresses) != 1:
        known = f"it has {', '.join(map(str, addresses))}" if addresses else "it has none"
        raise LtspError(
            f"cannot tell which address of this server clients use: {known}", "give it with --server=ADDRESS"
        )
    return addresses[0]
