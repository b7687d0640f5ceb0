"""R10: whatever an archive holds, reading it ends soon, in little memory, and with a message if not with a tree."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress

import pytest

from archive import mutants
from archive.raw_tar import (
    Layout,
    Opened,
    directory,
    docker,
    extended,
    file,
    header,
    layout,
    link,
    long_name,
    packed,
    padded,
    symlink,
    tar,
)
from archive.test_member import OLD_SPARSE, PAX_00, PAX_01, PAX_10
from corpus.mutant_runs import survive
from ltsp.archive.archive import ArchiveReader
from ltsp.errors import FormatError

MEMBERS = (
    directory(b"./"),
    directory(b"a/"),
    file(b"a/b", b"text\n" * 100),
    link(b"again", b"a/b"),
    symlink(b"link", b"a"),
    symlink(b"absolute", b"/a/b"),
    file(b"link/x", b"through a link"),
    header(b"null", b"3", numbers=b"0000001\x000000003\0"),
    header(b"pipe", b"6"),
    OLD_SPARSE,
    PAX_00,
    PAX_01,
    PAX_10,
    extended((b"comment", b"for all"), (b"uid", b"7"), flag=b"g"),
    extended(
        (b"path", b"long/" * 40 + b"name"),
        (b"SCHILY.xattr.user.a", b"value\n"),
        (b"LIBARCHIVE.xattr.user.b", b"AAAA"),
        (b"mtime", b"1234567890.123456789"),
        (b"size", b"5"),
    ),
    file(b"short", b"pax\n\n"),
    long_name(b"g" * 150),
    long_name(b"t" * 150, b"K"),
    header(b"g", b"2"),
)
UPPER = (
    file(b"a/.wh.b"),
    file(b"long/.wh..wh..opq"),
    link(b"third", b"again"),
    directory(b"link"),
    file(b"link/y", b"y"),
)


def several() -> Layout:
    made = Layout()
    images = [
        made.image(tar(file(name.encode())), tag="lab", platform={"os": "linux", "architecture": name})
        for name in ("amd64", "arm64")
    ]
    return made.of(made.index(*images))


SEEDS = {
    "plain": tar(*MEMBERS),
    "packed": packed(tar(*MEMBERS)),
    "layout": layout(tar(*MEMBERS), tar(*UPPER)).archive(),
    "packed-layers": layout(packed(tar(*MEMBERS)), packed(tar(*UPPER))).archive(),
    "several": several().archive(),
    "docker": docker(tar(*MEMBERS), tar(*UPPER)),
}


PARSERS = {
    "tar": ("plain", "packed"),
    "OCI": ("layout", "packed-layers", "several"),
    "docker": ("docker",),
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    paths = []
    for name, data in SEEDS.items():
        paths.append(tmp_path_factory.mktemp("seeds") / name)
        paths[-1].write_bytes(data)
    return paths


def test_2000_mutants_are_read_or_refused(seeds, chance, tmp_path):
    fates = survive(mutants.__file__, seeds, chance.randrange(2**32), 2000, tmp_path)
    assert sum(fates.values()) == 2000
    assert fates["refused"] > 200
    assert fates["read"] > 200


def test_each_seed_is_of_a_parser():
    assert sorted(name for names in PARSERS.values() for name in names) == sorted(SEEDS)


@pytest.mark.torture
@pytest.mark.parametrize("kind", PARSERS)
def test_100000_mutants_are_read_or_refused(kind, seeds, chance, tmp_path, record_property):
    count = max(int(os.environ.get("LTSP_TORTURE", "0")), 100_000)
    chosen = [path for path in seeds if path.name in PARSERS[kind]]
    fates = survive(mutants.__file__, chosen, chance.randrange(2**32), count, tmp_path)
    assert sum(fates.values()) == count
    record_property("R10", f"{count} mutants of archives ({kind}): {fates}")


@pytest.fixture
def read(tmp_path):
    opened = Opened(tmp_path)
    yield opened
    opened.close()


def soon(read, data: bytes) -> None:
    """An archive that costs more than it looks is read or refused in seconds of its own."""
    before = time.process_time()
    with suppress(FormatError):
        read(data)
    assert time.process_time() - before < 5


def test_digits_without_end_take_no_time(read):
    """128 KiB of them hold Python's tarfile for 18 s, as a search for `digits hdrcharset=` begins at each."""
    soon(read, tar(extended((b"SCHILY.xattr.user.x", b"1" * 60_000)), file(b"a")))
    digits = b"1" * 1_000_000
    soon(read, tar(header(b"x", b"x", len(digits)) + padded(digits), file(b"a")))


def test_links_that_lead_through_links_take_no_time(read):
    chain = [symlink(b"l0", b"d")] + [symlink(b"l%d" % n, b"./" * 40 + b"l%d" % (n - 1)) for n in range(1, 39)]
    soon(read, tar(directory(b"d"), *chain, *(file(b"l38/%d/x" % n) for n in range(20_000))))


def test_whiteouts_without_number_take_no_time(read):
    files = [file(b"a/%d" % n) for n in range(15_000)]
    soon(read, layout(tar(*files), tar(*files, *[file(b"a/.wh..wh..opq"), file(b".wh.a")] * 8_000)).archive())


def test_directories_within_directories_take_no_stack_and_no_time(read):
    deep = [extended((b"path", b"%d/" % n + b"d/" * 2000 + b"f")) + file(b"f") for n in range(30)]
    tree = read(tar(*deep))
    assert sum(1 for _ in tree.walk()) == 30 * 2002


def test_names_that_decompress_to_far_too_many_are_refused(tmp_path):
    def piece(number):
        return packed(
            b"".join(extended((b"path", b"%d.%d/" % (number, n) + b"d/" * 2000)) + directory(b"f") for n in range(50))
        )

    with ArchiveReader(str(tmp_path)) as reader, pytest.raises(FormatError, match="far more files and names"):
        reader.read_stream(piece(number) for number in range(100))


def test_a_seed_decides_what_its_mutants_are():
    assert mutants.mutant(SEEDS["plain"], random.Random(1)) == mutants.mutant(SEEDS["plain"], random.Random(1))
