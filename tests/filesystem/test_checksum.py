from __future__ import annotations

from ltsp.filesystem import checksum
from ltsp.storage.crc32c import crc32c, crc32c_inverted


def test_only_the_lower_half_may_be_kept():
    whole = crc32c(b"data", 5)
    assert checksum.matches_ext4(b"data", whole, 5)
    assert checksum.matches_ext4(b"data", whole & 0xFFFF, 5, bits=16)
    assert not checksum.matches_ext4(b"data", whole & 0xFFFF ^ 1, 5, bits=16)


def test_a_checksum_within_the_data_counts_as_zeros():
    data = b"some" + bytes(4) + b"data"
    whole = b"some" + crc32c_inverted(data).to_bytes(4, "little") + b"data"
    assert checksum.matches_xfs(whole, 4)
    assert not checksum.matches_xfs(whole[:-1] + b"A", 4)
