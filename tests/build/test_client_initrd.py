"""The clients' initrd of a version: for which kernel it is made, and messages about its drivers."""

from __future__ import annotations

import pytest

from corpus.dict_tree import make_tree
from corpus.elf_files import module, program
from ltsp.boot.kernel import Kernel
from ltsp.build.client_initrd import ClientBootFiles, ClientInitrdRequest, make_client_initrd
from ltsp.errors import LtspError
from ltsp.initrd.program_file import BUSYBOX_APPLETS
from ltsp.tree.content import Bytes

M = "usr/lib/modules/6.1"
OTHER = "usr/lib/modules/6.0"
BUILTIN = ("overlay", "loop", "squashfs", "af_packet", "nfs", "nfsv3", "nfsv4", "nbd")
IMAGE = {
    "lib": "-> usr/lib",
    "usr/bin/busybox": program(applets=BUSYBOX_APPLETS),
    f"{M}/modules.dep": "weak-updates/r8125.ko:\n",
    f"{M}/modules.builtin": "".join(f"kernel/x/{name}.ko\n" for name in BUILTIN),
    f"{M}/weak-updates/r8125.ko": "-> /lib/modules/6.0/extra/r8125.ko",
    f"{OTHER}/extra/r8125.ko": module(["alias=pci:v000010ECd00008125sv*"], wants=["alloc_etherdev_mqs"]),
}


def made(changes=None, *drivers: str) -> ClientBootFiles:
    kernel = Kernel("boot/vmlinuz", initrd_path=None, version=None, kernel=Bytes(b"kernel"), initrd=None)
    return make_client_initrd(
        make_tree(IMAGE | (changes or {})), kernel, "gzip", "lab", ClientInitrdRequest(drivers), None
    )


def test_a_kernel_without_version_belongs_to_the_only_complete_modules():
    """The directory to which weak-updates lead has no modules.dep, since its kernel is gone."""
    assert set(made().files) >= {"client.img"}
    with pytest.raises(LtspError, match="cannot determine the kernel version of /boot/vmlinuz"):
        made({f"{OTHER}/modules.dep": ""})


def test_blacklisted_drivers_are_named():
    with pytest.raises(LtspError) as caught:
        made({"etc/modprobe.d/local.conf": "blacklist r8125\n"})
    assert "kernel 6.1 has no driver for wired network cards" in caught.value.message
    assert "in the source, remove the lines about r8125 from /etc/modprobe.d/local.conf" in caught.value.hint
    with pytest.raises(LtspError, match="none of the chosen network drivers: r8169"):
        made(None, "r8169")


def test_an_error_without_hint_gets_a_remedy():
    with pytest.raises(LtspError, match="is larger than 1 MiB") as caught:
        made({"etc/modprobe.d/large.conf": b"#" * ((1 << 20) + 1)})
    assert caught.value.hint == "publish it anyway with --no-preflight"
