"""An image depends only on the tree and the options."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.tree_strategies import noise, text, trees
from corpus.tree_text import parse
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.data_writer import begins_group
from ltsp.squashfs.format import BLOCK_STORED, FragmentEntry
from ltsp.squashfs.reader import Image
from ltsp.squashfs.superblock import SquashfsSuperblock
from ltsp.tree.node import Directory, Metadata
from ltsp.tree.tree import Tree
from squashfs.write_helpers import file, tree, write_image

GOLDEN = Path(__file__).parent.parent / "golden"
NONE = Compression("none")
CHECKSUMS = {
    "layout, 4 KiB blocks": {"block_size": 4096},
    "layout, 128 KiB blocks": {"block_size": 131072},
    "layout, no attributes": {"block_size": 4096, "xattrs": False},
    "layout, some first": {"block_size": 4096, "sort_priorities": {"var/late": 9, "etc/b": 10, "bin/large": -1}},
}


def checksum(tree, path, **options):
    written = write_image(tree, path, **options)
    data = path.read_bytes()
    assert len(data) == written.size
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("name", CHECKSUMS)
def test_the_bytes_of_a_golden_tree_are_those_of_its_checksum(tmp_path, name):
    """Uncompressed, so that they are those of no version of a codec. A change of layout makes every old image new."""
    expected = dict(line.split("  ", 1)[::-1] for line in (GOLDEN / "layout.sha256").read_text().splitlines())
    golden = parse((GOLDEN / "layout.tree").read_text())
    assert checksum(golden, tmp_path / "image", compression=NONE, **CHECKSUMS[name]) == expected[name]


def backwards(directory: Directory) -> Directory:
    return Directory(
        directory.metadata,
        {
            name: backwards(node) if isinstance(node, Directory) else node
            for name, node in reversed(directory.entries.items())
        },
    )


@settings(max_examples=25)
@given(trees(), st.sampled_from([NONE, Compression("zstd", 1), Compression("gzip", 1)]))
def test_threads_and_the_order_of_readdir_do_not_matter(tmp_path_factory, tree, compression):
    directory = tmp_path_factory.mktemp("images")
    sums = {
        checksum(one, directory / "image", compression=compression, threads=threads)
        for threads in (1, 2, 8)
        for one in (tree, Tree(backwards(tree.root)))
    }
    assert len(sums) == 1


WRITE = """
import hashlib, os, sys
from pathlib import Path
from corpus.tree_text import parse
from squashfs.write_helpers import write_image
os.umask(int(sys.argv[3], 8))
image = Path(sys.argv[2])
write_image(parse(Path(sys.argv[1]).read_text()), image, threads=int(sys.argv[4]))
print(hashlib.sha256(image.read_bytes()).hexdigest())
"""


def test_locale_time_zone_umask_hash_seed_and_the_clock_do_not_matter(tmp_path):
    sums = set()
    for number, (locale, zone, umask, seed, threads) in enumerate(
        [("C", "UTC", "022", "0", "1"), ("C.UTF-8", "Asia/Kathmandu", "077", "1", "2"), ("POSIX", "", "000", "99", "8")]
    ):
        environment = os.environ | {
            "LC_ALL": locale,
            "TZ": zone,
            "PYTHONHASHSEED": seed,
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        call = [sys.executable, "-c", WRITE, str(GOLDEN / "layout.tree"), str(tmp_path / str(number)), umask, threads]
        sums.add(subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout)
        time.sleep(0.01)
    assert len(sums) == 1


def test_a_mark_begins_a_fragment_block_at_one_path_in_64():
    marked = sum(begins_group(f"usr/share/doc/package-{number}/copyright") for number in range(64_000))
    assert 900 < marked < 1100


def test_a_change_moves_fragments_up_to_the_next_mark_only(tmp_path):
    names = [f"file-{number:04}" for number in range(600)]
    before = {name: noise(50, at) for at, name in enumerate(names)}
    after = before | {names[300]: noise(51, 7)}
    write_image(tree(**before), tmp_path / "before", block_size=1 << 20, compression=NONE)
    write_image(tree(**after), tmp_path / "after", block_size=1 << 20, compression=NONE)
    old, new = stored_fragments(tmp_path / "before"), stored_fragments(tmp_path / "after")
    groups = len({at for at, name in enumerate(names) if not at or begins_group(name)})
    assert len(old) == len(new) == groups > 5
    [(one, other)] = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
    assert noise(50, 300) in one
    assert noise(51, 7) in other


def stored_fragments(path: Path) -> list[bytes]:
    """The fragment blocks of an image whose tables are not compressed."""
    data = path.read_bytes()
    superblock = SquashfsSuperblock.parse(data, len(data))
    table = int.from_bytes(data[superblock.fragment_table :][:8], "little") + 2
    size = FragmentEntry.layout.size
    entries = [FragmentEntry.unpack(data, table + size * index) for index in range(superblock.fragment_count)]
    return [data[entry.start : entry.start + (entry.stored & (BLOCK_STORED - 1))] for entry in entries]


def test_the_time_of_an_image_is_the_newest_of_its_files_unless_given(tmp_path):
    nodes = tree(a=file(b"", mtime=5), b=file(b"", mtime=2**33), c=file(b"", mtime=-9))
    for given_time, expected in ((None, 2**32 - 1), (77, 77), (-1, 0)):
        write_image(nodes, tmp_path / "image", time=given_time)
        with (tmp_path / "image").open("rb") as opened:
            assert Image.open(opened).superblock.mtime == expected


def test_files_that_come_first_share_no_block_with_others(tmp_path):
    contents = {f"f{number}": text(300, number) for number in range(20)}
    write_image(
        tree(**contents), tmp_path / "image", sort_priorities={"f7": 3, "f3": 9, "f5": -1, "none": 4}, compression=NONE
    )
    data = (tmp_path / "image").read_bytes()
    order = sorted(contents, key=lambda name: data.index(contents[name]))
    assert order[:2] == ["f3", "f7"]
    assert order[-1] == "f5"
    assert len(stored_fragments(tmp_path / "image")[0]) == 600
    assert len(stored_fragments(tmp_path / "image")[-1]) == 300


def test_images_are_padded_to_4_kib(tmp_path):
    done = write_image(tree(a=b"x"), tmp_path / "image")
    assert done.size % 4096 == 0


def test_a_node_under_two_names_is_one_inode_at_the_place_of_its_first_name(tmp_path):
    shared = file(b"shared")
    nested = Directory(Metadata(0o755), {"again": shared})
    done = write_image(tree(z=shared, a=nested), tmp_path / "image")
    assert done.inodes == 3
    assert done.source_bytes == 6
