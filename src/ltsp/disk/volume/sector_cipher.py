"""Decrypt many disk sectors at once with AES in XTS or CBC mode, as dm-crypt does.

AES itself comes from the library. Calling it for each sector of 512 bytes would take ten times as long as everything
else, so the modes, which only XOR, are applied here to all sectors of a piece together: the piece is one large integer
whose lanes of 128 bits are the cipher blocks.

IEEE 1619-2007; NIST SP 800-38A; Linux drivers/md/dm-crypt.c for the numbering of sectors.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from ltsp import errors
from ltsp.errors import SourceError

_BLOCK_SIZE: Final = 16
_POLYNOMIAL: Final = 0x87
"""x^7 + x^2 + x + 1: x^128 reduced in the field of XTS."""
_KEY_SIZES: Final = frozenset({16, 24, 32})
"""Sizes of an AES key in bytes."""

Decrypt = Callable[[bytes, int], bytes]
"""Whole sectors, and the number of the first in units of 512 bytes."""
_MakeIvs = Callable[[int, int], bytes]
"""IVs of a number of sectors from a first one: 16 bytes each."""


def make_decryptor(cipher: str, key: bytes, sector_size: int) -> Decrypt:
    """A decryptor for a cipher in dm-crypt's notation, such as `aes-xts-plain64`; `sector_size` is in bytes.

    Raises SourceError if the cipher or the size of the key is not supported, LtspError if the library is missing.
    """
    name, _, rest = cipher.partition("-")
    mode, _, iv_mode = rest.partition("-")
    if name != "aes" or (mode, iv_mode) not in _SUPPORTED_MODES:
        raise SourceError(f"the cipher {cipher} is not supported")
    size = len(key) // 2 if mode == "xts" else len(key)
    if size not in _KEY_SIZES or (mode == "xts" and (len(key) % 2 or size == 24)):
        raise SourceError(f"the cipher {cipher} is not supported with a key of {8 * len(key)} bits")
    load_aes_library()
    return (
        _make_xts_decryptor(key, iv_mode, sector_size)
        if mode == "xts"
        else _make_cbc_decryptor(key, iv_mode, sector_size)
    )


_SUPPORTED_MODES: Final = frozenset({("xts", "plain64"), ("xts", "plain"), ("cbc", "plain64"), ("cbc", "plain")}) | {
    ("cbc", "essiv:sha256")
}


def load_aes_library() -> None:
    """Load the library. Raises LtspError if it is missing."""
    _import_library()


@cache
def _import_library() -> tuple[Any, Any, Any]:
    with errors.require_library("decryption", "cryptography", "disk"):
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 - an extra
    return Cipher, algorithms.AES, modes.ECB  # the bare block cipher; the modes are built on it here


@dataclass(frozen=True, slots=True)
class _Aes:
    """The bare block cipher (ECB)."""

    key: bytes

    def encrypt(self, data: bytes) -> bytes:
        cipher, aes, ecb = _import_library()
        output: bytes = cipher(aes(self.key), ecb()).encryptor().update(data)
        return output

    def decrypt(self, data: bytes) -> bytes:
        cipher, aes, ecb = _import_library()
        output: bytes = cipher(aes(self.key), ecb()).decryptor().update(data)
        return output


def _make_ivs(iv_mode: str, key: bytes, sector_size: int) -> _MakeIvs:
    bits = 32 if iv_mode == "plain" else 64

    def plain(first: int, count: int) -> bytes:
        numbers = range(first, first + count * (sector_size // 512), sector_size // 512)
        return b"".join((number % (1 << bits)).to_bytes(_BLOCK_SIZE, "little") for number in numbers)

    if iv_mode != "essiv:sha256":
        return plain
    salted = _Aes(hashlib.sha256(key).digest())
    return lambda first, count: salted.encrypt(plain(first, count))


def _make_xts_decryptor(key: bytes, iv_mode: str, sector_size: int) -> Decrypt:
    data_key, tweak_key = _Aes(key[: len(key) // 2]), _Aes(key[len(key) // 2 :])
    ivs = _make_ivs(iv_mode, b"", sector_size)

    def decrypt(data: bytes, first: int) -> bytes:
        tweaks = _compute_xts_tweaks(
            tweak_key.encrypt(ivs(first, len(data) // sector_size)), sector_size // _BLOCK_SIZE
        )
        return _xor(data_key.decrypt(_xor(data, tweaks)), tweaks)

    return decrypt


def _make_cbc_decryptor(key: bytes, iv_mode: str, sector_size: int) -> Decrypt:
    aes = _Aes(key)
    ivs = _make_ivs(iv_mode, key, sector_size)
    words = sector_size // 8

    def decrypt(data: bytes, first: int) -> bytes:
        previous_ciphertext = array("Q", bytes(_BLOCK_SIZE) + data[:-_BLOCK_SIZE])
        starts = array("Q", ivs(first, len(data) // sector_size))
        previous_ciphertext[0::words], previous_ciphertext[1::words] = starts[0::2], starts[1::2]
        return _xor(aes.decrypt(data), previous_ciphertext.tobytes())

    return decrypt


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "little") ^ int.from_bytes(other, "little")).to_bytes(len(one), "little")


def _compute_xts_tweaks(first: bytes, blocks: int) -> bytes:
    """The tweaks of all blocks of all sectors, from those of the first blocks: each is twice the previous one."""
    high = _high_bits(len(first) // _BLOCK_SIZE)
    current = int.from_bytes(first, "little")
    tweaks = array("Q", bytes(len(first) * blocks))
    for block in range(blocks):
        words = array("Q", current.to_bytes(len(first), "little"))
        tweaks[2 * block :: 2 * blocks], tweaks[2 * block + 1 :: 2 * blocks] = words[0::2], words[1::2]
        carry = current & high
        current = (current ^ carry) << 1 ^ (carry >> 127) * _POLYNOMIAL
    return tweaks.tobytes()


@lru_cache(64)
def _high_bits(lanes: int) -> int:
    """The highest bit of each lane."""
    return int.from_bytes((1 << 127).to_bytes(_BLOCK_SIZE, "little") * lanes, "little")
