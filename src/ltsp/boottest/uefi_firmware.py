"""UEFI firmware and the iPXE for it, where distributions put them."""

from __future__ import annotations

import os
import shutil
from os.path import join

from ltsp.boottest.machine import Uefi
from ltsp.errors import LtspError

_OVMF = (
    # Debian and Ubuntu
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    # Fedora
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    # Arch
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    # openSUSE
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)
"""Firmware and its empty variables, without Secure Boot, which no iPXE of a distribution passes."""

_IPXE = (
    # Debian and Ubuntu
    "/usr/lib/ipxe/ipxe.efi",
    # Fedora
    "/usr/share/ipxe/ipxe-x86_64.efi",
    # Arch
    "/usr/share/ipxe/x86_64/ipxe.efi",
    # openSUSE
    "/usr/share/ipxe/ipxe-x86_64.efi",
)


def prepare_uefi(directory: str) -> Uefi:
    """A firmware that starts iPXE from a disk, whose files are put into the directory.

    Raises LtspError if one of them is not installed.
    """
    code, variables = next((pair for pair in _OVMF if all(map(os.path.isfile, pair))), ("", ""))
    if not code:
        raise LtspError("no UEFI firmware for QEMU is there", "install the package ovmf (edk2-ovmf on Fedora and Arch)")
    ipxe = next(filter(os.path.isfile, _IPXE), "")
    if not ipxe:
        raise LtspError("no iPXE for UEFI is there", "install the package ipxe (ipxe-bootimgs on Fedora and openSUSE)")
    place = join(directory, "EFI", "BOOT")
    os.makedirs(place)
    # What a firmware starts from a disk that it does not know. UEFI specification, 3.5.1.1
    shutil.copyfile(ipxe, join(place, "BOOTX64.EFI"))
    return Uefi(code, variables, directory)
