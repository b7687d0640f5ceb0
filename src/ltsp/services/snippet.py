"""Settings for a site's existing DHCP server, so that it sends PCs to this server.

Each of them gives firmware the right iPXE and, if the product can distinguish iPXE from firmware, gives iPXE the menu.
If it cannot, iPXE would get iPXE again; the text then recommends proxyDHCP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address

from ltsp.services.dnsmasq import BIOS, IPXE_OPTION, MENU, PXE_FIRMWARES, UEFI, UEFI_ARM64

_MENU_PATH = f"ltsp/{MENU}"
_PROXY_DHCP_ADVICE = (
    "This DHCP server cannot tell iPXE from the firmware that started it, so iPXE would load itself again",
    "and again. Leave its network boot settings off and let this server answer as well:",
    "    ltsp dnsmasq --proxy-dhcp=1",
    "The DHCP server needs no settings for that. Both must be in one network, or the router's relay must",
    "forward to both. If PCs have an iPXE with an embedded script, use these settings:",
)


def dnsmasq_snippet(server: IPv4Address) -> Iterator[str]:
    yield "# dnsmasq.conf of the DHCP server. dnsmasq(8)"
    yield f"dhcp-match=set:ipxe,{IPXE_OPTION}"
    for firmware in PXE_FIRMWARES:
        yield f"dhcp-match=set:{firmware.tag},option:client-arch,{firmware.code}"
    yield f"dhcp-boot=tag:ipxe,{_MENU_PATH},,{server}"
    for firmware in PXE_FIRMWARES:
        yield f"dhcp-boot=tag:!ipxe,tag:{firmware.tag},ltsp/{firmware.file},,{server}"


def isc_snippet(server: IPv4Address) -> Iterator[str]:
    yield "# dhcpd.conf, in the subnet of the clients or before it. dhcp-options(5)"
    yield "option ltsp-architecture code 93 = unsigned integer 16;"
    yield f"next-server {server};"
    yield 'if exists user-class and option user-class = "iPXE" {'
    yield f'    filename "{_MENU_PATH}";'
    for firmware in PXE_FIRMWARES:
        yield f"}} elsif option ltsp-architecture = {firmware.code:02d} {{"
        yield f'    filename "ltsp/{firmware.file}";'
    yield "}"


def kea_snippet(server: IPv4Address) -> Iterator[str]:
    classes = [_kea_class("ltsp-ipxe", f"option[{IPXE_OPTION}].exists", _MENU_PATH, server)]
    for firmware in PXE_FIRMWARES:
        test = f"not member('ltsp-ipxe') and option[93].hex == 0x{firmware.code:04x}"
        classes.append(_kea_class(f"ltsp-{firmware.tag}", test, f"ltsp/{firmware.file}", server))
    yield "// kea-dhcp4.conf: these classes go into Dhcp4."
    yield json.dumps({"Dhcp4": {"client-classes": classes}}, indent=2)


def windows_snippet(server: IPv4Address) -> Iterator[str]:
    """Of several policies that match a client, the one that is processed first sets the options."""
    yield "# PowerShell on the DHCP server, as administrator. For one scope only, give -ScopeId with each policy"
    yield "# and each of its values."
    yield 'Add-DhcpServerv4Class -Name "LTSP iPXE" -Type User -Data "iPXE"'
    yield from _windows_policy("LTSP iPXE", '-UserClass EQ,"LTSP iPXE"', _MENU_PATH, 1, server)
    for order, firmware in enumerate(PXE_FIRMWARES, 2):
        name = f"LTSP {firmware.title}"
        yield f'Add-DhcpServerv4Class -Name "{name}" -Type Vendor -Data "PXEClient:Arch:{firmware.code:05d}"'
        yield from _windows_policy(name, f'-VendorClass EQ,"{name}*"', f"ltsp/{firmware.file}", order, server)


def pfsense_snippet(server: IPv4Address) -> Iterator[str]:
    yield "# pfSense, Services > DHCP Server > the clients' interface > Network Booting"
    yield from (f"# {line}" for line in _PROXY_DHCP_ADVICE)
    yield "Enable Network Booting:   yes"
    yield f"Next Server:              {server}"
    yield f"Default BIOS File Name:   ltsp/{BIOS.file}"
    yield f"UEFI 64 bit File Name:    ltsp/{UEFI.file}"
    yield f"ARM 64 bit File Name:     ltsp/{UEFI_ARM64.file}"


def mikrotik_snippet(server: IPv4Address) -> Iterator[str]:
    yield "# RouterOS 7 terminal; dhcp1 is the DHCP server of the clients' network; keep the order of the rules."
    yield f"/ip/dhcp-server/option add name=ltsp-server code=66 value=\"s'{server}'\""
    names = {"ipxe": _MENU_PATH, **{firmware.tag: f"ltsp/{firmware.file}" for firmware in PXE_FIRMWARES}}
    for name, file in names.items():
        yield f"/ip/dhcp-server/option add name=ltsp-{name} code=67 value=\"s'{file}'\""
        yield f"/ip/dhcp-server/option/sets add name=ltsp-{name} options=ltsp-server,ltsp-{name}"
    yield "/ip/dhcp-server/matcher add name=ltsp-ipxe server=dhcp1 code=77 value=\"s'iPXE'\" option-set=ltsp-ipxe"
    for firmware in PXE_FIRMWARES:
        yield (
            f"/ip/dhcp-server/matcher add name=ltsp-{firmware.tag} server=dhcp1 code=93 "
            f"value=0x{firmware.code:04x} option-set=ltsp-{firmware.tag}"
        )
    yield f"/ip/dhcp-server/network set [find] next-server={server}"


def unifi_snippet(server: IPv4Address) -> Iterator[str]:
    yield "# UniFi Network, Settings > Networks > the clients' network > DHCP Service Management"
    yield from (f"# {line}" for line in _PROXY_DHCP_ADVICE)
    yield f"Network Boot:   server {server}, file ltsp/{UEFI.file} (BIOS: ltsp/{BIOS.file})"
    yield f"TFTP Server:    {server}"


SNIPPETS: Mapping[str, Callable[[IPv4Address], Iterator[str]]] = {
    "dnsmasq": dnsmasq_snippet,
    "isc": isc_snippet,
    "kea": kea_snippet,
    "windows": windows_snippet,
    "pfsense": pfsense_snippet,
    "mikrotik": mikrotik_snippet,
    "unifi": unifi_snippet,
}


def _kea_class(name: str, test: str, file: str, server: IPv4Address) -> dict[str, str]:
    return {"name": name, "test": test, "next-server": str(server), "boot-file-name": file}


def _windows_policy(name: str, condition: str, file: str, order: int, server: IPv4Address) -> Iterator[str]:
    yield f'Add-DhcpServerv4Policy -Name "{name}" -Condition OR {condition} -ProcessingOrder {order}'
    for option, value in ((66, str(server)), (67, file)):
        yield f'Set-DhcpServerv4OptionValue -PolicyName "{name}" -OptionId {option} -Value "{value}"'
