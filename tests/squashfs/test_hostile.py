"""R10: whatever an image holds, reading it ends soon, in little memory, and with a FormatError if not with a tree."""

from __future__ import annotations

import os

import pytest

from corpus.mutant_runs import survive
from squashfs import mutants, seeds

pytestmark = [pytest.mark.oracle, pytest.mark.root]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return seeds.make(tmp_path_factory.mktemp("seeds"))


def test_2000_mutants_are_read_or_refused(images, chance, tmp_path):
    fates = survive(mutants.__file__, images, chance.randrange(2**32), 2000, tmp_path)
    assert sum(fates.values()) == 2000
    # About a tenth is read; with half of that, chance alone does not fail the test in a lifetime.
    assert fates["refused"] > 100
    assert fates["read"] > 100


@pytest.mark.torture
def test_100000_mutants_are_read_or_refused(images, chance, tmp_path, record_property):
    count = max(int(os.environ.get("LTSP_TORTURE", "0")), 100_000)
    fates = survive(mutants.__file__, images, chance.randrange(2**32), count, tmp_path)
    assert sum(fates.values()) == count
    record_property("R10", f"{count} mutants of squashfs images: {fates}")
