"""Our dnsmasq configuration beside the DHCP server of a router: firmware and the real iPXE find the menu."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ipaddress import ip_interface

import pytest

from corpus import proxied_room
from corpus.diskless import one_at_a_time
from ltsp.boot.menu import Menu, MenuEntry, MenuOptions
from ltsp.host.interfaces import Interface
from ltsp.services.dnsmasq import DnsmasqConfig

SECONDS = 180
"""Three times what UEFI took on two busy processors without KVM."""
CARD = ("-device", "virtio-net-pci,netdev=net,mac=52:54:00:12:34:56")
BIOS = ("-m", "256", *CARD)
"""Its card carries iPXE."""
UEFI = ("-m", "512", "-bios", "/usr/share/ovmf/OVMF.fd", "-device", "virtio-net-pci,netdev=net,romfile=")
"""Its firmware has PXE of its own, and loads iPXE."""


@pytest.mark.boot
@pytest.mark.oracle
@pytest.mark.root
@pytest.mark.parametrize(
    "machine", [pytest.param(BIOS, id="bios"), pytest.param(UEFI, id="uefi", marks=pytest.mark.slow)]
)
def test_a_pc_with_the_routers_address_boots_from_the_server(tmp_path, machine):
    tftp = tmp_path / "tftp"
    (tftp / "ltsp/lab").mkdir(parents=True)
    for name in ("undionly.kpxe", "snponly.efi"):
        shutil.copy(f"/usr/lib/ipxe/{name}", tftp / "ltsp" / name)
    (tftp / "ltsp/ltsp.ipxe").write_text(
        Menu("/srv/ltsp", (MenuEntry("lab", "Lab"),), options=MenuOptions(timeout=-1)).text()
    )
    (tftp / "ltsp/lab/boot.ipxe").write_text("#!ipxe\necho ENTRY ip=${netX/ip} root=${ltsp-root} END\n")
    conf = tmp_path / "conf"
    card = Interface("eth0", ip_interface(f"{proxied_room.SERVER}/24"))
    conf.write_text(DnsmasqConfig((card,), str(tftp)).text())
    words = ["unshare", "--net", sys.executable, proxied_room.__file__, str(conf), str(tmp_path), str(SECONDS), "END"]
    words += [
        "-accel",
        "tcg",
        "-nographic",
        "-monitor",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
        "-boot",
        "n",
        *machine,
    ]
    with one_at_a_time():
        shown = subprocess.run(words, check=True, capture_output=True, timeout=SECONDS + 60).stdout
    said = shown.decode("ascii", "replace")
    assert "ENTRY ip=10.77.0." in said, said[-2000:]
    assert f"root=nfs://{proxied_room.SERVER}/srv/ltsp/images!" in said
    log = (tmp_path / "server.log").read_text()
    assert (f"sent {os.fspath(tftp)}/ltsp/snponly.efi" in log) == (machine is UEFI)
