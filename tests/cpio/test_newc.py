"""Archives are read back by a test reader that follows init/initramfs.c."""

from __future__ import annotations

import io
import stat
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
from hypothesis import given

from corpus import tree_text
from corpus.dict_tree import make_tree
from corpus.tree_strategies import Sparse, trees
from ltsp.cpio.newc import CpioResult, write_archive
from ltsp.errors import FileChanged, FileUnreadable, LtspError
from ltsp.tree.content import Bytes
from ltsp.tree.name import encode
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo, File, Metadata, Socket, Symlink
from ltsp.tree.tree import Tree

FIELDS = ("inode", "mode", "uid", "gid", "links", "mtime", "size", "_", "_", "major", "minor", "namesize", "_")


@dataclass(frozen=True)
class Found:
    name: bytes
    inode: int
    mode: int
    uid: int
    gid: int
    links: int
    mtime: int
    major: int
    minor: int
    data: bytes


def written(tree: Tree) -> tuple[bytes, CpioResult]:
    output = io.BytesIO()
    done = write_archive(tree, output)
    return output.getvalue(), done


def entries(archive: bytes) -> list[Found]:
    found = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = dict(
            zip(FIELDS, (int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)), strict=True)
        )
        name = archive[at + 110 : at + 110 + numbers["namesize"] - 1]
        at += 110 + numbers["namesize"]
        at += -at % 4
        data = archive[at : at + numbers["size"]]
        assert len(data) == numbers["size"]
        at += numbers["size"]
        at += -at % 4
        if name == b"TRAILER!!!":
            assert at == len(archive)
            return found
        fields = ("inode", "mode", "uid", "gid", "links", "mtime", "major", "minor")
        found.append(Found(name, *(numbers[field] for field in fields), data))


def one(tree: Tree, name: bytes) -> Found:
    (found,) = (entry for entry in entries(written(tree)[0]) if entry.name == name)
    return found


def test_an_archive_is_the_bytes_that_the_format_says():
    tree = Tree(Directory(Metadata(0o755, 1, 2, 3), {"a": File(Metadata(0o640, 10, 11, 12), Bytes(b"hello"))}))
    assert written(tree)[0] == (
        b"070701" b"00000001" b"000041ED" b"00000001" b"00000002" b"00000002" b"00000003" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000002" b"00000000" b".\0"
        b"070701" b"00000002" b"000081A0" b"0000000A" b"0000000B" b"00000001" b"0000000C" b"00000005"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000002" b"00000000" b"a\0"
        b"hello\0\0\0"
        b"070701" b"00000000" b"00000000" b"00000000" b"00000000" b"00000001" b"00000000" b"00000000"
        b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000" b"TRAILER!!!\0\0\0\0"
    )  # fmt: skip


def test_every_kind_of_node_has_its_type_and_what_belongs_to_it():
    tree = tree_text.parse(
        "d dev 755 0 0 1\nc dev/console 600 0 5 1 5:1\nb dev/sda 660 0 6 1 8:0\np dev/p 600 0 0 1\n"
        "s dev/s 777 0 0 1\nl dev/l 777 0 0 1 ../etc/x"
    )
    console, disk = one(tree, b"dev/console"), one(tree, b"dev/sda")
    assert (console.mode, console.major, console.minor, console.gid) == (stat.S_IFCHR | 0o600, 5, 1, 5)
    assert (disk.mode, disk.major, disk.minor) == (stat.S_IFBLK | 0o660, 8, 0)
    assert one(tree, b"dev/p").mode == stat.S_IFIFO | 0o600
    assert one(tree, b"dev/s").mode == stat.S_IFSOCK | 0o777
    assert one(tree, b"dev/l").data == b"../etc/x"
    assert one(tree, b".").mode == stat.S_IFDIR | 0o755


def test_names_come_in_the_order_of_their_bytes_a_directory_before_what_is_in_it():
    tree = make_tree({"b/\udcff": "", "b/é": "", "b/a": "", "a": "", "c": ""})
    names = [entry.name for entry in entries(written(tree)[0])]
    assert names == [b".", b"a", b"b", b"b/a", "b/é".encode(), b"b/\xff", b"c"]


def test_the_data_of_a_file_with_several_names_come_with_the_first():
    shared = File(Metadata(0o755), Bytes(b"data"))
    tree = make_tree({"init": shared, "ltsp/init": shared})
    first, second = one(tree, b"init"), one(tree, b"ltsp/init")
    assert (first.data, second.data) == (b"data", b"")
    assert first.inode == second.inode
    assert first.links == second.links == 2


def test_directories_that_are_present_are_not_written():
    tree, output = make_tree({"usr/lib/hook": "data", "usr/own/file": ""}), io.BytesIO()
    write_archive(tree, output, {"usr", "usr/lib"})
    assert [entry.name for entry in entries(output.getvalue())] == [b".", b"usr/lib/hook", b"usr/own", b"usr/own/file"]


def test_devices_with_several_names_are_linked_and_symbolic_links_are_not():
    device, link = Device(Metadata(0o600), DeviceKind.CHARACTER, 5, 1), Symlink(Metadata(0o777), "x")
    tree = make_tree({"a": device, "b": device, "l": link, "m": link})
    assert one(tree, b"a").inode == one(tree, b"b").inode
    assert one(tree, b"l").inode != one(tree, b"m").inode
    assert one(tree, b"l").data == one(tree, b"m").data == b"x"
    assert one(tree, b"m").links == 1
    assert written(tree)[1].split_symlinks == 1


def test_a_file_with_the_name_of_the_trailer_does_not_end_the_archive():
    tree = make_tree({"TRAILER!!!": "early", "z": "late"})
    assert [entry.name for entry in entries(written(tree)[0])] == [b".", b"./TRAILER!!!", b"z"]


def test_times_are_clamped_to_32_bits_and_lost_attributes_are_counted():
    attributes = (("security.capability", b"1"), ("user.a", b"2"))
    tree = make_tree(
        {
            "early": File(Metadata(0o644, mtime=-5), Bytes(b"")),
            "late": File(Metadata(0o644, mtime=2**32, xattrs=attributes), Bytes(b"")),
            "last": Fifo(Metadata(0o644, mtime=2**32 - 1)),
            "socket": Socket(Metadata(0o644, mtime=1)),
        }
    )
    archive, done = written(tree)
    assert (one(tree, b"early").mtime, one(tree, b"late").mtime, one(tree, b"last").mtime) == (0, 2**32 - 1, 2**32 - 1)
    assert done == CpioResult(entries=5, size=len(archive), xattrs=2, clamped_times=2)


def nested(length: int) -> Tree:
    """A file whose path has that many bytes."""
    names = ["d" * 200] * (length // 201)
    return make_tree({"/".join([*names, "f" * (length - 201 * len(names))]): ""})


def test_a_path_of_4095_bytes_is_the_longest():
    assert len(entries(written(nested(4095))[0])[-1].name) == 4095
    with pytest.raises(LtspError, match="path of more than 4095 bytes"):
        written(nested(4096))


def test_a_target_of_4095_bytes_is_the_longest():
    assert len(one(make_tree({"l": "-> " + "t" * 4095}), b"l").data) == 4095
    with pytest.raises(LtspError, match="the target of the link /l is longer than 4095 bytes"):
        written(make_tree({"l": "-> " + "t" * 4096}))


def test_a_file_of_4_gib_is_refused_before_anything_is_written():
    output = io.BytesIO()
    with pytest.raises(LtspError, match="/zz is 4 GiB large"):
        write_archive(make_tree({"a": "x", "zz": File(Metadata(0o644), Sparse(1 << 32))}), output)
    assert output.getvalue() == b""


@dataclass
class Live:
    """A file that changed since the scan."""

    size: int = 9
    data: bytes = b"nine byte"
    is_settled: bool = True
    error: OSError | None = None
    mtime: int | None = 7

    def open(self):
        if self.error is not None and not self.size:
            raise self.error
        return nullcontext(self)

    def read(self, size: int) -> bytes:
        if self.error is not None:
            raise self.error
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def is_consistent(self) -> bool:
        return self.is_settled


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (Live(is_settled=False), FileChanged("/a changed while it was being read")),
        (Live(data=b"less"), FileChanged("/a changed while it was being read")),
        (Live(error=OSError(5, "Input/output error")), FileUnreadable("cannot read /a: Input/output error")),
        (Live(size=0, error=OSError(13, "Permission denied")), FileUnreadable("cannot read /a: Permission denied")),
    ],
    ids=["another one after reading", "shorter", "a disk that fails", "a file that may not be read"],
)
def test_a_file_that_cannot_be_read_as_it_was_seen_is_an_error(content, error):
    with pytest.raises(type(error), match=error.message):
        written(make_tree({"a": File(Metadata(0o644), content)}))


def test_a_file_that_was_replaced_has_the_time_of_what_was_read():
    assert one(make_tree({"a": File(Metadata(0o644, mtime=1), Live())}), b"a").mtime == 7


@given(trees())
def test_every_tree_comes_back(tree):
    try:
        archive, done = written(tree)
    except LtspError as error:
        assert "more than 4095 bytes" in str(error)  # noqa: PT017 - the trees have such paths and targets too
        return
    assert len(archive) % 4 == 0, "another one can be loaded behind it"
    found = entries(archive)
    nodes = [("", tree.root), *tree.walk()]
    assert [entry.name.removeprefix(b"./") for entry in found] == [encode(path) or b"." for path, _ in nodes]
    assert done.entries == len(nodes)
    inodes: dict[int, int] = {}
    for (path, node), entry in zip(nodes, found, strict=True):
        metadata = node.metadata
        assert (stat.S_IMODE(entry.mode), entry.uid, entry.gid) == (metadata.mode, metadata.uid, metadata.gid), path
        assert entry.mtime == min(max(metadata.mtime, 0), 2**32 - 1)
        if isinstance(node, File) and id(node) not in inodes:
            with node.content.open() as stream:
                assert entry.data == stream.read(node.content.size)
        if not isinstance(node, Symlink):
            assert inodes.setdefault(id(node), entry.inode) == entry.inode
    assert len(set(inodes.values())) == len(inodes)
