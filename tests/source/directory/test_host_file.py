"""R18: a file of a live source is read as one consistent version, or it is told that it was not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from ltsp.errors import FileVanished
from ltsp.host.root import RootDirectory
from ltsp.source.directory.scan import Scan
from ltsp.tree.faults import Faults
from ltsp.tree.selection import select_all

PIECE = 4096
DAY = 86400 * 10**9


@pytest.fixture
def seen(tmp_path):
    """The content of a file of the source as a scan sees it, with the file's path."""
    roots = []

    def look(data, name="file", age=DAY):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if data is not None:
            path.write_bytes(data)
        os.utime(path, ns=(0, time.time_ns() - age))
        roots.append(RootDirectory.open(os.fsencode(tmp_path)))
        return Scan(select_all, Faults()).run(roots[-1]).get(name).content, path

    yield look
    for root in roots:
        root.close()


def read_all(stream):
    data = b""
    while len(data) < stream.size and (piece := stream.read(min(PIECE, stream.size - len(data)))):
        data += piece
    return data


def test_an_unchanged_file_is_settled(seen):
    content, _ = seen(b"x" * 10_000)
    with content.open() as stream:
        assert (stream.size, stream.mtime) == (10_000, None)
        assert read_all(stream) == b"x" * 10_000
        assert stream.read(1) == b""
        assert stream.is_consistent()


def test_the_rest_comes_in_one_piece_and_not_more(seen):
    content, _ = seen(b"x" * 100)
    with content.open() as stream:
        assert len(stream.read(1000)) == 100


def write(path, mode, data):
    with path.open(mode) as file:
        file.write(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"y" * 10_000),
        lambda path: os.truncate(path, 5_000),
        lambda path: os.truncate(path, 20_000),
        lambda path: write(path, "ab", b"more"),
        lambda path: write(path, "r+b", b"first"),
    ],
    ids=["rewritten", "shorter", "longer", "appended to", "changed at the beginning"],
)
def test_a_file_that_changes_while_it_is_read_is_not_settled(seen, change):
    content, path = seen(b"x" * 10_000)
    with content.open() as stream:
        stream.read(PIECE)
        change(path)
        read_all(stream)
        assert not stream.is_consistent()


def test_a_change_that_leaves_size_and_time_is_seen(seen):
    content, path = seen(b"x" * 10_000)
    before = path.stat()
    with content.open() as stream:
        stream.read(PIECE)
        with path.open("r+b") as file:
            file.write(b"y" * 10)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert not stream.is_consistent()


def test_a_file_that_is_replaced_while_it_is_read_stays_what_it_was(seen, tmp_path):
    content, path = seen(b"x" * 10_000)
    with content.open() as stream:
        stream.read(PIECE)
        (tmp_path / "new").write_bytes(b"y" * 10_000)
        os.link(path, tmp_path / "kept")  # a new link count is a new ctime, though not a new content
        (tmp_path / "new").rename(path)
        assert read_all(stream) == b"x" * (10_000 - PIECE)


def test_a_file_that_is_another_one_than_the_scan_saw_says_its_time(seen):
    content, path = seen(b"x" * 100)
    path.write_bytes(b"y" * 200)
    os.utime(path, ns=(0, -1))
    with content.open() as stream:
        assert (stream.size, stream.mtime) == (200, -1)
        assert read_all(stream) == b"y" * 200
        assert stream.is_consistent()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/passwd")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
        lambda path: (path.parent.rename(path.parent.with_name("moved")), path.parent.symlink_to("moved")),
    ],
    ids=["removed", "a link", "a pipe", "a directory", "its directory renamed", "its directory a link"],
)
def test_a_removed_file_has_vanished(seen, change):
    content, path = seen(b"x", "sub/file")
    content.host_directory.root._directories.clear()  # a directory that is still open keeps its files
    change(path)
    with pytest.raises(FileVanished, match="sub/file"):
        content.open()


@pytest.mark.root
def test_what_may_not_be_read_is_an_os_error(seen):
    content, path = seen(b"x")
    path.chmod(0)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            content.open()
    finally:
        os.seteuid(0)


def test_a_file_that_was_changed_just_now_is_waited_for(seen):
    content, path = seen(b"x", age=0)
    for _ in range(3):
        path.write_bytes(b"y")
        with content.open() as stream:
            assert time.time_ns() - path.stat().st_ctime_ns > 20_000_000
            assert stream.read(1) == b"y"
            assert stream.is_consistent()


def test_the_clock_may_have_gone_back(seen, monkeypatch):
    """A ctime of tomorrow is no reason to doubt: a write of today leaves another one."""
    content, path = seen(b"x" * 100)
    true = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: true() - DAY)
    with content.open() as stream:
        read_all(stream)
        assert stream.is_consistent()
    with content.open() as stream:
        path.write_bytes(b"y")
        assert not stream.is_consistent()


def extents(stream):
    """What a writer does: holes and data in turn."""
    at, found = 0, []
    while at < stream.size:
        hole = min(stream.hole_size(), stream.size - at)
        if hole:
            stream.skip(hole)
            found.append(("hole", hole))
            at += hole
        else:
            piece = stream.read(min(PIECE, stream.size - at))
            found.append(("data", len(piece)))
            at += len(piece)
    return found


@pytest.mark.root
def test_a_sparse_file_on_a_mounted_squashfs_is_read_to_its_end(tmp_path):
    """Linux may say EIO where it is asked for a hole there."""
    files, image, mount_point = tmp_path / "files", tmp_path / "image", tmp_path / "mount_point"
    files.mkdir()
    mount_point.mkdir()
    data = bytes(256 << 10) + os.urandom(128 << 10) + b"the end"
    with (files / "sparse").open("wb") as file:
        file.seek(256 << 10)
        file.write(data[256 << 10 :])
    (files / "the one after").touch()
    (files / "the one after").chmod(0o4755)
    subprocess.run(["mksquashfs", files, image, "-quiet", "-no-progress", "-always-use-fragments"], check=True)
    subprocess.run(["mount", "-o", "loop,ro", image, mount_point], check=True)
    try:
        with RootDirectory.open(os.fsencode(mount_point)) as root:
            tree = Scan(select_all, Faults()).run(root)
            with tree.get("sparse").content.open() as stream:
                hole = stream.hole_size()
                stream.skip(hole)
                assert stream.hole_size() == 0
                assert bytes(hole) + stream.read(len(data)) == data
    finally:
        subprocess.run(["umount", mount_point], check=True)


def test_holes_are_reported_and_not_read(seen, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 20)
        file.seek(512 << 10)
        file.write(b"x" * PIECE)
        file.seek(0)
        file.write(b"y" * PIECE)
    content, _ = seen(None)
    with content.open() as stream:
        assert extents(stream) == [
            ("data", PIECE),
            ("hole", (512 << 10) - PIECE),
            ("data", PIECE),
            ("hole", (512 << 10) - PIECE),
        ]
        assert stream.is_consistent()


def test_a_file_that_is_one_hole(seen, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(5 << 30)
    content, _ = seen(None)
    with content.open() as stream:
        assert extents(stream) == [("hole", 5 << 30)]


def test_a_hole_of_a_file_that_shrank_ends_with_the_file(seen, tmp_path):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 20)
    content, path = seen(None)
    with content.open() as stream:
        os.truncate(path, 100)
        assert stream.hole_size() == 1 << 20
        assert not stream.is_consistent()


def test_a_short_read_is_gone_on_with(seen, monkeypatch):
    data = bytes(range(256)) * 10
    content, _ = seen(data)
    true = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: true(descriptor, min(size, 100), at))
    with content.open() as stream:
        assert stream.read(1000) == data[:1000]
        assert stream.read(9000) == data[1000:]


def test_a_file_system_that_tells_no_holes_has_none(seen, tmp_path, monkeypatch):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(1 << 20)
    content, _ = seen(None)

    def unknown(*_arguments):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "lseek", unknown)
    with content.open() as stream:
        assert stream.hole_size() == 0
        assert stream.read(1 << 20) == bytes(1 << 20)


def test_data_without_holes_costs_no_look_for_them(seen, monkeypatch):
    content, _ = seen(b"x" * 10_000)

    def forbidden(*_arguments):
        raise AssertionError

    monkeypatch.setattr(os, "lseek", forbidden)
    with content.open() as stream:
        assert stream.hole_size() == 0
        assert read_all(stream) == b"x" * 10_000


WRITER = """
import os, random, sys, time
directory, seed = sys.argv[1:]
chance = random.Random(int(seed))
names = [f"{directory}/{number}" for number in range(8)]
print("ready", flush=True)
version = 0
while True:
    version += 1
    name = chance.choice(names)
    data = version.to_bytes(4, "little") * chance.choice([1, 100, 20_000])
    match chance.randrange(4):
        case 0:
            with open(name + ".new", "wb", buffering=0) as file:
                file.write(data)
            os.rename(name + ".new", name)
        case 1:
            with open(name, "wb", buffering=0) as file:
                file.write(data)
        case 2:
            with open(name, "r+b", buffering=0) as file:
                file.write(data[:4] * (os.path.getsize(name) // 4))
        case 3:
            os.truncate(name, os.path.getsize(name) // 8 * 4)
    time.sleep(chance.choice([0, 0.001, 0.02]))
"""


def storm(tmp_path, chance, runs, readings):
    """Read files that another process rewrites all the time: each reading is one version, or is not settled."""
    settled = 0
    for run in range(runs):
        directory = tmp_path / str(run)
        directory.mkdir()
        for number in range(8):
            (directory / str(number)).write_bytes(b"\0\0\0\0" * 1000)
        with (
            subprocess.Popen(
                [sys.executable, "-c", WRITER, directory, str(chance.randrange(2**32))], stdout=subprocess.PIPE
            ) as writer,
            RootDirectory.open(os.fsencode(directory)) as root,
        ):
            try:
                assert writer.stdout.readline() == b"ready\n"
                contents = [node.content for _, node in Scan(select_all, Faults()).run(root).walk()]
                for _ in range(readings):
                    try:
                        with chance.choice(contents).open() as stream:
                            data = read_all(stream)
                            if not stream.is_consistent():
                                continue
                    except FileVanished:
                        continue
                    settled += 1
                    assert len(data) == stream.size
                    assert len({data[at : at + 4] for at in range(0, len(data), 4)}) <= 1
            finally:
                writer.kill()
    return settled


def test_2_storms_of_writers_are_detected(tmp_path, chance):
    assert storm(tmp_path, chance, runs=2, readings=60) > 0


@pytest.mark.torture
def test_50_storms_of_writers_are_detected(tmp_path, chance, record_property):
    settled = storm(tmp_path, chance, runs=50, readings=200)
    record_property("R18", f"50 runs, 10,000 readings, {settled} of them one version and the others told, 0 mixed")
