from __future__ import annotations

import pytest

from corpus import kitchen_sink
from ltsp.storage.blocks import FileBlocks


@pytest.fixture(scope="session")
def nasty_root(tmp_path_factory):
    """A directory with everything that ever went wrong, to copy into file systems."""
    return kitchen_sink.build(
        tmp_path_factory.mktemp("nasty") / "root", kitchen_sink.KitchenSinkSize(entries=1500, owners=30)
    )


@pytest.fixture
def blocks():
    """Files as volumes, closed after the test."""
    opened = []

    def of(path):
        opened.append(path.open("rb", buffering=0))
        return FileBlocks.of(opened[-1])

    yield of
    for one in opened:
        one.close()
