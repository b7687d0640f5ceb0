from __future__ import annotations

import json
import subprocess
from ipaddress import ip_address

import pytest

from ltsp.services.dnsmasq import PXE_FIRMWARES
from ltsp.services.snippet import SNIPPETS

SERVER = ip_address("192.168.1.10")


def text(kind):
    return "\n".join(SNIPPETS[kind](SERVER)) + "\n"


@pytest.mark.parametrize("kind", SNIPPETS)
def test_each_names_the_server_and_the_first_file_of_bios_and_uefi(kind):
    assert str(SERVER) in text(kind)
    assert "ltsp/undionly.kpxe" in text(kind)
    assert "ltsp/snponly.efi" in text(kind)


@pytest.mark.parametrize("kind", ["dnsmasq", "isc", "kea", "windows", "mikrotik"])
def test_if_ipxe_can_be_distinguished_it_gets_the_menu(kind):
    assert "ltsp/ltsp.ipxe" in text(kind)
    assert all(f"ltsp/{firmware.file}" in text(kind) for firmware in PXE_FIRMWARES)


@pytest.mark.parametrize("kind", ["pfsense", "unifi"])
def test_if_it_cannot_proxy_dhcp_is_recommended(kind):
    assert "ltsp dnsmasq --proxy-dhcp=1" in text(kind)


def test_keas_is_json_after_its_comment():
    comment, _, body = text("kea").partition("\n")
    assert comment.startswith("//")
    classes = json.loads(body)["Dhcp4"]["client-classes"]
    assert len({each["name"] for each in classes}) == len(PXE_FIRMWARES) + 1
    assert all(each["next-server"] == str(SERVER) for each in classes)


def test_braces_of_iscs_are_balanced():
    assert text("isc").count("{") == text("isc").count("}") == len(PXE_FIRMWARES) + 1


@pytest.mark.oracle
def test_dnsmasq_accepts_its_own(tmp_path):
    path = tmp_path / "conf"
    path.write_text(text("dnsmasq"))
    subprocess.run(["/usr/sbin/dnsmasq", "--test", "-C", path], check=True, capture_output=True)
