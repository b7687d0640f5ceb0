"""R10: whatever a disk holds, reading it ends soon, in little memory, and with an error that names what is wrong."""

from __future__ import annotations

import os

import pytest

from corpus.mutant_runs import survive
from disk import mutants, seeds

pytestmark = pytest.mark.oracle

PARSERS = ("qcow2", "vmdk", "vdi", "vhdx", "vhd", "mbr", "gpt", "md", "lvm", "luks", "compressed")
"""Each seed is of one of these, whose name its directory begins with."""


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    return seeds.make(tmp_path_factory.mktemp("seeds"))


def test_1000_mutants_are_read_or_refused(disks, chance, tmp_path):
    fates = survive(mutants.__file__, disks, chance.randrange(2**32), 1000, tmp_path)
    assert sum(fates.values()) == 1000
    assert fates["refused"] > 50
    assert fates["read"] > 50


def parser(seed):
    if seed.name in {"gzip", "xz"}:
        return "compressed"
    return next(kind for kind in PARSERS if seed.name.startswith(kind))


def test_each_seed_is_of_a_parser(disks):
    assert {parser(seed) for seed in disks} == set(PARSERS)


@pytest.mark.torture
@pytest.mark.parametrize("kind", PARSERS)
def test_100000_mutants_are_read_or_refused(kind, disks, chance, tmp_path, record_property):
    count = max(int(os.environ.get("LTSP_TORTURE", "0")), 100_000)
    chosen = [each for each in disks if parser(each) == kind]
    fates = survive(mutants.__file__, chosen, chance.randrange(2**32), count, tmp_path)
    assert sum(fates.values()) == count
    record_property("R10", f"{count} mutants of disks ({kind}): {fates}")
