"""Small disks with tables: by sfdisk if possible, or by hand if only a kernel with the driver could create them."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

MIB = 1 << 20


def sfdisk(disk: Path, script: str, *options: str) -> None:
    words = ["sfdisk", "--no-reread", "--no-tell-kernel", "--quiet", *options, str(disk)]
    subprocess.run(words, input=script, text=True, check=True, capture_output=True, timeout=60)


def listed(disk: Path, *options: str) -> str:
    return subprocess.run(
        ["sfdisk", "--json", *options, disk], check=True, capture_output=True, text=True, timeout=60
    ).stdout


def marked(kind: str, size: int = MIB, label: bytes = b"") -> bytes:
    """Something whose start says that it is of a kind; `label` tells it from others."""
    content = bytearray(size)
    at, magic = {
        "ext": (0x438, b"\x53\xef"),
        "xfs": (0, b"XFSB"),
        "btrfs": (0x10040, b"_BHRfS_M"),
        "swap": (4086, b"SWAPSPACE2"),
        "luks": (0, b"LUKS\xba\xbe"),
        "squashfs": (0, b"hsqs"),
    }[kind]
    content[at : at + len(magic)] = magic
    content[512 : 512 + len(label)] = label
    return bytes(content)


def put(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def mirror(data: bytes, version: str, **fields: int) -> bytes:
    """A member of a RAID1, of a version of the metadata. linux/raid/md_p.h"""
    start, place, block, size = mirrored(len(data), version, **fields)
    content = bytearray(size)
    content[start : start + len(data)] = data
    content[place : place + len(block)] = block
    return bytes(content)


def mirrored(size: int, version: str, **fields: int) -> tuple[int, int, bytes, int]:
    """For so many bytes of data: where they begin, the place and the text of the superblock, and the member's size."""
    return _old_mirrored(size, **fields) if version == "0.90" else _new_mirrored(size, version, **fields)


def _new_mirrored(
    size: int, version: str, *, level: int = 1, role: int = 0, events: int = 17, features: int = 0
) -> tuple[int, int, bytes, int]:
    start = 0 if version == "1.0" else 128
    whole = start * 512 + size + 64 * 1024
    place = {"1.0": (whole // 512 - 16) & ~7, "1.1": 0, "1.2": 8}[version]
    sectors = size // 512
    roles = struct.pack("<2H", role, 1)
    name = b"host:root".ljust(32, b"\0")
    block = struct.pack(
        "<IIII16s32sQiIQIIi 28x QQQQII16s 8x QQQII32x", 0xA92B4EFC, 1, features, 0, bytes(range(16)), name, 0, level, 0,
        sectors, 0, 2, 0, start, sectors, place, 0, 0, 0, bytes(16), 0, events, (1 << 64) - 1, 0, 2,
    ) + roles  # fmt: skip
    total = sum(struct.unpack(f"<{len(block) // 4}I", block))
    total = (total & 0xFFFFFFFF) + (total >> 32)
    block = block[:216] + struct.pack("<I", total & 0xFFFFFFFF) + block[220:]
    return start * 512, place * 512, block, whole


def _old_mirrored(size: int, *, level: int = 1, state: int = 6, events: int = 17) -> tuple[int, int, bytes, int]:
    assert size % 65536 == 0
    words = [0] * 1024
    words[0:16] = [
        0xA92B4EFC, 0, 90, 0, 0, 1, 0, level & 0xFFFFFFFF, size >> 10, 2, 2, 0, 0, 2, 3, 4,
    ]  # fmt: skip
    words[39] = events
    words[128:133] = [0, 8, 1, 0, 6]
    words[992:997] = [0, 8, 1, 0, state]
    total = sum(words)
    words[38] = (total & 0xFFFFFFFF) + (total >> 32) & 0xFFFFFFFF
    return 0, size, struct.pack("<1024I", *words), size + 65536


def lvm_sum(data: bytes) -> int:
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


EXTENT = 1 << 20


def physical_volume(uuid: str, text: str, extents: list[bytes], *, wrapped: bool = False) -> bytes:
    """A physical volume with the text of its group, which begins near the end of its area where it is `wrapped`."""
    size = EXTENT * (1 + len(extents))
    plain = uuid.replace("-", "").encode()
    header = plain + struct.pack("<Q", size) + struct.pack("<8Q", EXTENT, 0, 0, 0, 4096, EXTENT - 4096, 0, 0)
    label = struct.pack("<I8s", 32, b"LVM2 001") + header
    label = label.ljust(512 - 20, b"\0")
    label = b"LABELONE" + struct.pack("<QI", 1, lvm_sum(label)) + label
    data = text.encode() + b"\0"
    start = EXTENT - 4096 - 512 if wrapped else 1024
    rest = struct.pack("<16sIQQ", b" LVM2 x[5A%r0N*>", 1, 4096, EXTENT - 4096)
    rest += struct.pack("<QQII", start, len(data), lvm_sum(data), 0)
    rest = rest.ljust(512 - 4, b"\0")
    area = bytearray(EXTENT - 4096)
    area[:512] = struct.pack("<I", lvm_sum(rest)) + rest
    room = len(area) - start
    area[start : start + len(data)] = data[:room]
    area[512 : 512 + len(data[room:])] = data[room:]
    return bytes(512) + label + bytes(4096 - 1024) + bytes(area) + b"".join(extents)


UUIDS = [f"{letter * 6}-aaaa-bbbb-cccc-dddd-eeee-ffffff" for letter in "pq"]


def group(volumes: str, *, count: int = 1, sequence: int = 3) -> str:
    """The text of a group `vg-one` on so many physical volumes."""
    physical = "\n".join(
        f"""pv{index} {{
                id = "{UUIDS[index]}"
                device = "/dev/sd{"ab"[index]}2"	# Hint only
                status = ["ALLOCATABLE"]
                flags = []
                dev_size = 16384
                pe_start = 2048
                pe_count = 8
            }}"""
        for index in range(count)
    )
    return f"""vg-one {{
        id = "GGGGGG-aaaa-bbbb-cccc-dddd-eeee-ffffff"
        seqno = {sequence}
        format = "lvm2"			# informational
        status = ["RESIZEABLE", "READ", "WRITE"]
        flags = []
        extent_size = 2048		# 1024 Kilobytes
        max_lv = 0
        max_pv = 0
        metadata_copies = 0
        physical_volumes {{
            {physical}
        }}
        logical_volumes {{
            {volumes}
        }}
    }}
    # Generated by hand
    contents = "Text Format Volume Group"
    version = 1
    description = "say \\"hello\\" # no comment"
    creation_host = "debian"
    creation_time = 1700000000
    """


def volume(name: str, *segments: str, status: str = '"READ", "WRITE", "VISIBLE"') -> str:
    body = "\n".join(f"segment{index} {{\n{segment}\n}}" for index, segment in enumerate(segments, 1))
    return f"""{name} {{
        id = "{(name * 6)[:6].upper()}-aaaa-bbbb-cccc-dddd-eeee-ffffff"
        status = [{status}]
        flags = []
        segment_count = {len(segments)}
        {body}
    }}"""


def striped(start: int, count: int, *places: tuple[str, int], stripe: int = 128) -> str:
    stripes = ", ".join(f'"{name}", {extent}' for name, extent in places)
    size = f"stripe_size = {stripe}" if len(places) > 1 else ""
    return f"""start_extent = {start}
        extent_count = {count}
        type = "striped"
        stripe_count = {len(places)}	# linear
        {size}
        stripes = [
            {stripes}
        ]"""
