from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltsp.mksquashfs.tar_header import BLOCK, END_OF_ARCHIVE, TarEntry, TarType, padding
from ltsp.tree.node import MAX_MTIME


def read(entry: TarEntry, data: bytes = b"") -> tarfile.TarInfo:
    stream = io.BytesIO(entry.pack() + data + padding(len(data)) + END_OF_ARCHIVE)
    with tarfile.open(fileobj=stream, encoding="utf-8", errors="surrogateescape") as archive:
        (member,) = archive.getmembers()
    return member


def entry(**changes) -> TarEntry:
    return TarEntry(**{"kind": TarType.FILE, "path": b"a", "mode": 0o644, "uid": 0, "gid": 0, "mtime": 0} | changes)


PATHS = st.lists(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, 47}), min_size=1).map(
    b"/".join
)


@given(
    path=PATHS,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    mtime=st.integers(0, MAX_MTIME),
)
def test_another_reader_finds_what_was_packed(path, mode, uid, gid, mtime):
    member = read(entry(path=path, mode=mode, uid=uid, gid=gid, mtime=mtime))
    found = (member.name.encode("utf-8", "surrogateescape"), member.mode, member.uid, member.gid, member.mtime)
    assert found == (path, mode, uid, gid, mtime)


@given(target=PATHS, kind=st.sampled_from([TarType.SYMLINK, TarType.HARD_LINK]))
def test_a_target_keeps_its_leading_slashes_and_dots(target, kind):
    for given_target in (target, b"/" + target, b"../../" + target):
        assert read(entry(kind=kind, target=given_target)).linkname.encode("utf-8", "surrogateescape") == given_target


def test_a_long_target_comes_before_the_pax_records_of_its_entry():
    packed = entry(kind=TarType.SYMLINK, path=b"p" * 200, target=b"/" + b"t" * 200).pack()
    assert packed.index(b"././@LongLink") < packed.index(b"././@PaxHeader")
    assert b"linkpath" not in packed


@pytest.mark.parametrize("size", [0, 1, BLOCK, 8 << 30, 5 << 40])
def test_a_file_of_any_size_is_followed_by_what_its_header_says(size):
    header = entry(size=size).pack()
    assert len(header) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(header), mode="r|") as archive:
        assert archive.next().size == size


@given(st.binary(max_size=70_000))
def test_a_record_counts_its_own_length(value):
    packed = entry(xattrs=[(b"user.a", value)]).pack()
    record = packed[BLOCK : BLOCK + int(packed[124:135], 8)]
    assert record == b"%d SCHILY.xattr.user.a=%b\n" % (len(record), value)


@pytest.mark.parametrize("length", range(60, 110))
def test_a_length_that_gains_a_digit_by_its_own_digits_is_right(length):
    packed = entry(xattrs=[(b"user.a", b"v" * length)]).pack()
    record = packed[BLOCK : BLOCK + int(packed[124:135], 8)]
    assert record.startswith(b"%d " % len(record))


def test_device_numbers_are_those_of_the_node():
    member = read(entry(kind=TarType.BLOCK, major=0xFFF, minor=0xFFFFF))
    assert (member.devmajor, member.devminor) == (0xFFF, 0xFFFFF)
