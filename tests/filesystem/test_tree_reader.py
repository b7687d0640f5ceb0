"""The tree of an artificial file system, with content that no mkfs would write."""

from __future__ import annotations

import pytest

from ltsp.errors import FormatError, SourceError
from ltsp.filesystem.tree_reader import FilesystemLimits, FilesystemTreeReader
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.selection import Inclusion, select_all

METADATA = Metadata(0o644)


class MadeUp:
    """Numbers are those of directories where they have entries, else those of files."""

    def __init__(self, entries):
        self.names = entries
        self.asked = []

    def node(self, number):
        self.asked.append(number)
        if number in self.names:
            return Directory(METADATA)
        if number < 0:
            raise SourceError("it is encrypted", "do this")
        return File(METADATA, Bytes(b""))

    def entries(self, number, allowance):
        allowance.count_directory_bytes(100)
        yield from self.names[number]


def grown(entries, selection=select_all, volume=10_000):
    return FilesystemTreeReader(MadeUp(entries), FilesystemLimits.of(volume), selection).tree(1)


def test_names_of_one_inode_share_its_node():
    tree = grown({1: [(b"a", 5), (b"b", 5), (b"d", 2)], 2: [(b"c", 5)]})
    assert tree.get("a") is tree.get("b") is tree.get("d/c")


@pytest.mark.parametrize(
    "entries",
    [
        {1: [(b"a", 1)]},
        {1: [(b"a", 2)], 2: [(b"b", 1)]},
        {1: [(b"a", 2), (b"b", 2)], 2: []},
        {1: [(b"a", 2), (b"b", 3)], 2: [(b"c", 3)], 3: []},
    ],
    ids=["itself", "its parent", "twice in one", "twice in two"],
)
def test_a_directory_has_one_name(entries):
    with pytest.raises(FormatError, match="a hard link to a directory"):
        grown(entries)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 256])
def test_an_invalid_name_is_damage(name):
    with pytest.raises(FormatError, match="directory /d: it has an entry with the invalid name"):
        grown({1: [(b"d", 2)], 2: [(name, 3)]})


def test_two_entries_of_one_name_are_damage():
    with pytest.raises(FormatError, match=r"two entries named a\\x1b"):
        grown({1: [(b"a\x1b", 2), (b"a\x1b", 3)]})


def test_the_root_is_a_directory():
    with pytest.raises(FormatError, match="the root of the file system is not a directory"):
        grown({2: []})


def test_directories_that_overlap_are_damage():
    """Each is read once, so that together they cannot be larger than the volume."""
    many = {1: [(b"%d" % number, number) for number in range(2, 300)], **{number: [] for number in range(2, 300)}}
    with pytest.raises(FormatError, match="some overlap"):
        grown(many, volume=20_000)


def test_paths_without_end_are_damage():
    chain = {number: [(b"d" * 200, number + 1)] for number in range(1, 200)}
    with pytest.raises(FormatError, match="longer than 16384 bytes"):
        grown(chain, volume=1 << 20)


def test_more_names_than_a_volume_can_hold_are_damage():
    crowd = {1: [(b"%d" % number, 2) for number in range(1_000_000)]}
    with pytest.raises(FormatError, match="far more files and names"):
        grown(crowd)


def test_what_is_left_out_is_not_looked_into():
    entries = {1: [(b"kept", 2), (b"emptied", 3), (b"gone", 4), (b"file", 5)], 2: [(b"x", 6)], 3: [(b"x", -1)], 4: []}
    takes = {"emptied": Inclusion.EMPTIED, "gone": Inclusion.NOTHING, "file": Inclusion.NOTHING}
    made_up = MadeUp(entries)
    tree = FilesystemTreeReader(
        made_up, FilesystemLimits.of(10_000), lambda path, _: takes.get(path, Inclusion.ALL)
    ).tree(1)
    assert [path for path, _ in tree.walk()] == ["emptied", "kept", "kept/x"]
    assert -1 not in made_up.asked


def test_read_errors_name_the_directory_and_the_remedy():
    with pytest.raises(SourceError, match="directory /d: it is encrypted") as raised:
        grown({1: [(b"d", 2)], 2: [(b"x", -1)]})
    assert raised.value.hint == "do this"


def test_the_filter_is_called_once_for_all_directories_of_a_level():
    class Asking:
        def __init__(self):
            self.asked = []

        def __call__(self, path, _directory):
            return Inclusion.EMPTIED if path == "b" else Inclusion.ALL

        def entered(self, paths):
            self.asked.append(sorted(paths))
            return [path != "a" for path in paths]

    made_up = MadeUp({1: [(b"a", 2), (b"b", 3), (b"c", 4)], 2: [(b"x", -1)], 3: [(b"x", -1)], 4: [(b"d", 6)], 6: []})
    asking = Asking()
    tree = FilesystemTreeReader(made_up, FilesystemLimits.of(10_000), asking).tree(1)
    assert asking.asked == [["a", "c"], ["c/d"]]
    assert [path for path, _ in tree.walk()] == ["a", "b", "c", "c/d"]
