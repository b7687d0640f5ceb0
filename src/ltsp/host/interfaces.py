"""The networks that this machine is in, as iproute2 lists them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Interface

from ltsp.host import command


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    address: IPv4Interface
    """With the length of its network's prefix."""


def list_interfaces() -> tuple[Interface, ...]:
    """Those with an IPv4 address that others may reach; PXE, TFTP and NFSv3 mounts of clients know no other.

    Raises LtspError where iproute2 is missing or failed.
    """
    return parse_interfaces(command.run(["ip", "-j", "-4", "address", "show"], package="iproute2").stdout)


def parse_interfaces(output: bytes) -> tuple[Interface, ...]:
    """The interfaces in what `ip -j -4 address show` prints; a network of one address has no clients."""
    return tuple(
        Interface(str(link["ifname"]), IPv4Interface(f"{address['local']}/{address['prefixlen']}"))
        for link in json.loads(output or b"[]")
        for address in link.get("addr_info", ())
        if address.get("scope") == "global" and address["prefixlen"] < 31
    )
