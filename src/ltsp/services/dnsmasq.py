"""Configuration of dnsmasq: DHCP or proxyDHCP, PXE, TFTP and DNS for diskless clients. dnsmasq(8)

ProxyDHCP leaves addresses to a router and answers PXE alone. dnsmasq does it for each network that it is told of; the
network of LTSP's own, 192.168.67.0/24, is that of servers with two cards, and gets addresses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network

from ltsp.host.interfaces import Interface
from ltsp.services import quoting
from ltsp.services.pxe_firmware import FIRMWARES, IPXE_OPTION, MENU

LTSP_NETWORK = IPv4Network("192.168.67.0/24")
_RASPBERRIES = ("28:cd:c1", "2c:cf:67", "b8:27:eb", "d8:3a:dd", "dc:a6:32", "e4:5f:01")
"""The vendor's MAC addresses: as BIOS PCs do, they say architecture 0. IEEE's list of OUIs"""


@dataclass(frozen=True, slots=True)
class DnsmasqConfig:
    interfaces: tuple[Interface, ...]
    """Those of the server, with an address each; one that has several stands there several times."""
    tftp_dir: str
    dns: bool = False
    proxy_dhcp: bool = True
    real_dhcp: bool = True
    """In LTSP_NETWORK; no matter whether the server has its address there yet."""
    dns_servers: tuple[str, ...] = ()
    """What clients with our addresses are told; 0.0.0.0 is this server."""
    tftp: bool = True

    def text(self) -> str:
        """Raises LtspError if the TFTP directory cannot be written there."""
        blocks = [self._head(), self._dns()]
        if proxied := self._proxied:
            blocks.append(_proxy_range_lines(each.address for each in proxied))
        if self.real_dhcp:
            blocks.append(self._real())
        if proxied or self.real_dhcp:
            blocks += [_match_lines(), self._boot()]
        if self.tftp:
            blocks.append(self._tftp())
        return "\n\n".join("\n".join(block) for block in blocks) + "\n"

    @property
    def _proxied(self) -> tuple[Interface, ...]:
        """One address for each network."""
        if not self.proxy_dhcp:
            return ()
        by_address = sorted(self.interfaces, key=lambda each: each.address, reverse=True)
        first = {each.address.network: each for each in by_address}
        networks = sorted(each for each in first if not (self.real_dhcp and each.overlaps(LTSP_NETWORK)))
        return tuple(first[each] for each in networks)

    def _head(self) -> Iterator[str]:
        yield "# Made by ltsp dnsmasq: what is changed here gets lost. Settings belong in /etc/ltsp/ltsp.conf, and what"
        yield "# dnsmasq is to do besides, in another file of this directory."

    def _dns(self) -> Iterator[str]:
        if self.dns:
            yield "# Not on the loopback, where systemd-resolved may listen."
            yield "bind-dynamic"
            yield "except-interface=lo"
        else:
            yield "# No DNS."
            yield "port=0"

    def _real(self) -> Iterator[str]:
        first, last = LTSP_NETWORK[20], LTSP_NETWORK[250]
        yield f"dhcp-range=set:real,{first},{last},{LTSP_NETWORK.netmask},8h"
        if self.dns_servers:
            yield f"dhcp-option=tag:real,option:dns-server,{','.join(self.dns_servers)}"

    def _boot(self) -> Iterator[str]:
        yield "# Firmware gets iPXE, and iPXE the menu."
        if self.real_dhcp:
            yield f"dhcp-boot=tag:real,tag:ipxe,ltsp/{MENU}"
            for firmware in FIRMWARES:
                yield f"dhcp-boot=tag:real,tag:!ipxe,tag:{firmware.tag},ltsp/{firmware.file}"
        if self._proxied:
            yield from _menu_lines(self._proxied)
            # By number: what BC_EFI and X86-64_EFI stand for was exchanged between releases of dnsmasq.
            for firmware in FIRMWARES:
                yield (
                    f"pxe-service=tag:!real,tag:!ipxe,tag:!raspberry,tag:{firmware.tag},{firmware.code},"
                    f'"Network boot",ltsp/{firmware.file}'
                )
            yield "# A Raspberry Pi wants to see these words, and then takes its files from the TFTP root."
            yield 'pxe-service=tag:!real,tag:raspberry,X86PC,"Raspberry Pi Boot",unused'

    def _tftp(self) -> Iterator[str]:
        yield "enable-tftp"
        yield f"tftp-root={quoting.check_path(self.tftp_dir, 'the TFTP directory')}"
        yield "# Without its directory yet, dnsmasq shall start all the same."
        yield "tftp-no-fail"


def _proxy_range_lines(addresses: Iterable[IPv4Interface]) -> Iterator[str]:
    """Without a tag of their own: with one, dnsmasq 2.91 loops for ever at the second PC with UEFI.

    Where it makes a proxy's answer, it joins the tags of the PC to those that the range still has from the PC before
    (option_filter in dhcp-common.c, from dhcp_reply in rfc2131.c, which clears them for other ranges alone).
    """
    for each in addresses:
        yield f"dhcp-range={each.network.network_address},proxy,{each.netmask}"


def _menu_lines(proxied: Sequence[Interface]) -> Iterator[str]:
    """The menu, with the server's address: dnsmasq leaves that out for BIOS PCs, and iPXE would ask the router for it.

    An interface's name is a tag of all that arrives there (dnsmasq(8), --dhcp-range), and of the lines that hold the
    last one counts.
    """
    first = proxied[0]
    yield f"dhcp-boot=tag:!real,tag:ipxe,ltsp/{MENU},,{first.address.ip}"
    for name, address in {each.name: each.address for each in reversed(proxied) if each.name != first.name}.items():
        tag = quoting.check_word(name, "the network card")
        yield f"dhcp-boot=tag:!real,tag:ipxe,tag:{tag},ltsp/{MENU},,{address.ip}"


def _match_lines() -> Iterator[str]:
    yield f"dhcp-match=set:ipxe,{IPXE_OPTION}"
    for firmware in FIRMWARES:
        yield f"dhcp-match=set:{firmware.tag},option:client-arch,{firmware.code}"
    for vendor in _RASPBERRIES:
        yield f"dhcp-mac=set:raspberry,{vendor}:*:*:*"
