"""The kind of a volume or file by its magic numbers, and the messages for unsupported kinds."""

from __future__ import annotations

import pytest

from ltsp.disk import probe
from ltsp.sandbox.disk_session import _READERS
from ltsp.storage.blocks import MemoryBlocks

READ = frozenset(_READERS)
"""By our own readers, in any case."""
KINDS = {kind for _, _, kind in (*probe._MAGICS, *probe._DISTANT_MAGICS, *probe.FILE_MAGICS)}


def test_each_detected_format_has_its_own_name():
    assert probe.FORMATS.keys() >= KINDS
    names = [each.name for each in probe.FORMATS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", sorted(probe.FORMATS.keys() - READ))
def test_each_unsupported_format_has_a_remedy(kind):
    assert probe.get_remedy(kind)


@pytest.mark.parametrize("kind", sorted(READ))
def test_supported_formats_need_no_remedy(kind):
    assert not probe.get_remedy(kind)


@pytest.mark.parametrize(("place", "magic", "kind"), [*probe._MAGICS, *probe._DISTANT_MAGICS])
def test_each_magic_number_identifies_its_format(place, magic, kind):
    data = bytearray(3 << 20)
    data[place : place + len(magic)] = magic
    assert probe.detect_kind(MemoryBlocks(bytes(data))) == kind
