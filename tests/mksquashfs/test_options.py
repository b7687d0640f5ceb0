from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from ltsp.errors import UsageError
from ltsp.mksquashfs.option_tables import ARGUMENTS, REFUSED
from ltsp.mksquashfs.options import Excludes, ExcludeStyle, OutputOptions, Override, Parameters, parse
from ltsp.squashfs.compression import Compression
from ltsp.squashfs.writer import WriteOptions


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
        "-comp lz4 -Xhc": Compression("lz4", high=True),
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
        "-noI": {"compress_inodes": False},
        "-noDataCompression": {"compress_data": False},
        "-noF -noXattrCompression": {"compress_fragments": False, "compress_xattrs": False},
        "-no-compression": dict.fromkeys(
            ("compress_inodes", "compress_data", "compress_fragments", "compress_xattrs"), False
        ),
        "-no-fragments": {"fragments": False},
        "-always-use-fragments": {},
        "-no-duplicates": {"duplicates": False},
        "-no-xattrs": {"xattrs": False},
        "-no-xattrs -xattrs": {},
        "-no-exports": {"exports": False},
        "-no-exports -exports": {},
        "-processors 3": {"threads": 3},
        "-mkfs-time 0": {"time": 0},
        "-fstime 4294967295": {"time": 4294967295},
        "-mkfs-time inode -repro -reproducible -not-reproducible": {},
        "-noappend -no-recovery -recovery-path /x -exit-on-error -mem 1G -mem-percent 5 -single-reader": {},
    }.items(),
)
def test_options_that_our_writer_follows(line, changes):
    assert options(line) == WriteOptions(**changes)


@pytest.mark.parametrize(
    ("line", "override"),
    {
        "-all-root": Override(uid=0, gid=0),
        "-root-owned -force-gid 7": Override(uid=0, gid=7),
        "-force-uid alice -force-gid staff": Override(uid=1000, gid=50),
        "-force-uid 4294967295": Override(uid=4294967295),
        "-all-time 5": Override(time=5),
        "-inode-time 5": Override(time=5),
        "-root-mode 1777 -root-uid alice -root-gid 3 -root-time 9": Override(None, None, None, 0o1777, 1000, 3, 9),
    }.items(),
)
def test_options_that_change_the_tree(line, override):
    assert of(line) == Parameters(override=override)


def test_all_words_after_e_are_left_out_whatever_they_look_like():
    parameters = of("-ef /etc/list -e home/* -comp none -wildcards")
    assert parameters == Parameters(
        excludes=Excludes(ExcludeStyle.EXACT, ("home/*", "-comp", "none", "-wildcards"), ("/etc/list",))
    )


@pytest.mark.parametrize("style", [ExcludeStyle.WILDCARDS, ExcludeStyle.REGEX])
def test_the_style_of_exclusions_holds_for_those_before_it_too(style):
    parameters = of(f"-ef /etc/list -{style.value} -e a")
    assert parameters.excludes == Excludes(style, ("a",), ("/etc/list",))


def test_options_for_the_output():
    assert of("-quiet -no-progress -info -info-file /x -percentage -progress").output == OutputOptions(
        quiet=True, progress=True, percentage=True, info=True, info_file="/x"
    )


@pytest.mark.parametrize(
    "line",
    [
        "-no-sparse",
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
    assert of("-mem 512M -read-queue 64").tuning == ("-mem", "512M", "-read-queue", "64")


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
        "-all-time 4294967296": "-all-time 4294967296 is not a number from 0 to 4294967295",
        "-root-mode 10000": "-root-mode 10000 is not an octal mode",
        "-root-mode 8": "-root-mode 8 is not an octal mode",
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
    assert parse(["-force-uid", "root", "-root-gid", "root"]).override == Override(uid=0, root_gid=0)


@pytest.mark.oracle
def test_each_option_of_the_real_mksquashfs_is_in_a_table_or_left_to_it():
    """No option that it lists with an argument is parsed as one without."""
    listed = subprocess.run(["mksquashfs", "-help"], capture_output=True, text=True, check=False).stdout
    with_argument = set(re.findall(r"^\s*(-[A-Za-z-]+) (?:<|strategy|filter)", listed, re.MULTILINE))
    without = set(re.findall(r"^\s*(-[A-Za-z-]+)(?:\t|\n)", listed, re.MULTILINE))
    assert len(with_argument) > 30
    assert with_argument <= ARGUMENTS | REFUSED.keys()
    assert not without & ARGUMENTS
