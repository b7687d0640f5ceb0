"""The networks of this machine, as listed by iproute2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Interface

from ltsp.host import command


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    address: IPv4Interface
    """With the prefix length of its network."""


def list_interfaces() -> tuple[Interface, ...]:
    """Interfaces with a reachable IPv4 address; PXE, TFTP and NFSv3 mounts of clients use no other.

    Raises LtspError if iproute2 is missing or failed.
    """
    return parse_interfaces(command.run(["ip", "-j", "-4", "address", "show"], package="iproute2").stdout)


def parse_interfaces(output: bytes) -> tuple[Interface, ...]:
    """The interfaces in the output of `ip -j -4 address show`; a network of one address has no clients."""
    return tuple(
        Interface(str(link["ifname"]), IPv4Interface(f"{address['local']}/{address['prefixlen']}"))
        for link in json.loads(output or b"[]")
        for address in link.get("addr_info", ())
        if address.get("scope") == "global" and address["prefixlen"] < 31
    )
