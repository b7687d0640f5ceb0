"""The identifiers of this machine that sections of ltsp.conf use: MAC addresses, IP addresses and hostname."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

_LOOPBACK_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything in lower case, as the kernel writes it."""

    macs: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    hostname: str = ""


def read_identity(system: str = "/") -> Identity:
    """The identity of this machine; `system` is the directory with its /sys and /proc."""
    networks = os.path.join(system, "sys/class/net")
    interfaces = sorted(os.listdir(networks)) if os.path.isdir(networks) else []
    macs = {_read_text(os.path.join(networks, name, "address")).strip().lower(): None for name in interfaces}
    return Identity(
        tuple(mac for mac in macs if mac and mac != _LOOPBACK_MAC),
        parse_ipv4_addresses(_read_text(os.path.join(system, "proc/net/fib_trie")))
        + parse_ipv6_addresses(_read_text(os.path.join(system, "proc/net/if_inet6"))),
        os.uname().nodename.lower(),
    )


def parse_ipv4_addresses(fib_trie: str) -> tuple[str, ...]:
    """The machine's own addresses in /proc/net/fib_trie: those that are followed by `/32 host LOCAL`."""
    addresses: dict[str, None] = {}
    address = ""
    for line in fib_trie.splitlines():
        if "|-- " in line:
            address = line.partition("|-- ")[2].strip()
        elif line.strip() == "/32 host LOCAL" and not ipaddress.IPv4Address(address).is_loopback:
            addresses[address] = None
    return tuple(addresses)


def parse_ipv6_addresses(if_inet6: str) -> tuple[str, ...]:
    """The addresses in /proc/net/if_inet6, in their short form."""
    found = [ipaddress.IPv6Address(int(line.split()[0], 16)) for line in if_inet6.splitlines() if line.strip()]
    return tuple(dict.fromkeys(str(address) for address in found if not address.is_loopback))


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:  # an interface may vanish, and a container may lack either file
        return ""
