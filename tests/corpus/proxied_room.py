"""A room with a router that gives addresses and knows no boot server, our server next to it, and a PC.

Run as `unshare --net python proxied_room.py CONF DIRECTORY SECONDS UNTIL QEMU-ARGUMENT...`: the router (dnsmasq, for
addresses alone) and the PC (QEMU) share a bridge with the server (dnsmasq with CONF), which is in a network namespace
of its own. What the PC shows on its serial console goes to standard output, until UNTIL is there or the time is over.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

SERVER = "10.77.0.1"
ROUTER = "10.77.0.254"


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def dnsmasq(directory: str, name: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    files = [f"--pid-file={directory}/{name}.pid", f"--dhcp-leasefile={directory}/{name}.leases"]
    words = ["dnsmasq", "--keep-in-foreground", "--user=root", f"--log-facility={directory}/{name}.log"]
    return subprocess.Popen([*before, *words, *files, *arguments])


def main(conf: str, directory: str, seconds: str, until: str, *machine: str) -> None:
    place = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
    started = [place]
    try:
        assert place.stdout is not None
        place.stdout.readline()
        inside = ("nsenter", "--target", str(place.pid), "--net")
        ip("link set lo up")
        ip("link add room type bridge forward_delay 0")
        ip(f"address add {ROUTER}/24 dev room")
        ip("link set room up")
        ip("link add cable type veth peer name eth0")
        ip("link set cable master room up")
        ip(f"link set eth0 netns {place.pid}")
        for words in (f"address add {SERVER}/24 dev eth0", "link set eth0 up"):
            subprocess.run([*inside, "ip", *words.split()], check=True)
        ip("tuntap add pc mode tap")
        ip("link set pc master room up")
        router = ("--port=0", "--conf-file=/dev/null", "--dhcp-range=10.77.0.50,10.77.0.60")
        started.append(dnsmasq(directory, "router", *router))
        started.append(dnsmasq(directory, "server", f"--conf-file={conf}", before=inside))
        card = ["-netdev", "tap,id=net,ifname=pc,script=no,downscript=no"]
        console = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        pc = subprocess.Popen(["qemu-system-x86_64", *card, *machine], **console)
        started.append(pc)
        show(pc, time.monotonic() + float(seconds), until.encode())
    finally:
        for each in reversed(started):
            each.kill()
            each.wait()


def show(pc: subprocess.Popen[bytes], end: float, until: bytes) -> None:
    assert pc.stdout is not None
    shown = b""
    while until not in shown and (left := end - time.monotonic()) > 0:
        if not select.select([pc.stdout], [], [], left)[0]:
            break
        piece = os.read(pc.stdout.fileno(), 1 << 16)
        if not piece:
            break
        shown += piece
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
