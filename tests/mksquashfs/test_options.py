from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace

import pytest

from ltsp.errors import UsageError
from ltsp.mksquashfs.options import (
    ARGUMENTS,
    REFUSED,
    Excludes,
    OutputOptions,
    Override,
    Parameters,
    override_owners,
    parse,
)
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.writer import WriteOptions
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree


def of(line: str) -> Parameters:
    return parse(shlex.split(line), uid_of={"alice": 1000}.get, gid_of={"staff": 50}.get)


def options(line: str) -> WriteOptions:
    parameters = of(line)
    assert not parameters.unknown
    return parameters.apply_to(WriteOptions())


@pytest.mark.parametrize(
    ("line", "compression"),
    {
        "-comp gzip": Compression("gzip"),
        "-comp gzip -Xcompression-level 9": Compression("gzip", 9),
        "-Xcompression-level 1": Compression("gzip", 1),
        "-Xcompression-level 19 -comp zstd": Compression("zstd", 19),
        "-comp zstd -comp zstd": Compression("zstd"),
        "-comp lz4 -Xhc": Compression("lz4", high_compression=True),
        "-comp xz": Compression("xz"),
        "-comp xz -Xdict-size 100%": Compression("xz"),
        "-comp xz -b 1M -Xdict-size 1M": Compression("xz"),
    }.items(),
)
def test_a_compressor_and_its_options(line, compression):
    assert options(line).compression == compression


@pytest.mark.parametrize(
    ("line", "changes"),
    {
        "-b 4096": {"block_size": 4096},
        "-b 256K": {"block_size": 256 << 10},
        "-b 1M": {"block_size": 1 << 20},
        "-b 512KB": {"block_size": 512 << 10},
        "-b 64Kbytes": {"block_size": 64 << 10},
        "-no-xattrs": {"xattrs": False},
        "-no-xattrs -xattrs": {},
        "-processors 3": {"threads": 3},
        "-noappend -no-recovery -exit-on-error -reproducible -mem 1G": {},
    }.items(),
)
def test_options_that_our_writer_follows(line, changes):
    assert options(line) == WriteOptions(**changes)


@pytest.mark.parametrize(
    ("line", "override"),
    {
        "-all-root": Override(uid=0, gid=0),
        "-all-root -force-gid 7": Override(uid=0, gid=7),
        "-force-uid alice -force-gid staff": Override(uid=1000, gid=50),
        "-force-uid 4294967295": Override(uid=4294967295),
    }.items(),
)
def test_options_that_change_the_tree(line, override):
    assert of(line) == Parameters(override=override)


def test_all_words_after_e_are_left_out_whatever_they_look_like():
    parameters = of("-ef /etc/list -e home/* -comp none -wildcards")
    assert parameters == Parameters(excludes=Excludes(("home/*", "-comp", "none", "-wildcards"), ("/etc/list",)))


def test_wildcards_hold_for_the_exclusions_before_them_too():
    assert of("-ef /etc/list -wildcards -e a").excludes == Excludes(("a",), ("/etc/list",), wildcards=True)


def test_exclusions_by_regular_expressions_are_handed_to_the_real_mksquashfs_last():
    parameters = of("-ef /etc/list -wildcards -regex -noI -e a ^b")
    assert parameters == Parameters(unknown=("-noI", "-regex", "-ef", "/etc/list", "-e", "a", "^b"))
    assert of("-regex -wildcards -e a").excludes == Excludes(("a",), wildcards=True)
    assert of("-regex") == Parameters()


def test_options_for_the_output():
    assert of("-quiet -no-progress -info -info-file /x -percentage -progress").output == OutputOptions(
        quiet=True, progress=True, percentage=True, info=True, info_file="/x"
    )


@pytest.mark.parametrize(
    "line",
    [
        "-no-sparse",
        "-noI",
        "-noDataCompression",
        "-noF -noXattrCompression",
        "-no-compression",
        "-no-fragments -always-use-fragments",
        "-no-duplicates",
        "-no-exports -exports",
        "-root-owned",
        "-mkfs-time 0",
        "-fstime 4294967295",
        "-mkfs-time inode -repro -not-reproducible",
        "-all-time 5",
        "-inode-time 5",
        "-root-mode 1777 -root-uid alice -root-gid 3 -root-time 9",
        "-recovery-path /x -mem-percent 5 -single-reader -read-queue 64",
        "-noId",
        "-nopad",
        "-no-hardlinks",
        "-no-tailends",
        "-throttle 20",
        "-comp lzo",
        "-comp lzo -Xalgorithm lzo1x_1 -Xcompression-level 3",
        "-comp lzma",
        "-Xstrategy default,filtered",
        "-Xwindow-size 12",
        "-xattrs-exclude ^user.",
        "-p 'dev d 755 0 0'",
        "-all-time yesterday",
        "-mkfs-time 'last week'",
        "-root-mode u=rwx,go=rx",
        "-option-of-tomorrow with two -and-another",
    ],
)
def test_what_only_the_real_mksquashfs_can_do_is_handed_to_it_word_for_word(line):
    assert of(line).unknown == tuple(shlex.split(line))


@pytest.mark.parametrize(
    ("line", "unknown"),
    {
        "-comp zstd -Xcompression-level -5": ("-Xcompression-level", "-5"),
        "-comp lz4 -Xcompression-level 5": ("-Xcompression-level", "5"),
        "-comp xz -Xbcj x86 -Xdict-size 50%": ("-Xbcj", "x86", "-Xdict-size", "50%"),
        "-new 1 -b 4K -newer": ("-new", "1", "-newer"),
    }.items(),
)
def test_what_is_known_is_not_among_what_is_handed_over(line, unknown):
    assert of(line).unknown == unknown


def test_what_only_tunes_mksquashfs_is_kept_for_it():
    assert of("-mem 512M").tuning == ("-mem", "512M")


@pytest.mark.parametrize(
    ("line", "fault"),
    {
        "-b 100000": "-b 100000 is not a power of two from 4K to 1M",
        "-b 2M": "-b 2M is not a power of two",
        "-b 2K": "-b 2K is not a power of two",
        "-b -1": "-b -1 is not a power of two",
        "-b": "-b needs an argument",
        "-comp brotli": "-comp brotli is not a compressor; choose one of gzip, lzo, lz4, xz, zstd, lzma",
        "-comp 'a\n'": r"-comp a\n is not a compressor",
        "-comp gzip -comp zstd": "-comp selects several compressors: gzip, zstd",
        "-Xcompression-level 13": "gzip has no compression level 13: choose 1 to 12",
        "-comp zstd -Xcompression-level 23": "zstd has no compression level 23: choose 1 to 22",
        "-comp zstd -Xcompression-level high": "-Xcompression-level high is not a number",
        "-comp xz -Xcompression-level 6": "-Xcompression-level is not an option of xz",
        "-Xhc": "-Xhc is not an option of gzip; select the compressor with -comp",
        "-comp xz -Xdict-size 4K": "-Xdict-size 4K is not a size from 8K to the block size",
        "-comp xz -b 64K -Xdict-size 128K": "-Xdict-size 128K is not a size",
        "-comp xz -Xdict-size 101%": "-Xdict-size 101% is not a size",
        "-processors 0": "-processors 0 is not a number from 1",
        "-mem 1M": "-mem 1M is not a size of 16M or more",
        "-force-uid nobody-of-this-name": "is neither a user on this machine nor an id",
        "-force-gid 4294967296": "is neither a group on this machine nor an id",
        "-e": "-e has nothing to exclude",
        "gzip": "gzip does not belong to an option",
        "''": "an empty word does not belong to an option",
        "-": "- does not belong to an option",
        "-tar": "-tar: the source is given on the command line",
        "-offset 4096": "-offset: an image for clients is a single new squashfs",
        "-action 'exclude@true'": "-action: mksquashfs cannot do that with a tar stream",
        "-help": "-help: run mksquashfs directly for that",
    }.items(),
)
def test_an_error_is_one_clear_line(line, fault):
    with pytest.raises(UsageError, match=re.escape(fault)):
        of(line)


def test_every_fault_is_named_at_once():
    with pytest.raises(UsageError) as caught:
        of("-b 3 -comp none -processors x stray")
    assert caught.value.message.count(";") == 4  # one stands in the list of compressors


def test_users_and_groups_are_looked_up_on_this_machine():
    assert parse(["-force-uid", "root", "-force-gid", "root"]).override == Override(uid=0, gid=0)


OWN = Metadata(0o640, uid=1, gid=2, mtime=3, xattrs=(("user.a", b"x"),))
FILE = File(OWN, Bytes(b"x"))
TREE = Tree(Directory(OWN, {"a": FILE, "d": Directory(OWN, {"b": FILE})}))


def test_no_owner_to_change_is_the_same_tree():
    assert override_owners(TREE, Override()) is TREE


def test_the_owner_is_that_of_every_node_and_hard_links_stay():
    changed = override_owners(TREE, Override(uid=0))
    nodes = [changed.root, *(node for _, node in changed.walk())]
    assert [node.metadata for node in nodes] == [replace(OWN, uid=0)] * 4
    assert changed.get("a") is changed.get("d/b")


@pytest.mark.oracle
def test_no_option_of_ours_differs_from_the_real_mksquashfs_in_taking_an_argument():
    listed = subprocess.run(["mksquashfs", "-help"], capture_output=True, text=True, check=False).stdout
    with_argument = set(re.findall(r"^\s*(-[A-Za-z-]+) (?:<|strategy|filter)", listed, re.MULTILINE))
    without = set(re.findall(r"^\s*(-[A-Za-z-]+)(?:\t|\n)", listed, re.MULTILINE))
    assert len(with_argument) > 30
    for option in with_argument - ARGUMENTS - REFUSED.keys() - {"-e"}:
        compressor = {"-Xalgorithm": "lzo", "-Xbcj": "xz"}.get(option, "gzip")
        assert of(f"-comp {compressor} {option} 1").unknown[-2:] == (option, "1")
    assert not without & ARGUMENTS
