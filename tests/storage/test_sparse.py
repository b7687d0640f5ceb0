"""Data written with holes reads back unchanged."""

from __future__ import annotations

import os

from ltsp.storage.blocks import write_sparse

GRAIN = 64 << 10


def test_zeros_become_holes_and_all_else_is_written(tmp_path):
    data = b"a" * 100 + bytes(3 * GRAIN) + b"b" + bytes(GRAIN)
    with (tmp_path / "file").open("w+b", buffering=0) as file:
        assert write_sparse(file.fileno(), data, 4096) == 2 * GRAIN
        assert write_sparse(file.fileno(), b"", 0) == 0
        os.ftruncate(file.fileno(), 4096 + len(data))
        assert file.read() == bytes(4096) + data
        assert os.fstat(file.fileno()).st_blocks * 512 < 4 * GRAIN
