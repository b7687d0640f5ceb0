"""The architectures that PC firmware reports by DHCP, and the iPXE for each."""

from __future__ import annotations

from dataclasses import dataclass

from ltsp.settings import tftp_names


@dataclass(frozen=True, slots=True)
class PxeFirmware:
    tag: str
    code: int
    """Client system architecture, DHCP option 93. RFC 4578, and IANA's list of processor architecture types."""
    file: str
    """Below TFTP_DIR/ltsp."""
    title: str


BIOS = PxeFirmware("bios", 0, tftp_names.IPXE_BIOS, "PC with BIOS")
UEFI = PxeFirmware("uefi-x64", 7, tftp_names.IPXE_UEFI, "PC with UEFI")
"""RFC 4578 has 7 for EFI byte code, but nearly all PCs with 64-bit UEFI report 7; few report 9, as in its errata."""
UEFI_BY_ERRATA = PxeFirmware("uefi-x64-9", 9, tftp_names.IPXE_UEFI, "PC with UEFI, other number")
ARM = PxeFirmware("uefi-arm64", 11, tftp_names.IPXE_ARM, "ARM with UEFI")
FIRMWARES = (BIOS, UEFI, UEFI_BY_ERRATA, ARM)
MENU = tftp_names.MENU
"""The boot file for iPXE itself, below TFTP_DIR/ltsp."""
IPXE_OPTION = 175
"""DHCP option that distinguishes iPXE from the firmware that started it. iPXE, net/udp/dhcp.c"""
