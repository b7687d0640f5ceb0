from __future__ import annotations

import lzma

from corpus.dict_tree import make_tree
from ltsp.initrd.drivers import DriverFirmware

IMAGE = make_tree(
    {
        "usr/lib/firmware/rtl_nic/small.fw": b"s" * 10,
        "usr/lib/firmware/bnx2x/large.fw": b"l" * 1000,
        "usr/lib/firmware/tigon/packed.bin.xz": lzma.compress(b"p" * 100),
        "usr/lib/firmware/updates/rtl_nic/new.fw": b"new",
        "usr/lib/firmware/rtl_nic/new.fw": b"old",
        "lib": "-> usr/lib",
    }
)
WANTED = ["rtl_nic/small.fw", "bnx2x/large.fw", "tigon/packed.bin", "rtl_nic/new.fw", "absent.fw", "absent.fw"]


def test_firmware_is_found_and_decompressed_and_updates_come_first():
    found = DriverFirmware.collect(IMAGE, "6.1", WANTED, 1 << 20)
    assert found.included == {
        "rtl_nic/new.fw": b"new",
        "rtl_nic/small.fw": b"s" * 10,
        "tigon/packed.bin": b"p" * 100,
        "bnx2x/large.fw": b"l" * 1000,
    }
    assert (found.left_out, found.missing) == ((), ("absent.fw",))


def test_beyond_the_limit_the_largest_are_left_out_and_named():
    found = DriverFirmware.collect(IMAGE, "6.1", WANTED, 113)
    assert set(found.included) == {"rtl_nic/new.fw", "rtl_nic/small.fw", "tigon/packed.bin"}
    assert found.left_out == ("bnx2x/large.fw",)
    assert DriverFirmware.collect(IMAGE, "6.1", WANTED, 0).included == {}
