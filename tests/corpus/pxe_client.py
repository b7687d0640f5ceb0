"""The answers that PCs get from a DHCP server with our configuration: dnsmasq, and clients on virtual cables.

Run as `unshare --net python pxe_client.py CONF DIRECTORY SECONDS ADDRESS...`. The server has a card with each address,
`card0`, `card1` and so on; writes a JSON list that has, for each card, an object of answers by kind of client. All
ask at once, each with its own MAC, and again until `bios`, which asks last, and all who get an answer have it, or for
so many seconds.
The clients speak through a packet socket, as firmware does that has no address yet.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

_COOKIE = b"\x63\x82\x53\x63"
_AGAIN = 0.5
"""Seconds until a client asks again."""
_SILENCE = 2.0
"""Seconds without an answer, once `bios` has one, after which no more are expected."""
_NONE = "0.0.0.0"
_Answers = dict[str, dict[str, object]]


@dataclass(frozen=True)
class PxeKind:
    architecture: int
    """Client system architecture, option 93."""
    ipxe: bool = False
    vendor: str = "PXEClient"
    maker: str = "525400"


CLIENTS = {
    # UEFI that loads its boot file from a URL of an HTTP server's: IANA's list of processor architecture types
    "http": PxeKind(16, vendor="HTTPClient"),
    "http on arm": PxeKind(19, vendor="HTTPClient"),
    "uefi of 32 bits": PxeKind(6),
    "raspberry": PxeKind(0, maker="b827eb"),
    "uefi": PxeKind(7),
    "uefi by its other number": PxeKind(9),
    "arm": PxeKind(11),
    "ipxe on bios": PxeKind(0, ipxe=True),
    "ipxe on uefi": PxeKind(7, ipxe=True),
    "ipxe on uefi by its other number": PxeKind(9, ipxe=True),
    "ipxe on arm": PxeKind(11, ipxe=True),
    "bios": PxeKind(0),
}
"""In the order in which they ask. The last one is answered wherever one is, after what others asked has been read."""


@dataclass(frozen=True)
class PxeClient:
    kind: PxeKind
    number: int

    @property
    def mac(self) -> bytes:
        return bytes.fromhex(self.kind.maker) + bytes([0x12, 0x34, self.number])

    def message(self, transaction: int, address: bytes = bytes(4)) -> bytes:
        """DHCPDISCOVER of a client; with an address, what it asks the boot server. RFC 2131, RFC 4578, PXE 2.1"""
        kind = self.kind
        header = struct.pack("!BBBBIHH4s12x16s64x128x", 1, 1, 6, 0, transaction, 0, 0x8000, address, self.mac)
        options = {
            53: b"\x03" if any(address) else b"\x01",
            55: bytes([1, 3, 6, 43, 60, 66, 67]),
            60: b"%s:Arch:%05d:UNDI:002001" % (kind.vendor.encode(), kind.architecture),
            93: struct.pack("!H", kind.architecture),
            94: b"\x01\x02\x01",
            97: bytes(17),
        }
        if kind.ipxe:
            options |= {77: b"iPXE", 175: b"\xb1\x01\x01"}
        if any(address) and kind.architecture == 0:
            options[43] = bytes([71, 4, 0x80, 0, 0, 0, 255])
        return header + _COOKIE + b"".join(bytes([n, len(v)]) + v for n, v in options.items()) + b"\xff"

    def framed(self, payload: bytes, source: bytes, target: bytes, port: int) -> bytes:
        udp = struct.pack("!HHHH", 68, port, 8 + len(payload), 0)
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, source, target)
        total = sum(struct.unpack("!10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        ip = ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
        return b"\xff" * 6 + self.mac + b"\x08\x00" + ip + udp + payload


def answer(frame: bytes) -> tuple[int, dict[str, object]] | None:
    """The transaction of an answer to a client, and what it says; None for anything else."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != struct.pack("!H", 68):
        return None
    message = frame[42:]
    options: dict[int, bytes] = {}
    at = 240
    while at < len(message) and message[at] != 255:
        if message[at] == 0:
            at += 1
            continue
        options[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
        at += 2 + message[at + 1]
    return int.from_bytes(message[4:8], "big"), {
        "address": str(ipaddress.IPv4Address(message[16:20])),
        "server": str(ipaddress.IPv4Address(message[20:24])),
        "file": (message[108:236].split(b"\0")[0] or options.get(67, b"").rstrip(b"\0")).decode("ascii"),
        "class": options.get(60, b"").decode("ascii"),
        "dns": [str(ipaddress.IPv4Address(options[6][n : n + 4])) for n in range(0, len(options.get(6, b"")), 4)],
        "menu": options.get(43, b"").decode("latin-1"),
    }


@dataclass(frozen=True)
class Room:
    """A card of the server's, and the clients at the other end of its cable."""

    number: int
    server: ipaddress.IPv4Interface

    @property
    def clients(self) -> dict[str, PxeClient]:
        return {name: PxeClient(kind, number) for number, (name, kind) in enumerate(CLIENTS.items())}

    def address(self, client: PxeClient) -> bytes:
        """The address that a router gave it."""
        return self.server.network[100 + client.number].packed

    def connect(self) -> None:
        card, cable = f"card{self.number}", f"cable{self.number}"
        ip(f"link add {card} type veth peer name {cable}")
        ip(f"address add {self.server} dev {card}")
        ip(f"link set {card} up")
        ip(f"link set {cable} up")
        for client in self.clients.values():
            address = ipaddress.IPv4Address(self.address(client))
            ip(f"neigh add {address} lladdr {client.mac.hex(':')} dev {card} nud permanent")

    def boot(self, seconds: float) -> _Answers:
        """What each PC learns; from where it got neither address nor file it asks port 4011, as PXE has it."""

        def discover(client: PxeClient, transaction: int) -> bytes:
            return client.framed(client.message(transaction), bytes(4), b"\xff" * 4, 67)

        def request(client: PxeClient, transaction: int) -> bytes:
            own = self.address(client)
            return client.framed(client.message(transaction, own), own, self.server.ip.packed, 4011)

        clients = self.clients
        offers = self._ask(clients, discover, seconds)
        nothing = [name for name, offer in offers.items() if not offer["file"] and offer["address"] == _NONE]
        left = {name: clients[name] for name in nothing}
        answers = self._ask(left, request, seconds)
        menus = {name: offer["menu"] for name, offer in offers.items()}
        return {
            name: {"asked": name in left, **(answers.get(name, {}) if name in left else offer), "menu": menus[name]}
            for name, offer in offers.items()
        }

    def _ask(
        self, clients: Mapping[str, PxeClient], frame: Callable[[PxeClient, int], bytes], seconds: float
    ) -> dict[str, dict[str, object]]:
        transactions = {random.getrandbits(32): name for name in clients}
        found: _Answers = {}
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as link:
            link.bind((f"cable{self.number}", 0))
            link.settimeout(0.1)
            end = time.monotonic() + seconds
            last = time.monotonic()
            while found.keys() != clients.keys() and time.monotonic() < end:
                # Some kinds get no answer; what a busy machine answers late is still waited for.
                if "bios" in found and time.monotonic() > last + _SILENCE:
                    break
                for transaction, name in transactions.items():
                    if name not in found:
                        link.send(frame(clients[name], transaction))
                again = time.monotonic() + _AGAIN
                while time.monotonic() < again and found.keys() != clients.keys():
                    with suppress(TimeoutError):
                        read = answer(link.recv(2048))
                        if read and transactions.get(read[0], "") not in {"", *found}:
                            found[transactions[read[0]]] = read[1]
                            last = time.monotonic()
        return found


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def main(conf: str, directory: str, seconds: str, *addresses: str) -> None:
    ip("link set lo up")
    rooms = [Room(number, ipaddress.IPv4Interface(address)) for number, address in enumerate(addresses)]
    for room in rooms:
        room.connect()
    log = os.path.join(directory, "log")
    daemon = subprocess.Popen(
        [
            *("dnsmasq", "--keep-in-foreground", "--user=root", "--log-dhcp", "--no-ping", f"--conf-file={conf}"),
            *(f"--pid-file={directory}/pid", f"--dhcp-leasefile={directory}/leases", f"--log-facility={log}"),
        ]
    )
    try:
        while daemon.poll() is None and not (os.path.exists(log) and "started, version" in read_text(log)):
            time.sleep(0.02)
        json.dump([room.boot(float(seconds)) for room in rooms], sys.stdout)
    finally:
        daemon.kill()
        daemon.wait()


def read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
