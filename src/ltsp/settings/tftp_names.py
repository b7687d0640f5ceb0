"""Files in TFTP_DIR/ltsp that all images share; no image can have the name of one."""

from __future__ import annotations

MENU = "ltsp.ipxe"
"""The iPXE menu."""
ADD_ON = "ltsp.img"
"""The site's configuration."""

IPXE_BIOS = "undionly.kpxe"
IPXE_UEFI = "snponly.efi"
IPXE_ARM = "snponly-arm64.efi"
MEMTEST_BIOS = "memtest.0"
MEMTEST_UEFI = "memtest.efi"

RESERVED = frozenset({MENU, ADD_ON, IPXE_BIOS, IPXE_UEFI, IPXE_ARM, MEMTEST_BIOS, MEMTEST_UEFI})
