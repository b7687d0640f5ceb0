from __future__ import annotations

import json
from ipaddress import ip_interface

from ltsp.host.interfaces import Interface, parse_interfaces

LINKS = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8, "scope": "host"}]},
    {
        "ifname": "eth0",
        "addr_info": [
            {"local": "192.168.1.5", "prefixlen": 24, "scope": "global"},
            {"local": "10.0.0.1", "prefixlen": 32, "scope": "global"},
        ],
    },
    {"ifname": "eth1", "addr_info": []},
    {"ifname": "eth2"},
]


def test_addresses_that_clients_may_reach_are_listed():
    assert parse_interfaces(json.dumps(LINKS).encode()) == (Interface("eth0", ip_interface("192.168.1.5/24")),)


def test_a_machine_without_addresses_has_no_networks():
    assert parse_interfaces(b"") == parse_interfaces(b"[]") == ()
