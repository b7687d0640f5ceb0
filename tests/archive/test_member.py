"""The headers of tar archives in all dialects."""

from __future__ import annotations

import base64
import io
import tarfile

import pytest

from archive.raw_tar import (
    BLOCK,
    END,
    Opened,
    directory,
    extended,
    file,
    header,
    link,
    long_name,
    padded,
    shown,
    symlink,
    tar,
)
from ltsp.errors import FormatError
from ltsp.tree.node import Device, DeviceKind, Directory, Fifo


@pytest.fixture
def read(tmp_path):
    opened = Opened(tmp_path)
    yield opened
    opened.close()


def test_every_kind_of_member(read):
    tree = read(
        tar(
            directory(b"./"),
            directory(b"./etc/", uid=b"0000005\0", gid=b"0000006\0"),
            file(b"./etc/passwd", b"root\n", mode=b"0104640\0"),
            link(b"./etc/again", b"./etc/passwd"),
            symlink(b"link", b"etc/passwd"),
            header(b"null", b"3", numbers=b"0000001\x000000003\0"),
            header(b"disk", b"4", numbers=b"0000010\x000000021\0"),
            header(b"pipe", b"6"),
            header(b"contiguous", b"7", 2) + padded(b"ok"),
            header(b"old", b"\0", 2, magic=bytes(8)) + padded(b"v7"),
            header(b"old-directory/", b"\0", magic=bytes(8)),
        )
    )
    assert shown(tree) == {
        "contiguous": "ok",
        "disk": "b 8:17",
        "etc/": "",
        "etc/again": "root\n",
        "etc/passwd": "root\n",
        "link": "-> etc/passwd",
        "null": "c 1:3",
        "old": "v7",
        "old-directory/": "",
        "pipe": "Fifo",
    }
    assert tree.get("etc/again") is tree.get("etc/passwd")
    assert tree.get("etc/passwd").metadata.mode == 0o4640
    assert tree.get("etc/passwd").metadata.mtime == 512
    assert (tree.get("etc").metadata.uid, tree.get("etc").metadata.gid) == (5, 6)
    assert isinstance(tree.get("pipe"), Fifo)
    assert isinstance(tree.get("null"), Device)
    assert tree.get("null").kind is DeviceKind.CHARACTER


def test_names_and_numbers_that_no_header_holds(read):
    long = b"/".join([b"d" * 60] * 5) + b"/\xff\xfe"
    tree = read(
        tar(
            extended((b"path", long), (b"uid", b"4294967294"), (b"gid", b"3000000"), (b"mtime", b"-1.5")),
            file(b"short", b"pax"),
            long_name(b"g" * 150),
            long_name(b"t" * 200, b"K"),
            header(b"cut", b"2", target=b"cut"),
            file(b"n" * 90, b"prefix", prefix=b"p" * 100),
            file(b"big", b"", uid=b"\x80\0\0\0\xff\xff\xff\xfe", mtime=b"\xff" * 11 + b"\xfe"),
        )
    )
    node = tree.get("/".join(["d" * 60] * 5) + "/\udcff\udcfe")
    assert (node.metadata.uid, node.metadata.gid, node.metadata.mtime) == (2**32 - 2, 3_000_000, -2)
    assert shown(tree)["g" * 150] == "-> " + "t" * 200
    assert shown(tree)["p" * 100 + "/" + "n" * 90] == "prefix"
    assert (tree.get("big").metadata.uid, tree.get("big").metadata.mtime) == (2**32 - 2, -2)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1700000000.999999999", 1_700_000_000),
        (b"0", 0),
        (b"-0.000000001", -1),
        (b"-3.0", -3),
        (b"8589934592.5", 2**33),
    ],
)
def test_times_are_rounded_down_however_many_digits_they_have(read, text, seconds):
    assert read(tar(extended((b"mtime", text)), file(b"a"))).get("a").metadata.mtime == seconds


def test_attributes_are_kept_byte_for_byte(read):
    value = b"\n22 SCHILY.xattr.user.b=\n\0\xff"
    tree = read(
        tar(
            extended(
                (b"SCHILY.xattr.user.a", value),
                (b"SCHILY.xattr.user.empty", b""),
                (b"LIBARCHIVE.xattr.user.%C3%BC", base64.b64encode(b"from bsdtar").rstrip(b"=")),
                (b"RHT.security.selinux", b"system_u:object_r:etc_t:s0"),
                (b"comment", b"nothing to keep"),
            ),
            file(b"a"),
            file(b"b"),
        )
    )
    assert tree.get("a").metadata.xattrs == (
        ("security.selinux", b"system_u:object_r:etc_t:s0\0"),
        ("user.a", value),
        ("user.empty", b""),
        ("user.ü", b"from bsdtar"),
    )
    assert tree.get("b").metadata.xattrs == ()


def test_a_global_header_holds_until_another_one_or_the_member_says_otherwise(read):
    tree = read(
        tar(
            extended((b"uid", b"7"), (b"gid", b"8"), flag=b"g"),
            file(b"a"),
            extended((b"uid", b"9")),
            file(b"b"),
            extended((b"gid", b""), flag=b"g"),
            file(b"c"),
        )
    )
    found = [(tree.get(name).metadata.uid, tree.get(name).metadata.gid) for name in "abc"]
    assert found == [(7, 8), (9, 8), (7, 0)]


def test_a_later_member_takes_the_place_of_an_earlier_one(read):
    tree = read(tar(file(b"a", b"old"), link(b"b", b"a"), file(b"./a", b"new"), file(b"c"), directory(b"c")))
    assert shown(tree) == {"a": "new", "b": "old", "c/": ""}


def test_what_no_member_says_is_made(read):
    tree = read(tar(file(b"/a/b/c", b"x")))
    assert shown(tree) == {"a/": "", "a/b/": "", "a/b/c": "x"}
    for path in ("", "a", "a/b"):
        assert tree.get(path).metadata.mode == 0o755
        assert (tree.get(path).metadata.uid, tree.get(path).metadata.mtime) == (0, 0)


OLD_SPARSE = header(
    b"s", b"S", 6, magic=b"ustar  \0",
    rest=bytes(41) + b"%011o\0%011o\0" % (10, 2) + b"%011o\0%011o\0" % (20, 4) + b"%011o\0%011o\0" % (40, 0)
    + bytes(24) + b"\0" + b"%011o\0" % 40,
) + padded(b"aabbbb")  # fmt: skip
PAX_00 = extended(
    (b"GNU.sparse.size", b"40"), (b"GNU.sparse.numblocks", b"2"),
    (b"GNU.sparse.offset", b"10"), (b"GNU.sparse.numbytes", b"2"),
    (b"GNU.sparse.offset", b"20"), (b"GNU.sparse.numbytes", b"4"),
) + file(b"s", b"aabbbb")  # fmt: skip
PAX_01 = extended(
    (b"GNU.sparse.size", b"40"), (b"GNU.sparse.numblocks", b"2"), (b"GNU.sparse.map", b"10,2,20,4"),
    (b"GNU.sparse.name", b"s"),
) + file(b"GNUSparseFile.1/s", b"aabbbb")  # fmt: skip
PAX_10 = extended(
    (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"s"),
    (b"GNU.sparse.realsize", b"40"),
) + file(b"GNUSparseFile.1/s", padded(b"3\n10\n2\n20\n4\n40\n0\n") + b"aabbbb")  # fmt: skip


@pytest.mark.parametrize("member", [OLD_SPARSE, PAX_00, PAX_01, PAX_10], ids=["gnu", "0.0", "0.1", "1.0"])
def test_holes_of_sparse_files_stay_holes(read, member):
    content = read(tar(member, file(b"after", b"x"))).get("s").content
    assert (content.size, content.stored_size) == (40, 6)
    with content.open() as stream:
        assert stream.hole_size() == 10
        stream.skip(10)
        assert stream.hole_size() == 0
        assert stream.read(5) == b"aa\0\0\0"
        assert stream.hole_size() == 5
        assert stream.read(40) == bytes(5) + b"bbbb" + bytes(16)
        assert stream.hole_size() == 0
    with tarfile.open(fileobj=io.BytesIO(tar(member))) as other:
        whole = other.extractfile("s").read()
    with content.open() as stream:
        assert stream.read(100) == whole


def test_a_map_of_many_blocks(read):
    pairs = [(offset, 1) for offset in range(0, 2 * 200, 2)]
    packed = [b"%011o\0%011o\0" % pair for pair in pairs]
    blocks = [b"".join(packed[at : at + 21]) for at in range(4, 200, 21)]
    more = b"".join(block.ljust(504, b"\0") + (b"\1" if block != blocks[-1] else b"\0") + bytes(7) for block in blocks)
    rest = bytes(41) + b"".join(packed[:4]) + b"\1" + b"%011o\0" % 400
    content = read(tar(header(b"s", b"S", 200, rest=rest) + more + padded(b"x" * 200))).get("s").content
    with content.open() as stream:
        assert stream.read(1000) == b"x\0" * 200


@pytest.mark.parametrize(
    ("data", "said"),
    {
        "nothing": (b"", "is empty"),
        "no archive": (b"n" * 1024, "is not a tar archive"),
        "a disk": (bytes(1024) + b"\x53\xef" + bytes(1 << 20), "is not a tar archive: it starts with zeros"),
        "no header": (file(b"a", b"x") + b"n" * 1024, "no valid header"),
        "cut in a file": (file(b"a", b"x" * 2000)[:1500], "truncated"),
        "cut in a header": (file(b"a", b"x") + header(b"b")[:100], "truncated"),
        "cut between members": (file(b"a", b"x"), "truncated"),
        "cut behind an extension": (long_name(b"a" * 200), "truncated"),
        "an extension of no member": (long_name(b"a" * 200) + END, "truncated"),
        "no number": (tar(file(b"a", mode=b"0o0o644\0")), "the mode in the header at 0 is invalid"),
        "a signed number": (tar(file(b"a", uid=b"-000001\0")), "the owner"),
        "a negative size": (tar(file(b"a", length=b"\xff" * 12)), "the size"),
        "a negative size in pax": (tar(extended((b"size", b"-512")), file(b"a")), "invalid number for size"),
        "a huge size": (tar(file(b"a", length=b"\x80" + b"\x7f" * 11)), "the size"),
        "a size beyond the end": (tar(file(b"a", length=b"77777777777\0")), "truncated"),
        "a huge extension": (tar(header(b"x", b"x", 1 << 21)), "is too large"),
        "too many extensions": (tar(*[long_name(b"a")] * 9, file(b"a")), "extended headers"),
        "no records": (tar(header(b"x", b"x", 4) + padded(b"abcd"), file(b"a")), "an invalid record"),
        "a record too long": (tar(header(b"x", b"x", 9) + padded(b"99 a=bcd\n"), file(b"a")), "an invalid record"),
        "a record too short": (tar(header(b"x", b"x", 9) + padded(b"02 a=bcd\n"), file(b"a")), "an invalid record"),
        "a time in words": (tar(extended((b"mtime", b"now")), file(b"a")), "invalid mtime"),
        "a time in many words": (tar(extended((b"mtime", b"1" * 50)), file(b"a")), "invalid mtime"),
        "an owner that is -1": (tar(extended((b"uid", b"4294967295")), file(b"a")), "is not a valid user or group id"),
        "an attribute without a name": (tar(extended((b"SCHILY.xattr.", b"a")), file(b"a")), "an invalid attribute"),
        "an attribute with a NUL": (tar(extended((b"SCHILY.xattr.user.\0", b"a")), file(b"a")), "an invalid attribute"),
        "an attribute too large": (
            tar(extended((b"SCHILY.xattr.user.a", b"a" * 70000)), file(b"a")),
            "an invalid attribute",
        ),
        "invalid base64": (tar(extended((b"LIBARCHIVE.xattr.user.a", b"*")), file(b"a")), "invalid base64"),
        "global records without end": (
            tar(extended(*((b"k%d" % n, b"v") for n in range(100)), flag=b"g")),
            "too many global records",
        ),
        "a part of volumes": (tar(header(b"a", b"M")), "multi-volume"),
        "an unknown type": (tar(header(b"a\x1b[31m", b"Q")), r"type 'Q', which is not supported: a\\x1b\[31m"),
        "runs that overlap": (tar(PAX_01.replace(b"10,2,20,4", b"20,2,10,4")), "runs of a sparse file overlap"),
        "runs behind the end": (tar(PAX_01.replace(b"10,2,20,4", b"10,2,40,4")), "or extend beyond its end"),
        "runs without data": (tar(PAX_01.replace(b"10,2,20,4", b"10,1,20,4")), "5 bytes of data, but 6 are stored"),
        "half a pair": (tar(PAX_01.replace(b"10,2,20,4", b"10,2,2004")), "an odd number of values"),
        "a map of words": (tar(PAX_01.replace(b"10,2,20,4", b"10,2,20,a")), "invalid numbers"),
        "a map longer than the data": (
            tar(PAX_10.replace(b"3\n10\n2", b"999999")),
            "invalid numbers|larger than its data",
        ),
        "a size of a sparse file that no disk has": (
            tar(
                extended((b"GNU.sparse.size", b"9" * 18), (b"GNU.sparse.numblocks", b"0"), (b"GNU.sparse.map", b"0,0")),
                file(b"s"),
            ),
            "larger than any file system",
        ),
        "a sparse format of tomorrow": (tar(PAX_10.replace(b"major=1", b"major=2")), "unknown format"),
    }.values(),
)
def test_what_is_wrong_is_named(read, data, said):
    with pytest.raises(FormatError, match=said) as caught:
        read(data)
    assert caught.value.message.isprintable()


def test_what_follows_the_end_is_not_looked_at(read):
    assert shown(read(tar(file(b"a", b"x")) + b"rubbish" * 1000)) == {"a": "x"}
    assert shown(read(file(b"a", b"x") + bytes(BLOCK) + b"rubbish")) == {"a": "x"}


def test_an_archive_of_nothing(read):
    assert isinstance(read(END).root, Directory)
    assert shown(read(END)) == {}
