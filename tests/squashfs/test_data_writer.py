"""Live files: those that change, vanish or cannot be read while the image is written."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from corpus.tree_strategies import noise, text
from ltsp.errors import FileUnreadable, FileVanished
from ltsp.squashfs.reader import Image
from ltsp.squashfs.writer import WriteOptions, write_squashfs
from ltsp.tree.faults import Faults
from ltsp.tree.node import File
from squashfs.write_helpers import file, tree, write_image

LARGE = 5 << 20
"""Bytes of a file that is queued while it is read."""


@dataclass
class Live:
    """A file that has another version, or raises an error, at each reading; the last one stays."""

    versions: list[bytes | Exception]
    settles: list[bool]
    mtime: int | None = None
    claims: int | None = None
    """Size at the opening, where the file is shorter when it is read."""
    fails_at: int | None = None
    """Bytes after which reading raises EIO."""
    readings: int = 0

    @property
    def size(self) -> int:
        return next(len(version) for version in self.versions if isinstance(version, bytes))

    @contextmanager
    def open(self):
        number = min(self.readings, len(self.versions) - 1)
        self.readings += 1
        version = self.versions[number]
        if isinstance(version, Exception):
            raise version
        settles = self.settles[min(number, len(self.settles) - 1)]
        size = len(version) if self.claims is None else self.claims
        yield Reading(version, size, settles, self.mtime, self.fails_at)


@dataclass
class Reading:
    data: bytes
    size: int
    settles: bool
    mtime: int | None
    fails_at: int | None
    at: int = field(default=0)

    def read(self, size):
        if self.fails_at is not None and self.at >= self.fails_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        piece = self.data[self.at : self.at + size]
        self.at += len(piece)
        return piece

    def hole_size(self):
        return 0

    def skip(self, size):
        self.at += size

    def is_consistent(self):
        return self.settles


def read_back(image):
    with image.open("rb") as opened:
        found = {}
        for path, node in Image.open(opened).tree().walk():
            if isinstance(node, File):
                with node.content.open() as stream:
                    found[path] = stream.read(stream.size)
        return found


def written(tmp_path, faults=None, **entries):
    image = tmp_path / "image"
    write_image(tree(**entries), image, faults)
    return read_back(image)


@pytest.mark.parametrize("size", [100, 10_000, LARGE])
def test_a_file_that_changed_is_read_again_until_it_is_at_rest(tmp_path, size):
    live = Live([noise(size, 1), noise(size + 77, 2), noise(size - 55, 3)], [False, False, True])
    faults = Faults()
    assert written(tmp_path, faults, a=b"before", live=file(live), z=b"after") == {
        "a": b"before",
        "live": noise(size - 55, 3),
        "z": b"after",
    }
    assert not faults


@pytest.mark.parametrize("size", [100, 10_000, LARGE])
def test_a_file_that_never_rests_is_read_three_times_and_named(tmp_path, size):
    live = Live([noise(size, 1), noise(size, 2), noise(size, 3), noise(size, 4)], [False])
    faults = Faults()
    assert written(tmp_path, faults, live=file(live))["live"] == noise(size, 3)
    assert live.readings == 3
    assert faults.changed == ["live"]


def test_a_large_file_that_is_read_again_leaves_no_trace_of_its_first_readings(tmp_path):
    others = {"a": noise(10_000), "z": text(3_000_000)}
    write_image(tree(**others, live=noise(LARGE, 3)), tmp_path / "calm")
    live = Live([noise(2 * LARGE, 1), text(LARGE, 2), noise(LARGE, 3)], [False, False, True])
    write_image(tree(**others, live=file(live)), tmp_path / "live")
    assert (tmp_path / "live").read_bytes() == (tmp_path / "calm").read_bytes()


def test_a_file_that_is_gone_is_left_out_under_all_its_names(tmp_path):
    gone = file(Live([b"x", FileVanished("gone")], [True]))
    gone.content.readings = 1
    faults = Faults()
    assert written(tmp_path, faults, a=gone, b=gone, c=b"here") == {"c": b"here"}
    assert faults.vanished == ["a"]


def test_a_file_that_vanishes_between_two_readings_is_left_out(tmp_path):
    faults = Faults()
    live = file(Live([noise(LARGE), FileVanished("gone")], [False]))
    assert written(tmp_path, faults, live=live, z=b"rest") == {"z": b"rest"}
    assert faults.vanished == ["live"]


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_some_errors_mean_that_the_file_is_gone(tmp_path, code):
    faults = Faults()
    assert written(tmp_path, faults, a=file(Live([b"x", OSError(code, "")], [True], readings=1))) == {}
    assert faults.vanished == ["a"]


def test_a_file_that_cannot_be_read_ends_the_writing(tmp_path):
    live = file(Live([b"x", PermissionError(errno.EACCES, "Permission denied")], [True], readings=1))
    with pytest.raises(FileUnreadable, match="cannot read /secret: Permission denied"):
        written(tmp_path, secret=live)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_file_that_cannot_be_read_is_left_out_on_demand_and_named(tmp_path, size):
    faults = Faults(skip_unreadable=True)
    broken = file(Live([noise(size)], [True], fails_at=size // 2 if size > 1000 else 0))
    assert written(tmp_path, faults, a=noise(5000), broken=broken, z=b"rest") == {"a": noise(5000), "z": b"rest"}
    assert faults.unreadable == [("broken", "Input/output error")]


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EINTR])
def test_what_the_kernel_asks_to_try_again_is_tried_again(tmp_path, code):
    live = file(Live([OSError(code, ""), OSError(code, ""), b"done"], [True]))
    assert written(tmp_path, live=live) == {"live": b"done"}


def test_trying_again_has_an_end(tmp_path):
    faults = Faults(skip_unreadable=True)
    assert (
        written(tmp_path, faults, live=file(Live([b"x", BlockingIOError(errno.EAGAIN, "")], [True], readings=1))) == {}
    )
    assert [path for path, _ in faults.unreadable] == ["live"]


@pytest.mark.parametrize("size", [0, 1, 5000, 8192, LARGE])
def test_a_file_that_is_shorter_than_it_was_is_stored_as_long_as_it_is(tmp_path, size):
    live = file(Live([noise(size)], [True], claims=size + 9000))
    assert written(tmp_path, live=live)["live"] == noise(size)


def test_the_time_is_that_of_the_version_that_was_read(tmp_path):
    image = tmp_path / "image"
    write_image(tree(live=file(Live([b"new"], [True], mtime=2_000), mtime=1_000)), image)
    with image.open("rb") as opened:
        opened_image = Image.open(opened)
        assert opened_image.tree().root.entries["live"].metadata.mtime == 2_000
        assert opened_image.superblock.mtime == 2_000


def test_progress_adds_up_to_the_bytes_of_the_source(tmp_path):
    steps = []
    with open(tmp_path / "image", "w+b", buffering=0) as output:
        done = write_squashfs(
            tree(a=noise(LARGE), b=b"x" * 10, c=noise(LARGE)), output, WriteOptions(), Faults(), steps.append
        )
    assert sum(steps) == done.source_bytes == 2 * LARGE + 10
    assert len(steps) >= 2


def test_duplicates_of_any_size_are_stored_once(tmp_path):
    for size in (10, 4096, 10_000, LARGE):
        once = write_image(tree(a=noise(size), z=b""), tmp_path / "once")
        twice = write_image(tree(a=noise(size), b=noise(size), z=b""), tmp_path / "twice")
        assert twice.sizes.data + twice.sizes.fragments == once.sizes.data + once.sizes.fragments
        assert (twice.duplicates, twice.duplicate_bytes) == (1, size)
        assert read_back(tmp_path / "twice") == {"a": noise(size), "b": noise(size), "z": b""}


def test_files_of_one_size_and_different_content_are_not_duplicates(tmp_path):
    for size in (10, 10_000, LARGE):
        contents = {"a": noise(size, 1), "b": noise(size, 2), "c": noise(size, 1)}
        assert written(tmp_path, **contents) == contents


def test_a_large_file_with_a_unique_size_is_read_once(tmp_path):
    live = Live([noise(LARGE)], [True])
    written(tmp_path, a=file(live), b=noise(LARGE + 1))
    assert live.readings == 1


def test_a_large_file_of_a_size_seen_before_is_read_once_if_it_is_a_duplicate_and_twice_if_not(tmp_path):
    first, same, other = (Live([noise(LARGE, seed)], [True]) for seed in (1, 1, 2))
    written(tmp_path, a=file(first), b=file(same), c=file(other))
    assert (first.readings, same.readings, other.readings) == (1, 1, 2)
