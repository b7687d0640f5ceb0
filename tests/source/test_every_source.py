"""Each kind of source, made of one directory by the programs that people have, is that directory again.

The table's columns are what a disk is kept in, how it is divided, and the file system; archives and container images
come after them. What a format cannot hold stands beside it as data (`corpus.losses`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from corpus import archive_kinds, disk_formats, disk_layouts, file_systems, format_limits, kitchen_sink, tree_snapshot
from corpus.format_limits import Loss
from ltsp.errors import SourceError
from ltsp.source.find import find_source
from ltsp.source.spec import DiskOptions
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from ltsp.tree.selection import select_all

pytestmark = [pytest.mark.oracle, pytest.mark.root]

WATCH = Path(__file__).parent.parent / "corpus/late_imports"
SMALL = kitchen_sink.KitchenSinkSize(entries=300, owners=30, depth=40, large=9 * kitchen_sink.BLOCK + 17)
PLAIN = "ext4 of Debian"


@dataclass(frozen=True, slots=True)
class Disk:
    """A row of the table: what the disk is kept in, how it is divided, and what its file system is."""

    format: str = "raw"
    layout: str = "no table"
    shape: str = PLAIN

    def __str__(self) -> str:
        return f"{self.format}; {self.layout}; {self.shape}"

    @property
    def kind(self) -> file_systems.Shape:
        return file_systems.SHAPES[self.shape]

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self.kind.losses

    @property
    def readers(self) -> Sequence[str]:
        """As --reader has them."""
        return ("kernel",) if self.kind.lacks else ("user", "kernel")

    def make(self, origin: Origin, at: Path) -> str:
        part = origin.volume(self.shape, at)
        disk = disk_layouts.LAYOUTS[self.layout](part, at / "disk.raw")
        made = disk_formats.FORMATS[self.format](disk, at)
        return f"{made}{self.kind.argument}"


@dataclass(frozen=True, slots=True)
class Archive:
    kind: str

    def __str__(self) -> str:
        return self.kind

    @property
    def losses(self) -> tuple[Loss, ...]:
        return archive_kinds.KINDS[self.kind].losses

    @property
    def readers(self) -> Sequence[str]:
        return ("user",)

    def make(self, origin: Origin, at: Path) -> str:
        return archive_kinds.KINDS[self.kind].make(origin.tree, at)


Row = Disk | Archive


def _is_sampled(row: Row) -> bool:
    """Whether each run of the tests has it by the kernel, too."""
    shapes = {"ext3", "xfs", "btrfs by zstd", "btrfs, found in subvolume root", "ISO 9660 with Rock Ridge"}
    return isinstance(row, Disk) and (row.shape in shapes or row in {Disk("qcow2", "GPT"), Disk(layout="LVM")})


_SPLIT = {"VMDK in sparse files", "VMDK in flat files"}
"""Of 2 GiB each, with the file system over the border."""
ROWS: list[Row] = [
    *(Disk(form, "GPT, over the border of 2 GiB" if form in _SPLIT else "GPT") for form in disk_formats.FORMATS),
    *(Disk(layout=layout) for layout in disk_layouts.LAYOUTS if layout != "GPT"),
    *(Disk(shape=shape) for shape in file_systems.SHAPES if shape != PLAIN),
    Disk("qcow2 by zstd", "LVM over two partitions", "xfs"),
    Disk("VHDX that grows", "MBR, a logical partition", "btrfs by zstd"),
    Disk("VMDK as a stream", "GPT", "btrfs, found in subvolume root"),
    Disk("raw in zstd", "RAID1 of version 1.2", "xfs"),
    *(Archive(kind) for kind in archive_kinds.KINDS),
]
OF_DEBIAN: list[Row] = [
    Disk("qcow2", "LVM", PLAIN),
    Disk("VMDK as a stream", "GPT", "btrfs by zstd"),
    Disk("raw", "MBR, a logical partition", "xfs"),
    Archive("a tar in zstd on standard input"),
]
"""Of a whole Debian root in each run of the tests; the other rows only in long ones."""


class Origin:
    """A directory, what is in it, and file systems with it, each made once."""

    def __init__(self, tree: Path, scratch: Path) -> None:
        self.tree = tree
        self.scratch = scratch
        self.holds = tree_snapshot.directory(tree)
        self.megabytes = file_systems.room(tree)

    def volume(self, name: str, at: Path) -> Path:
        shape = file_systems.SHAPES[name]
        if name != PLAIN:
            tree = format_limits.without_refused(self.tree, self.holds, shape.losses, at / "tree")
            return file_systems.made(shape, tree, at / "volume", self.megabytes)
        kept = self.scratch / "volume"
        if not kept.exists():
            file_systems.made(shape, self.tree, kept, self.megabytes)
        return kept


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Origin]:
    """Everything that ever went wrong, in what is just so a system."""
    at = tmp_path_factory.mktemp("small")
    tree = kitchen_sink.build(at / "tree", SMALL)
    for name in ("proc", "usr", "var/lib", "etc/nested"):
        (tree / name).mkdir(parents=True)
    for name in ("etc/passwd", "etc/nested/file", "usr/file", "var/lib/file"):
        (tree / name).write_text(f"{name}\n")
    os.utime(tree, (0, 987_654_321))
    yield Origin(tree, at)
    shutil.rmtree(at)


@pytest.fixture(scope="module")
def debian(debian_root, tmp_path_factory) -> Iterator[Origin]:
    at = tmp_path_factory.mktemp("debian")
    yield Origin(debian_root, at)
    shutil.rmtree(at)


@pytest.fixture
def at(tmp_path) -> Iterator[Path]:
    """A directory of which nothing is left: disks are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@contextmanager
def standard_input(path: str) -> Iterator[None]:
    before, opened = os.dup(0), os.open(path, os.O_RDONLY)
    os.dup2(opened, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(opened)


def read(row: Row, origin: Origin, at: Path, reader: str) -> tuple[list[str], set[str]]:
    """Differences, and the files of which holes are not stored."""
    argument = row.make(origin, at)
    with ExitStack() as opened:
        if isinstance(row, Archive) and archive_kinds.KINDS[row.kind].piped:
            opened.enter_context(standard_input(argument))
            argument = "-"
        source = find_source(argument, "/nowhere", name="lab", disks=DiskOptions(reader=reader))
        tree = opened.enter_context(source.open(select_all, Faults()))
        found = format_limits.differences(origin.holds, tree_snapshot.of_tree(tree), row.losses)
        files = ((path, node) for path, node in tree.walk() if isinstance(node, File))
        return found, {path for path, node in files if node.content.stored_size < node.content.size}


@pytest.fixture(autouse=True)
def _nothing_is_imported_once_it_is_confined(monkeypatch, tmp_path):
    """By the process that reads the source: later, it may be unable to."""
    seen = tmp_path / "late imports"
    monkeypatch.setenv("PYTHONPATH", str(WATCH))
    monkeypatch.setenv("LATE_IMPORTS", str(seen))
    yield
    assert not seen.exists() or seen.read_text() == ""


def cases(gate: Callable[[Row, str], bool]) -> list[ParameterSet]:
    """Each row with each reader that can read it: those that each run of the tests has, and others for long ones."""
    return [
        pytest.param(row, reader, id=f"{row}; {reader}", marks=() if gate(row, reader) else pytest.mark.torture)
        for row in ROWS
        for reader in row.readers
    ]


HOLES = {f"holes/{name}" for name in ("leading", "middle", "trailing", "nothing-but-a-hole")}


@pytest.mark.parametrize(("row", "reader"), cases(lambda row, reader: reader == row.readers[0] or _is_sampled(row)))
def test_the_nasty_tree_is_read_from_each_source(row, reader, small, at):
    try:
        found, with_holes = read(row, small, at, reader)
    except SourceError as error:
        by_chance = reader == "kernel" and isinstance(row, Disk) and row.kind.drivers
        if not by_chance or not re.search("this kernel does not support|the kernel cannot mount it", error.message):
            raise
        return
    assert found == []
    if isinstance(row, Disk) and row.kind.holes:
        assert with_holes >= HOLES


@pytest.mark.parametrize(("row", "reader"), cases(lambda row, reader: reader == "user" and row in OF_DEBIAN))
def test_a_debian_root_is_read_from_each_source(row, reader, debian, at, record_property):
    found, _with_holes = read(row, debian, at, reader)
    record_property("R6", f"{row}, by {reader}: {len(debian.holds):,} names, {len(found)} differences")
    assert found == []
