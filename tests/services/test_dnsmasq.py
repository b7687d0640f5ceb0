from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import ip_interface
from itertools import product

import pytest

from corpus import pxe_client
from ltsp.errors import LtspError
from ltsp.services.dnsmasq import Dnsmasq

ROOM = ip_interface("10.77.0.1/24")
OWN = ip_interface("192.168.67.1/24")


def lines(**wishes):
    return Dnsmasq(**{"addresses": (ROOM, OWN), "tftp_dir": "/srv/tftp", **wishes}).text().splitlines()


def test_a_router_keeps_its_network_and_our_own_gets_addresses():
    ranges = [line for line in lines() if line.startswith("dhcp-range")]
    assert ranges == [
        "dhcp-range=set:proxy-10.77.0.0,10.77.0.0,proxy,255.255.255.0",
        "dhcp-range=set:real,192.168.67.20,192.168.67.250,255.255.255.0,8h",
    ]


def test_without_real_dhcp_our_own_network_is_another_routers():
    ranges = [line for line in lines(real_dhcp=False) if line.startswith("dhcp-range")]
    assert [line.split(",")[1:3] for line in ranges] == [["10.77.0.0", "proxy"], ["192.168.67.0", "proxy"]]


def test_two_addresses_in_a_network_are_one_network():
    twice = lines(addresses=(ip_interface("10.77.0.7/24"), ROOM), real_dhcp=False)
    assert sum(line.startswith("dhcp-range") for line in twice) == 1
    assert any(line.endswith("ltsp.ipxe,,10.77.0.1") for line in twice)


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
def test_dnsmasq_takes_every_combination(tmp_path):
    for dns, proxy, real, tftp, servers in product([False, True], repeat=5):
        path = tmp_path / "conf"
        wishes = {"dns": dns, "proxy_dhcp": proxy, "real_dhcp": real, "tftp": tftp}
        path.write_text("\n".join(lines(**wishes, dns_servers=("0.0.0.0", "9.9.9.9") if servers else ())) + "\n")
        subprocess.run(["/usr/sbin/dnsmasq", "--test", "-C", path], check=True, capture_output=True)


def answers(tmp_path, address, **wishes):
    conf = tmp_path / "conf"
    conf.write_text("\n".join(lines(**wishes)) + "\n")
    words = ["unshare", "--net", sys.executable, pxe_client.__file__, address, conf, tmp_path]
    return json.loads(subprocess.run(words, check=True, capture_output=True, timeout=120).stdout)


FILES = {
    "bios": "ltsp/undionly.kpxe",
    "uefi": "ltsp/snponly.efi",
    "uefi by its other number": "ltsp/snponly.efi",
    "arm": "ltsp/snponly-arm64.efi",
    "ipxe on bios": "ltsp/ltsp.ipxe",
    "ipxe on uefi": "ltsp/ltsp.ipxe",
}


@pytest.mark.oracle
@pytest.mark.root
@pytest.mark.parametrize("address", ["10.77.0.1/24", "192.168.67.1/24"])
def test_firmware_is_given_its_ipxe_and_ipxe_the_menu(tmp_path, address):
    """With a router that gives addresses, and where dnsmasq gives them."""
    given = answers(tmp_path, address, dns_servers=("9.9.9.9",))
    assert {name: answer.get("file") for name, answer in given.items()} == FILES
    assert {answer["server"] for answer in given.values()} == {address.split("/", maxsplit=1)[0]}
    leased = [answer for answer in given.values() if answer["address"].startswith("192.168.67.")]
    assert len(leased) == (len(FILES) if address.startswith("192.168.67.") else 0)
    assert all(answer["dns"] == ["9.9.9.9"] for answer in leased)
