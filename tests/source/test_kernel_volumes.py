"""The second reader: what the kernel mounts is the same tree, and nothing of it is left behind."""

from __future__ import annotations

import pytest

from corpus import compare, nasty
from corpus.disks import partitioned
from corpus.system import make_system
from filesystem import laid_out
from ltsp.source.disk import Wishes
from ltsp.source.find import find
from ltsp.tree.faults import Faults
from ltsp.tree.selection import everything

pytestmark = [pytest.mark.root, pytest.mark.oracle]

SMALL = nasty.Extent(entries=300, owners=20, depth=20, large=(4 << 30) + 12345)


@pytest.fixture(scope="session")
def trouble(tmp_path_factory):
    """A small system with everything in it that ever went wrong."""
    root = make_system(tmp_path_factory.mktemp("trouble") / "root")
    nasty.build(root / "srv" / "nasty", SMALL)
    return root


def found(argument, reader):
    """The tree with all contents, and who read it."""
    source = find(str(argument), "/nowhere", disks=Wishes(reader=reader))
    with source.open(everything, Faults()) as tree:
        return compare.of_tree(tree), source.plan().reader


def same(argument):
    """The tree, which is the same through both readers."""
    (by_us, us), (by_kernel, kernel) = (found(argument, reader) for reader in ("user", "kernel"))
    assert (us, kernel) == ("user", "kernel")
    assert compare.differences(by_us, by_kernel) == []
    return by_kernel


def test_ext4_is_the_same_through_both(tmp_path, trouble):
    image = laid_out.formatted(tmp_path / "disk.img", 96 << 20, "mkfs.ext4", "-q", "-b", "4096", "-I", "256")
    shown = laid_out.filled(image, trouble)
    tree = same(partitioned(tmp_path / "vm.img", "gpt", [("type=linux", image)]))
    counted = [{path: compare.counted(entry) for path, entry in one.items()} for one in (shown, tree)]
    assert compare.differences(*counted) == []
