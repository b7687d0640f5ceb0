from __future__ import annotations

from ipaddress import ip_network

import pytest

from ltsp.errors import LtspError
from ltsp.services.nfs import NfsExports

ROOMS = (ip_network("192.168.67.0/24"), ip_network("10.0.0.0/8"))


def exported(**wishes):
    text = NfsExports(**{"networks": ROOMS, "base_dir": "/srv/ltsp", **wishes}).text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_images_are_exported_to_the_servers_networks_read_only_and_to_root():
    options = "(ro,no_root_squash,no_subtree_check,insecure)"
    assert exported() == [f"/srv/ltsp/images 10.0.0.0/8{options} 192.168.67.0/24{options}"]


def test_kernels_and_homes_are_exported_on_request():
    _, tftp, home = exported(tftp_dir="/srv/tftp", home_dir="/home")
    assert tftp.startswith("/srv/tftp/ltsp ")
    assert "ro," in tftp
    assert home.startswith("/home ")
    assert "rw,root_squash" in home


def test_the_base_directory_is_exported_instead_of_the_images():
    assert [line.split()[0] for line in exported(export_base=True)] == ["/srv/ltsp"]


def test_without_a_network_nothing_is_exported_to_everybody():
    with pytest.raises(LtspError, match="no IPv4 network"):
        exported(networks=())


@pytest.mark.parametrize("path", ["/srv/my ltsp", "/srv/a\n/ *(rw)", "/srv/#", "/srv/\\040", '/"', "/srv/ä"])
def test_a_path_that_would_break_out_is_refused(path):
    with pytest.raises(LtspError):
        exported(base_dir=path)
