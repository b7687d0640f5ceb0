"""Who this machine is, by what the kernel says of its network."""

from __future__ import annotations

import socket

from ltsp.host.identity import Identity, parse_ipv4_addresses, parse_ipv6_addresses, read_identity

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.168.67.0/24 2 0 2
        |-- 192.168.67.0
           /24 link UNICAST
        |-- 192.168.67.1
           /32 host LOCAL
        |-- 192.168.67.255
           /32 link BROADCAST
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.168.67.1
        /32 host LOCAL
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000505400fffeaabbcc 02 40 20 80     eth0
"""


def test_own_addresses_are_those_that_are_local_to_the_host():
    assert parse_ipv4_addresses(FIB_TRIE) == ("192.168.67.1",)
    assert parse_ipv6_addresses(IF_INET6) == ("fe80::5054:ff:feaa:bbcc",)


def test_a_machine_is_read_from_sys_and_proc(tmp_path):
    for name, address in (("lo", "00:00:00:00:00:00"), ("eth0", "52:54:00:AA:bb:cc"), ("tun0", "")):
        (tmp_path / "sys/class/net" / name).mkdir(parents=True)
        (tmp_path / "sys/class/net" / name / "address").write_text(address + "\n")
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/fib_trie").write_text(FIB_TRIE)
    host = socket.gethostname().lower()
    assert read_identity(str(tmp_path)) == Identity(("52:54:00:aa:bb:cc",), ("192.168.67.1",), host)
    assert read_identity(str(tmp_path / "nowhere")) == Identity((), (), host)
