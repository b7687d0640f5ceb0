"""What a DHCP server with our configuration answers to PCs: dnsmasq and a client at the two ends of a veth pair.

Run as `unshare --net python pxe_client.py ADDRESS CONF DIRECTORY`; writes a JSON object of answers by kind of client.
The client speaks through a packet socket, as firmware does that has no address yet.
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

_MAC = bytes.fromhex("525400123456")
_COOKIE = b"\x63\x82\x53\x63"
CLIENTS = {
    "bios": (0, False),
    "uefi": (7, False),
    "uefi by its other number": (9, False),
    "arm": (11, False),
    "ipxe on bios": (0, True),
    "ipxe on uefi": (7, True),
}


def message(architecture: int, transaction: int, *, ipxe: bool = False, address: bytes = bytes(4)) -> bytes:
    """DHCPDISCOVER of a PXE client; with an address, what it asks the boot server. RFC 2131, RFC 4578, PXE 2.1"""
    header = struct.pack("!BBBBIHH4s12x16s64x128x", 1, 1, 6, 0, transaction, 0, 0x8000, address, _MAC)
    options = {
        53: b"\x03" if any(address) else b"\x01",
        55: bytes([1, 3, 6, 43, 60, 66, 67]),
        60: b"PXEClient:Arch:%05d:UNDI:002001" % architecture,
        93: struct.pack("!H", architecture),
        94: b"\x01\x02\x01",
        97: bytes(17),
    }
    if ipxe:
        options |= {77: b"iPXE", 175: b"\xb1\x01\x01"}
    if any(address) and architecture == 0:
        options[43] = bytes([71, 4, 0x80, 0, 0, 0, 255])
    return header + _COOKIE + b"".join(bytes([n, len(v)]) + v for n, v in options.items()) + b"\xff"


def framed(payload: bytes, source: bytes, target: bytes, port: int) -> bytes:
    udp = struct.pack("!HHHH", 68, port, 8 + len(payload), 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0, 64, 17, 0, source, target)
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
    return b"\xff" * 6 + _MAC + b"\x08\x00" + ip + udp + payload


def answer(frame: bytes, transaction: int) -> dict[str, object] | None:
    """What an answer to us says; None for anything else."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 17 or frame[36:38] != struct.pack("!H", 68):
        return None
    message = frame[42:]
    if message[4:8] != struct.pack("!I", transaction):
        return None
    options: dict[int, bytes] = {}
    at = 240
    while at < len(message) and message[at] != 255:
        if message[at] == 0:
            at += 1
            continue
        options[message[at]] = message[at + 2 : at + 2 + message[at + 1]]
        at += 2 + message[at + 1]
    return {
        "address": str(ipaddress.IPv4Address(message[16:20])),
        "server": str(ipaddress.IPv4Address(message[20:24])),
        "file": (message[108:236].split(b"\0")[0] or options.get(67, b"").rstrip(b"\0")).decode("ascii"),
        "class": options.get(60, b"").decode("ascii"),
        "dns": [str(ipaddress.IPv4Address(options[6][n : n + 4])) for n in range(0, len(options.get(6, b"")), 4)],
        "menu": options.get(43, b"").hex(),
    }


def boot(architecture: int, server: bytes, address: bytes, *, ipxe: bool) -> dict[str, object]:
    """What a PC learns; where no file was offered it asks the boot server at port 4011, as PXE has it."""
    transaction = random.getrandbits(32)
    offer = ask(framed(message(architecture, transaction, ipxe=ipxe), bytes(4), b"\xff" * 4, 67), transaction)
    if not offer or offer["file"]:
        return {"asked": False, **(offer or {})}
    request = message(architecture, transaction, address=address)
    return {"asked": True, **(ask(framed(request, address, server, 4011), transaction) or {})}


def ask(frame: bytes, transaction: int) -> dict[str, object] | None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as link:
        link.bind(("pc", 0))
        link.settimeout(1)
        for _ in range(5):
            link.send(frame)
            until = time.monotonic() + 1
            while time.monotonic() < until:
                try:
                    found = answer(link.recv(2048), transaction)
                except TimeoutError:
                    break
                if found:
                    return found
    return None


def main(address: str, conf: str, directory: str) -> None:
    server = ipaddress.IPv4Interface(address)
    client = server.network[99]
    for words in (
        "link set lo up",
        "link add server type veth peer name pc",
        f"address add {address} dev server",
        "link set server up",
        "link set pc up",
        f"neigh add {client} lladdr {_MAC.hex(':')} dev server nud permanent",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    log = os.path.join(directory, "log")
    daemon = subprocess.Popen(
        [
            *("dnsmasq", "--keep-in-foreground", "--user=root", "--log-dhcp", f"--conf-file={conf}"),
            *(f"--pid-file={directory}/pid", f"--dhcp-leasefile={directory}/leases", f"--log-facility={log}"),
        ]
    )
    try:
        time.sleep(0.5)
        ends = server.ip.packed, client.packed
        json.dump({name: boot(code, *ends, ipxe=ipxe) for name, (code, ipxe) in CLIENTS.items()}, sys.stdout)
    finally:
        daemon.terminate()
        daemon.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
