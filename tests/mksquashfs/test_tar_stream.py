from __future__ import annotations

import io
import subprocess
import tarfile
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import pytest

from corpus import kitchen_sink, tree_snapshot
from ltsp.errors import FileUnreadable, FileVanished
from ltsp.mksquashfs.tar_stream import TarResult, write_tar
from ltsp.source.directory.directory import DirectorySource
from ltsp.tree.content import Bytes
from ltsp.tree.faults import Faults
from ltsp.tree.node import Directory, Fifo, File, Metadata, Node, Socket, Symlink
from ltsp.tree.selection import select_all
from ltsp.tree.tree import Tree

PLAIN = Metadata(0o644)


def tree(entries: dict[str, Node]) -> Tree:
    return Tree(Directory(Metadata(0o755), entries))


def streamed(source: Tree, faults: Faults | None = None, **options) -> tuple[tarfile.TarFile, TarResult]:
    output = io.BytesIO()
    done = write_tar(source, output, Faults() if faults is None else faults, **options)
    output.seek(0)
    return tarfile.open(fileobj=output, encoding="utf-8", errors="surrogateescape"), done


@dataclass(slots=True)
class LiveStream:
    """A file that changes: each reading gives the current version."""

    size: int
    data: bytes
    mtime: int | None = None
    is_settled: bool = True
    fails_at: int | None = None
    at: int = 0
    skipped: int = 0
    holes: dict[int, int] = field(default_factory=dict)

    def read(self, size: int) -> bytes:
        if self.fails_at is not None and self.at >= self.fails_at:
            raise OSError(5, "Input/output error")
        piece = self.data[self.at : self.at + size]
        self.at += len(piece)
        return piece

    def hole_size(self) -> int:
        return self.holes.get(self.at, 0)

    def skip(self, size: int) -> None:
        self.at += size
        self.skipped += size

    def is_consistent(self) -> bool:
        return self.is_settled


@dataclass(slots=True)
class Live:
    """Content that gives one prepared stream after the other, the last one for ever."""

    streams: list[LiveStream | Exception]
    size: int = 0
    opened: int = 0

    def open(self):
        now = self.streams[min(self.opened, len(self.streams) - 1)]
        self.opened += 1
        if isinstance(now, Exception):
            raise now
        return nullcontext(replace(now))


LARGE = 9 << 20


def test_the_first_path_in_order_holds_the_data_and_the_others_are_links_to_it():
    shared = File(PLAIN, Bytes(b"data"))
    archive, done = streamed(tree({"b": shared, "a": Directory(Metadata(0o755), {"z": shared}), "c": shared}))
    assert [(m.name, m.type, m.linkname) for m in archive] == [
        ("a", tarfile.DIRTYPE, ""),
        ("a/z", tarfile.REGTYPE, ""),
        ("b", tarfile.LNKTYPE, "a/z"),
        ("c", tarfile.LNKTYPE, "a/z"),
    ]
    assert (done.entries, done.source_bytes) == (4, 4)


def test_files_with_a_priority_come_first_and_directories_before_them():
    names = {name: File(PLAIN, Bytes(name.encode())) for name in ("a", "b", "c")}
    archive, _ = streamed(
        tree({**names, "d": Directory(Metadata(0o755), {"e": names["a"]})}), sort_priorities={"c": 2, "b": -1}
    )
    assert archive.getnames() == ["d", "c", "a", "d/e", "b"]


def test_what_a_stream_cannot_hold_is_counted():
    acl = ("system.posix_acl_access", b"x")
    odd = ("user.a=b", b"x")
    nodes = {
        "old": File(Metadata(0o644, mtime=-1, xattrs=(acl, odd, ("user.kept", b""))), Bytes(b"")),
        "new": Fifo(Metadata(0o644, mtime=2**32)),
        "socket": Socket(PLAIN),
        "link": Symlink(Metadata(0o777, xattrs=(("system.other", b""),)), "x"),
    }
    archive, done = streamed(tree(nodes))
    assert done == TarResult(3, 0, sockets=1, clamped_times=2, posix_acls=1, foreign_attributes=2)
    assert archive.getmember("old").mtime == 0
    assert archive.getmember("new").mtime == 2**32 - 1
    assert set(archive.getmember("old").pax_headers) == {"SCHILY.xattr.user.kept"}


def test_a_file_that_is_stable_when_read_again_is_not_a_fault():
    live = Live([LiveStream(3, b"on", is_settled=False), LiveStream(4, b"then", mtime=77)])
    faults = Faults()
    archive, _ = streamed(tree({"a": File(PLAIN, live)}), faults)
    assert archive.extractfile("a").read() == b"then"
    assert archive.getmember("a").mtime == 77
    assert not faults


def test_a_file_that_keeps_changing_is_stored_and_reported():
    live = Live([LiveStream(4, b"then", is_settled=False)])
    faults = Faults()
    archive, _ = streamed(tree({"a": File(PLAIN, live)}), faults)
    assert archive.extractfile("a").read() == b"then"
    assert (faults.changed, live.opened) == (["a"], 4)


@pytest.mark.parametrize("there", [LARGE - 5_000_000, LARGE, LARGE + 5])
def test_a_large_file_has_the_promised_size_whatever_happens_to_it(there):
    live = Live([LiveStream(LARGE, b"x" * there, is_settled=there == LARGE)])
    faults = Faults()
    source = tree({"a": File(PLAIN, live), "b": File(PLAIN, Bytes(b"after"))})
    archive, done = streamed(source, faults)
    assert archive.extractfile("a").read() == (b"x" * there).ljust(LARGE, b"\0")[:LARGE]
    assert archive.extractfile("b").read() == b"after"
    assert faults.changed == ([] if there == LARGE else ["a"])
    assert done.source_bytes == min(there, LARGE) + 5


def test_a_hole_is_passed_over_and_sent_as_zeros():
    data = LiveStream(LARGE, bytes(LARGE - 1) + b"x", holes={0: LARGE - 100})
    taken: list[int] = []
    archive, _ = streamed(tree({"a": File(PLAIN, Live([data]))}), progress=taken.append)
    assert archive.extractfile("a").read() == bytes(LARGE - 1) + b"x"
    assert sum(taken) == LARGE


def test_a_file_that_is_gone_is_left_out_and_the_next_name_tried():
    content = Live([FileVanished("gone"), LiveStream(1, b"x")])
    shared = File(PLAIN, content)
    faults = Faults()
    archive, _ = streamed(tree({"a": shared, "b": shared, "c": shared}), faults)
    assert [(m.name, m.linkname) for m in archive] == [("b", ""), ("c", "b")]
    assert faults.vanished == ["a"]


def test_an_unreadable_file_ends_the_stream_or_is_left_out_on_demand():
    source = tree({"a\n": File(PLAIN, Live([PermissionError(13, "Permission denied")]))})
    with pytest.raises(FileUnreadable, match=r"cannot read /a\\n: Permission denied"):
        streamed(source)
    faults = Faults(skip_unreadable=True)
    archive, _ = streamed(source, faults)
    assert archive.getnames() == []
    assert faults.unreadable == [("a\n", "Permission denied")]


def test_a_file_that_fails_after_its_header_ends_the_stream_always():
    """The announced size cannot be changed, and zeros in place of data would be wrong."""
    source = tree({"a": File(PLAIN, Live([LiveStream(LARGE, bytes(LARGE), fails_at=1 << 20)]))})
    with pytest.raises(FileUnreadable, match="cannot read /a to its end: Input/output error"):
        streamed(source, Faults(skip_unreadable=True))


class Full:
    def write(self, _data: bytes) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("size", [1, LARGE])
def test_a_write_error_is_not_reported_as_a_read_error(size):
    faults = Faults(skip_unreadable=True)
    with pytest.raises(OSError, match="No space left"):
        write_tar(tree({"a": File(PLAIN, Bytes(bytes(size)))}), Full(), faults)
    assert not faults


@pytest.mark.root
@pytest.mark.oracle
def test_gnu_tar_lays_out_the_tree_of_nasty_cases_again(tmp_path):
    root = kitchen_sink.build(tmp_path / "source", replace(kitchen_sink.QUICK, entries=200, owners=50, large=40 << 20))
    target = tmp_path / "target"
    target.mkdir()
    call = ["tar", "-xpf", "-", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--warning=no-timestamp"]
    with DirectorySource("a", str(root), "a directory").open(select_all, Faults()) as source:
        unpack = subprocess.Popen(call, cwd=target, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        done = write_tar(source, unpack.stdin, Faults())
    _, said = unpack.communicate()
    assert (unpack.returncode, said) == (0, b"")
    wanted = tree_snapshot.stated(tree_snapshot.directory(root))
    sockets = {path for path, entry in wanted.items() if entry.kind == "s"}
    assert done.sockets == len(sockets) == 1
    for path in (b"", *sockets):
        del wanted[path]
    found = tree_snapshot.directory(target)
    del found[b""]
    assert tree_snapshot.differences(wanted, found) == []


def test_the_order_is_that_of_the_names_bytes():
    names = ["\udcff", "é", "a", "B", "a.b", "a b"]
    archive, _ = streamed(tree({name: Fifo(PLAIN) for name in names}))
    assert archive.getnames() == sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))
