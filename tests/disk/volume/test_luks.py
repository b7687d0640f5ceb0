"""LUKS headers, and our cipher modes compared with those of the library."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from ltsp.disk.volume.luks import LuksHeader
from ltsp.disk.volume.sector_cipher import make_decryptor
from ltsp.errors import FormatError, LtspError, SourceError
from ltsp.storage.blocks import MemoryBlocks

KEY = bytes(range(64))
SEGMENT = {
    "type": "crypt",
    "offset": "32768",
    "size": "dynamic",
    "iv_tweak": "0",
    "encryption": "aes-xts-plain64",
    "sector_size": 512,
}


def second(document, *, algorithm=b"sha256", number=1, place=0, magic=b"LUKS\xba\xbe", size=16384):
    text = (document if isinstance(document, bytes) else json.dumps(document).encode()).ljust(size - 4096, b"\0")
    fields = (magic, 2, size, number, b"", algorithm, bytes(64), b"0123-45", b"", place, b"")
    head = struct.pack(">6sHQQ48s32s64s40s48sQ184s64s", *fields, bytes(64)).ljust(4096, b"\0")
    total = hashlib.new("sha256", head + text).digest()
    return head[:448] + total + head[448 + len(total) :] + text


def volume(document, size=1 << 17, **words):
    return MemoryBlocks(second(document, **words).ljust(size, b"\1"))


def described(segment=None, **config):
    return {"config": config, "segments": {"0": segment or SEGMENT}}


def test_a_header_locates_the_encrypted_data():
    found = LuksHeader.parse(volume(described({**SEGMENT, "iv_tweak": "8", "sector_size": 4096, "size": "8192"})))
    assert found == LuksHeader("0123-45", "aes-xts-plain64", 32768, 8192, 4096, 8)
    assert found.open_decrypted(volume(described()), KEY).size == 8192


def test_the_newer_one_of_two_copies_counts():
    copies = second(described(), number=3) + second(
        described({**SEGMENT, "offset": "65536"}), number=4, place=16384, magic=b"SKUL\xba\xbe"
    )
    assert LuksHeader.parse(MemoryBlocks(copies.ljust(1 << 17, b"\1"))).offset == 65536


@pytest.mark.parametrize(
    ("document", "reason"),
    {
        "no JSON": (b"{", "is invalid"),
        "deep JSON": (b"[" * 10000, "is invalid"),
        "a list": (b"[]", "is invalid"),
        "no segments": ({"config": {}}, "is invalid"),
        "a number that is none": (described({**SEGMENT, "offset": "-1"}), "is invalid"),
        "a number that is too long": (described({**SEGMENT, "offset": "9" * 5000}), "is invalid"),
        "sectors of another size": (described({**SEGMENT, "sector_size": 513}), "sector size: 513"),
        "sectors that are a list": (described({**SEGMENT, "sector_size": ["\x1b"]}), "sector size: "),
        "beyond the end": (described({**SEGMENT, "offset": "131072"}), "starts beyond the end of the volume"),
        "detached": (described({**SEGMENT, "offset": "0"}), "detached"),
        "two segments": ({"config": {}, "segments": {"0": SEGMENT, "1": SEGMENT}}, "2 segments"),
        "linear": (described({**SEGMENT, "type": "linear"}), "segment type is linear"),
        "integrity": (described({**SEGMENT, "integrity": {"type": "hmac(sha256)"}}), "dm-integrity"),
        "a requirement": (described(requirements={"mandatory": ["opal\x1b"]}), r"requires opal\\x1b"),
        "unfinished": (described(requirements={"mandatory": ["online-reencrypt-v2"]}), "unfinished"),
    }.values(),
)
def test_invalid_and_unsupported_headers_are_refused(document, reason):
    with pytest.raises(LtspError, match=reason):
        LuksHeader.parse(volume(document))


def test_damage_of_all_copies_is_refused():
    with pytest.raises(FormatError, match="damaged"):
        LuksHeader.parse(MemoryBlocks(second(described())[:9000].ljust(1 << 17, b"\1")))


def test_old_and_new_versions_are_refused_by_name():
    with pytest.raises(SourceError, match="version is 3"):
        LuksHeader.parse(MemoryBlocks(b"LUKS\xba\xbe\0\3".ljust(1 << 16, b"\0")))
    with pytest.raises(SourceError, match="unfinished"):
        LuksHeader.parse(MemoryBlocks(b"LUKS\xde\xad\0\1".ljust(1 << 16, b"\0")))
    with pytest.raises(FormatError, match="LUKS header"):
        LuksHeader.parse(MemoryBlocks(b"LUKS\xba\xbe\0\2"))


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize(("cipher", "size"), [("aes-xts-plain64", 64), ("aes-xts-plain64", 32), ("aes-xts-plain", 64)])
def test_xts_equals_that_of_the_library(cipher, size, sector, chance):
    data = chance.randbytes(8 * 4096)
    first = (1 << 32) - 8 if cipher.endswith("64") else 8
    expected = b"".join(
        Cipher(algorithms.AES(KEY[:size]), modes.XTS((first + at // 512).to_bytes(16, "little")))
        .decryptor()
        .update(data[at : at + sector])
        for at in range(0, len(data), sector)
    )
    assert make_decryptor(cipher, KEY[:size], sector)(data, first) == expected


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("size", [16, 24, 32])
def test_cbc_equals_that_of_the_library(size, sector, chance):
    data = chance.randbytes(4 * 4096)
    key = KEY[:size]
    salt = Cipher(algorithms.AES(hashlib.sha256(key).digest()), modes.ECB())
    numbers = [(7 + at // 512).to_bytes(16, "little") for at in range(0, len(data), sector)]
    for cipher, ivs in (
        ("aes-cbc-plain64", numbers),
        ("aes-cbc-essiv:sha256", [salt.encryptor().update(number) for number in numbers]),
    ):
        pieces = [data[at : at + sector] for at in range(0, len(data), sector)]
        expected = b"".join(
            Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor().update(piece)
            for iv, piece in zip(ivs, pieces, strict=True)
        )
        assert make_decryptor(cipher, key, sector)(data, 7) == expected


@pytest.mark.parametrize(
    ("cipher", "size"),
    [
        ("serpent-xts-plain64", 64),
        ("aes-xts-essiv:sha256", 64),
        ("aes-xts-plain64", 48),
        ("aes-cbc-plain64", 64),
        ("", 0),
    ],
)
def test_other_ciphers_and_keys_are_refused(cipher, size):
    with pytest.raises(SourceError, match="not supported"):
        make_decryptor(cipher, KEY[:size], 512)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 1), (511, 2), (700, 5000), ((1 << 20) - 3, 9), (0, 1 << 22), (1 << 30, 1)]
)
def test_any_bytes_can_be_read(offset, size, chance):
    stored = second(described()).ljust(32768, b"\0") + chance.randbytes((2 << 20) + 700)
    found = LuksHeader.parse(MemoryBlocks(stored)).open_decrypted(MemoryBlocks(stored), KEY)
    whole = make_decryptor("aes-xts-plain64", KEY, 512)(stored[32768 : 32768 + (2 << 20) + 512], 0)
    assert found.size == len(whole)
    assert found.read_at(offset, size) == whole[offset : offset + size]
