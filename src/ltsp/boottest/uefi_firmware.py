"""Finding UEFI firmware and iPXE for it in the paths of distributions."""

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
"""Firmware and its empty variables, without Secure Boot, since distributions' iPXE is not signed."""

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
    """Firmware that starts iPXE from a disk, whose files are written to the directory.

    Raises LtspError if one of them is not installed.
    """
    code, variables = next((pair for pair in _OVMF if all(map(os.path.isfile, pair))), ("", ""))
    if not code:
        raise LtspError("UEFI firmware for QEMU not found", "install the package ovmf (edk2-ovmf on Fedora and Arch)")
    ipxe = next(filter(os.path.isfile, _IPXE), "")
    if not ipxe:
        raise LtspError("iPXE for UEFI not found", "install the package ipxe (ipxe-bootimgs on Fedora and openSUSE)")
    place = join(directory, "EFI", "BOOT")
    os.makedirs(place)
    # The default boot file of removable media. UEFI specification, 3.5.1.1
    shutil.copyfile(ipxe, join(place, "BOOTX64.EFI"))
    return Uefi(code, variables, directory)
