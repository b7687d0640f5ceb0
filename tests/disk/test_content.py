"""What a volume or file holds, by its magic numbers, and what is said where it is not read."""

from __future__ import annotations

import pytest

from ltsp.disk import content
from ltsp.disk.blocks import InMemory
from ltsp.source.disk_session import _READERS

READ = frozenset(_READERS)
"""By our own readers, in any case."""
KINDS = {kind for _, _, kind in (*content._MAGICS, *content._FAR, *content.FILES)}


def test_each_format_that_is_told_has_a_name_of_its_own():
    assert content.FORMATS.keys() >= KINDS
    names = [each.name for each in content.FORMATS.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", sorted(content.FORMATS.keys() - READ))
def test_each_format_that_is_not_read_has_a_remedy(kind):
    assert content.remedy(kind)


@pytest.mark.parametrize("kind", sorted(READ))
def test_what_is_always_read_needs_none(kind):
    assert not content.remedy(kind)


@pytest.mark.parametrize(("place", "magic", "kind"), [*content._MAGICS, *content._FAR])
def test_each_magic_number_tells_its_format(place, magic, kind):
    data = bytearray(3 << 20)
    data[place : place + len(magic)] = magic
    assert content.kind_of(InMemory(bytes(data))) == kind
