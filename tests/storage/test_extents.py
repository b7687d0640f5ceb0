from __future__ import annotations

import pytest

from ltsp.disk.blocks import FileBlocks, InMemory, Run, Scattered, Unpacked, Window
from ltsp.storage.extents import HOLE, Extent, NotInFiles, extents, joined


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    with (tmp_path / "file").open("rb") as opened:
        yield FileBlocks.of(opened)


def test_windows_and_runs_lead_to_places_in_the_file(file):
    runs = {
        0: Run(10, file, 500),
        10: Run(10, file, 510),
        20: Run(5),
        25: Run(5),
        30: Run(10, Window(file, 100, 50), 7),
    }
    scattered = Scattered(40, lambda offset, _size: runs[offset])
    assert joined(extents(scattered, 0, 40), 9) == [
        Extent(file.descriptor, 500, 20),
        Extent(HOLE, 0, 10),
        Extent(file.descriptor, 107, 10),
    ]


def test_what_is_made_or_lies_beyond_the_end_lies_in_no_file(file):
    def never():
        raise AssertionError

    for blocks in (InMemory(b"x" * 10), Unpacked(10, never), Window(file, 995, 10), Window(InMemory(b""), 0, 10)):
        with pytest.raises(NotInFiles):
            list(extents(blocks, 0, 10))
    with pytest.raises(NotInFiles):
        list(extents(file, -1, 5))


def test_too_many_pieces_are_not_listed():
    pieces = [Extent(5, place, 1) for place in range(0, 20, 2)]
    assert joined(iter(pieces), 10) == pieces
    with pytest.raises(NotInFiles):
        joined(iter(pieces), 9)
