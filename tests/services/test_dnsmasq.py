from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_interface
from itertools import product

import pytest

from corpus import pxe_client
from ltsp.errors import LtspError
from ltsp.host.interfaces import Interface
from ltsp.services.dnsmasq import DnsmasqConfig

ROOM = Interface("card0", ip_interface("10.77.0.1/24"))
OWN = Interface("card1", ip_interface("192.168.67.1/24"))


def lines(*interfaces, **wishes):
    return DnsmasqConfig(interfaces or (ROOM, OWN), **{"tftp_dir": "/srv/tftp", **wishes}).text().splitlines()


def test_a_router_keeps_its_network_and_ltsps_gets_addresses():
    ranges = [line for line in lines() if line.startswith("dhcp-range")]
    assert ranges == [
        "dhcp-range=10.77.0.0,proxy,255.255.255.0",
        "dhcp-range=set:real,192.168.67.20,192.168.67.250,255.255.255.0,8h",
    ]


def test_without_real_dhcp_ltsps_network_gets_proxy_dhcp_too():
    ranges = [line for line in lines(real_dhcp=False) if line.startswith("dhcp-range")]
    assert ranges == [f"dhcp-range={network},proxy,255.255.255.0" for network in ("10.77.0.0", "192.168.67.0")]


def test_two_addresses_in_a_network_are_one_network():
    twice = lines(Interface("card0", ip_interface("10.77.0.7/24")), ROOM, real_dhcp=False)
    assert sum(line.startswith("dhcp-range") for line in twice) == 1
    assert any(line.endswith("ltsp.ipxe,,10.77.0.1") for line in twice)


def test_a_card_whose_name_would_break_out_is_refused():
    with pytest.raises(LtspError, match="network card"):
        lines(ROOM, Interface("a,eth0", ip_interface("10.78.0.1/24")))


def test_each_service_can_be_left_out():
    assert "port=0" in lines()
    assert "port=0" not in lines(dns=True)
    assert "enable-tftp" not in lines(tftp=False)
    assert not [line for line in lines(proxy_dhcp=False, real_dhcp=False) if line.startswith(("dhcp", "pxe"))]


def test_a_directory_that_would_break_out_is_refused():
    for path in ("/srv/tftp\nuser=root", "/srv/my tftp", "/srv/#", "/a,eth0", '/"', "relative"):
        with pytest.raises(LtspError, match="TFTP directory"):
            lines(tftp_dir=path)


@pytest.mark.oracle
def test_dnsmasq_accepts_every_combination(tmp_path):
    for dns, proxy, real, tftp, servers in product([False, True], repeat=5):
        path = tmp_path / "conf"
        wishes = {"dns": dns, "proxy_dhcp": proxy, "real_dhcp": real, "tftp": tftp}
        path.write_text("\n".join(lines(**wishes, dns_servers=("0.0.0.0", "9.9.9.9") if servers else ())) + "\n")
        subprocess.run(["/usr/sbin/dnsmasq", "--test", "-C", path], check=True, capture_output=True)


FILES = {
    "uefi": "ltsp/snponly.efi",
    "uefi by its other number": "ltsp/snponly.efi",
    "arm": "ltsp/snponly-arm64.efi",
    "ipxe on bios": "ltsp/ltsp.ipxe",
    "ipxe on uefi": "ltsp/ltsp.ipxe",
    "ipxe on uefi by its other number": "ltsp/ltsp.ipxe",
    "ipxe on arm": "ltsp/ltsp.ipxe",
    "bios": "ltsp/undionly.kpxe",
}
NO_FILE = {"uefi of 32 bits"}
"""For which there is no iPXE."""
PI = "raspberry"
"""It looks for words in the menu that it is offered, and asks nobody for a file's name."""
NOT_BY_PROXY = {"http", "http on arm"}
"""They are for servers of addresses alone to answer, and get no file of another kind of client's."""


def answers(tmp_path, *interfaces, seconds=20.0, **wishes):
    """What dnsmasq says at each of the cards, which have to be called as pxe_client calls them."""
    conf = tmp_path / "conf"
    conf.write_text("\n".join(lines(*interfaces, **wishes)) + "\n")
    addresses = [str(each.address) for each in interfaces]
    words = ["unshare", "--net", sys.executable, pxe_client.__file__, conf, tmp_path, str(seconds), *addresses]
    return json.loads(subprocess.run(words, check=True, capture_output=True, timeout=120).stdout)


def files(given):
    return {name: answer.get("file", "") for name, answer in given.items() if name != PI}


def all_are_led_here_by_proxy(given, server):
    assert files(given) == {**FILES, **dict.fromkeys(NO_FILE, "")}
    assert {answer["address"] for name, answer in given.items() if not answer["asked"]} == {"0.0.0.0"}
    assert {given[name]["server"] for name in FILES} == {server}
    assert "Raspberry Pi Boot" in given[PI]["menu"]


def all_get_addresses(given, server):
    assert files(given) == {**FILES, **dict.fromkeys([*NO_FILE, *NOT_BY_PROXY], "")}
    assert {answer["server"] for answer in given.values()} == {server}
    assert all(answer["address"].startswith("192.168.67.") for name, answer in given.items() if answer["file"])


@pytest.mark.oracle
@pytest.mark.root
@pytest.mark.parametrize("tftp", [False, True])
@pytest.mark.parametrize("dns", [False, True])
def test_every_kind_of_client_is_answered_in_every_configuration(tmp_path, dns, tftp):
    """With a router that gives addresses, and where dnsmasq gives them; again and again by the same server."""
    room, own = ROOM, Interface("card0", OWN.address)
    rest = {"dns": dns, "tftp": tftp, "dns_servers": ("9.9.9.9",)}
    for real_dhcp in (True, False):
        (given,) = answers(tmp_path, room, real_dhcp=real_dhcp, **rest)
        all_are_led_here_by_proxy(given, "10.77.0.1")
    (given,) = answers(tmp_path, own, real_dhcp=False, **rest)
    all_are_led_here_by_proxy(given, "192.168.67.1")
    for proxy_dhcp in (True, False):
        (given,) = answers(tmp_path, own, proxy_dhcp=proxy_dhcp, **rest)
        all_get_addresses(given, "192.168.67.1")
        assert {tuple(answer["dns"]) for answer in given.values() if answer["file"]} == {("9.9.9.9",)}
    assert answers(tmp_path, room, proxy_dhcp=False, seconds=1.0, **rest) == [{}]


@pytest.mark.oracle
@pytest.mark.root
def test_each_network_gets_the_servers_address_there(tmp_path):
    rooms = [Interface(f"card{number}", ip_interface(f"10.{77 + number}.0.1/24")) for number in range(3)]
    for given, room in zip(answers(tmp_path, *rooms), rooms, strict=True):
        all_are_led_here_by_proxy(given, str(room.address.ip))
    given = answers(tmp_path, ROOM, OWN)
    all_are_led_here_by_proxy(given[0], "10.77.0.1")
    all_get_addresses(given[1], "192.168.67.1")
