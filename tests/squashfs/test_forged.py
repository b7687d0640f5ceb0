"""Malicious images: each is refused at once, in one line that names the kind of damage."""

from __future__ import annotations

import io
import time
import zlib
from dataclasses import replace

import pytest

from ltsp.errors import FormatError
from ltsp.squashfs.format import (
    LISTING_EXTRA,
    DirectoryInode,
    ExtendedDirectoryInode,
    ExtendedFileInode,
    InodeType,
    SymlinkInode,
)
from ltsp.squashfs.reader import Image
from ltsp.squashfs.verify import check_image
from squashfs.raw_image import AFTER_ROOT, DIRECTORY, FILE, D, F, L, image, packed, root, run


def tree(data: bytes):
    return Image.open(io.BytesIO(data)).tree()


def refusal(data: bytes) -> str:
    with pytest.raises(FormatError) as refused:
        tree(data)
    assert refused.value.message.isprintable()
    return refused.value.message


def holding(*entries, inodes: bytes = FILE.pack(), **changes) -> bytes:
    """An image whose root has these entries."""
    listing = run(*entries)
    return image(root(listing) + inodes, listing, **changes)


def test_what_the_forge_makes_is_a_proper_image_before_it_is_made_improper():
    good = holding((b"a", AFTER_ROOT, 2, F), (b"b", AFTER_ROOT, 2, F))
    found = tree(good)
    assert list(found.root.entries) == ["a", "b"]
    assert found.root.entries["a"] is found.root.entries["b"]
    check_image(io.BytesIO(good))


@pytest.mark.parametrize(
    "names",
    [[b"/"], [b"../x"], [b"etc/passwd"], [b"a\0b"], [b"."], [b".."], [b"x" * 256], [b"a", b"a"], [b"b", b"a"]],
    ids=str,
)
def test_names_that_would_lead_elsewhere_or_are_out_of_order_are_refused(names):
    assert "directory listing is damaged" in refusal(holding(*((name, AFTER_ROOT, 2, F) for name in names)))


def test_a_name_out_of_order_is_seen_across_headers_too():
    listing = run((b"b", AFTER_ROOT, 2, F)) + run((b"a", AFTER_ROOT, 2, F))
    assert "out of order" in refusal(image(root(listing) + FILE.pack(), listing))


def test_a_directory_that_holds_itself_is_refused():
    assert "entry loop is damaged: a second name of a directory" in refusal(holding((b"loop", 0, 1, D)))


def test_a_directory_that_holds_the_one_above_it_is_refused():
    above = run((b"below", AFTER_ROOT, 2, D))
    below = run((b"above", 0, 1, D))
    inner = replace(DIRECTORY, inode_number=2, offset=len(above), listing_size=len(below) + LISTING_EXTRA)
    message = refusal(image(root(above) + inner.pack(), above + below))
    assert message.startswith("directory /below: entry above is damaged")


def test_a_directory_with_two_names_is_refused():
    inner = replace(DIRECTORY, inode_number=2)
    assert "a second name of a directory" in refusal(
        holding((b"a", AFTER_ROOT, 2, D), (b"b", AFTER_ROOT, 2, D), inodes=inner.pack())
    )


def test_names_of_damaged_images_do_not_reach_a_terminal_raw():
    assert "loop\\x1b[31m" in refusal(holding((b"loop\x1b[31m", 0, 1, D)))


@pytest.mark.parametrize(
    ("entry", "inodes", "told"),
    [
        ((b"a", AFTER_ROOT, 2, D), FILE.pack(), "type 2 where type 1 is expected"),
        ((b"a", AFTER_ROOT, 3, F), FILE.pack(), "its inode has the number 2, not 3"),
        ((b"a", AFTER_ROOT, 0, F), replace(FILE, inode_number=0).pack(), "inode number 0 is not between 1 and 3"),
        ((b"a", AFTER_ROOT, 9, F), replace(FILE, inode_number=9).pack(), "inode number 9 is not between 1 and 3"),
        ((b"a", AFTER_ROOT, -1, F), FILE.pack(), "its inode has the number 2, not -1"),
        ((b"a", 8000, 2, F), FILE.pack(), "offset 8000 is beyond"),
        ((b"a", AFTER_ROOT, 2, F), replace(FILE, kind=99).pack(), "type 99"),
        (
            (b"a", AFTER_ROOT, 2, F),
            replace(FILE, uid=1).pack(),
            "owner index 1:0 is outside the id table, which has 1 entries",
        ),
        ((b"a", AFTER_ROOT, 2, F), FILE.pack()[:-1], "bytes too early"),
        ((b"a", AFTER_ROOT, 2, F), replace(FILE, file_size=2**32 - 1).pack(), "bytes too early"),
        ((b"a", AFTER_ROOT, 2, F), replace(FILE, fragment=0).pack(), "in fragment block 0 of 0"),
        (
            (b"a", AFTER_ROOT, 2, L),
            SymlinkInode(L, 0, 0, 0, 0, 2, 1, 0).pack(),
            "invalid symbolic link: target of 0 bytes",
        ),
        (
            (b"a", AFTER_ROOT, 2, L),
            SymlinkInode(L, 0, 0, 0, 0, 2, 1, 2**31).pack(),
            "target of 2147483648 bytes (1 to 4095)",
        ),
        ((b"a", AFTER_ROOT, 2, L), SymlinkInode(L, 0, 0, 0, 0, 2, 1, 3).pack() + b"a\0b", "a NUL in its target"),
        (
            (b"a", AFTER_ROOT, 2, F),
            ExtendedFileInode(9, 0, 0, 0, 0, 2, 96, 0, 0, 1, 2**32 - 1, 0, 5).pack(),
            "the image has no xattr table",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inodes_that_contradict_themselves_or_their_entry_are_refused(entry, inodes, told):
    assert told in refusal(holding(entry, inodes=inodes))


def test_a_second_name_that_calls_a_known_inode_something_else_is_refused():
    assert "a different inode 2" in refusal(holding((b"a", AFTER_ROOT, 2, F), (b"b", AFTER_ROOT, 2, L)))
    twice = FILE.pack() + FILE.pack()
    second = AFTER_ROOT + len(FILE.pack())
    assert "a different inode 2" in refusal(holding((b"a", AFTER_ROOT, 2, F), (b"b", second, 2, F), inodes=twice))


def test_listings_that_end_elsewhere_than_they_say_are_refused():
    listing = run((b"a", AFTER_ROOT, 2, F))
    assert "bytes too early" in refusal(image(root(listing, more=1) + FILE.pack(), listing))
    assert "truncated" in refusal(image(root(listing, more=-1) + FILE.pack(), listing))
    many = run((b"a", AFTER_ROOT, 2, F), count=2**32 - 1)
    assert "4294967296 entries below one header; the limit is 256" in refusal(image(root(many) + FILE.pack(), many))


def test_a_missing_listing_of_4_gib_is_refused():
    inode = ExtendedDirectoryInode(InodeType.EXTENDED_DIRECTORY, 0, 0, 0, 0, 1, 2, 2**32 - 1, 0, 3, 0, 0, 2**32 - 1)
    one = run((b"a", AFTER_ROOT, 2, F))
    assert "bytes too early" in refusal(image(inode.pack(), one))


def test_a_file_of_16_eib_is_refused_before_memory_is_taken_for_it():
    inode = ExtendedFileInode(9, 0, 0, 0, 0, 2, 96, 2**64 - 1, 0, 1, 2**32 - 1, 0, 2**32 - 1)
    assert "far more files" in refusal(holding((b"a", AFTER_ROOT, 2, F), inodes=inode.pack()))


def test_more_inodes_than_any_memory_holds_are_refused():
    assert f"superblock is damaged: invalid inode count: {2**32 - 1} inodes in" in refusal(
        image(root(b""), inode_count=2**32 - 1)
    )
    padding = bytes(10 << 20)
    assert "far more files" in refusal(image(root(b""), data=padding, inode_count=2**32 - 1))


def test_a_metadata_block_of_8_kib_is_read():
    assert tree(image(b"", inode_table=packed(DIRECTORY.pack() + bytes(8192 - AFTER_ROOT)))).root.entries == {}


@pytest.mark.parametrize("unfolded", [8193, 1 << 20])
def test_a_metadata_block_of_more_than_8_kib_is_refused(unfolded):
    bomb = packed(DIRECTORY.pack() + bytes(unfolded - len(DIRECTORY.pack())))
    assert "inode table is damaged" in refusal(image(b"", inode_table=bomb))


def test_a_data_block_that_decompresses_to_more_than_a_block_is_refused_when_it_is_read():
    bomb = zlib.compress(bytes(20_000_000), 9)
    file = replace(FILE, file_size=131072).pack() + min(len(bomb), 131072).to_bytes(4, "little")
    found = tree(holding((b"a", AFTER_ROOT, 2, F), inodes=file, data=bomb)).root.entries["a"]
    with found.content.open() as stream, pytest.raises(FormatError, match="block at 96"):
        stream.read(1)


def test_a_file_of_more_holes_than_bytes_takes_no_memory():
    """One TiB of zeros is 8 Mi size words at most, which are in the image; reading it is up to whoever reads."""
    words = bytes(4 * (1 << 13))
    file = ExtendedFileInode(9, 0, 0, 0, 0, 2, 96, 1 << 30, 1 << 30, 1, 2**32 - 1, 0, 2**32 - 1).pack() + words
    found = tree(holding((b"a", AFTER_ROOT, 2, F), inodes=file)).root.entries["a"]
    with found.content.open() as stream:
        assert stream.hole_size() == 1 << 30
        stream.skip((1 << 30) - 5)
        assert stream.read(10) == bytes(5)


@pytest.mark.parametrize("word", [131073, 1 << 25, (1 << 24) | 131073, 100], ids=hex)
def test_a_data_block_outside_of_the_data_or_larger_than_a_block_is_refused(word):
    file = replace(FILE, file_size=131072).pack() + word.to_bytes(4, "little")
    found = tree(holding((b"a", AFTER_ROOT, 2, F), inodes=file, data=b"x" * 50)).root.entries["a"]
    with found.content.open() as stream, pytest.raises(FormatError, match=r"invalid size: \d+ bytes"):
        stream.read(1)


def test_directories_nested_without_end_are_refused_in_little_time_and_memory():
    """A chain of a million directories would cost a walk its square in bytes of paths."""
    depth = 20_000
    size = len(run((b"d", 0, 1, D)))
    listings = b"".join(_one_entry(number + 2, number + 1) for number in range(depth - 1))
    table = b"".join(
        replace(
            DIRECTORY,
            inode_number=number + 1,
            listing_size=(size if number < depth - 1 else 0) + LISTING_EXTRA,
            block=number * size // 8192 * 8194,
            offset=number * size % 8192,
        ).pack()
        for number in range(depth)
    )
    begun = time.monotonic()
    message = refusal(image(table, listings, inode_count=depth))
    assert message.endswith("its path is longer than 16384 bytes")
    assert time.monotonic() - begun < 5


def _one_entry(number: int, index: int) -> bytes:
    """A listing with one directory, whose inode is the one with that index in a table of directories."""
    at = index * DirectoryInode.layout.size
    listing = bytearray(run((b"d", at % 8192, 0, D)))
    listing[4:8] = (at // 8192 * 8194).to_bytes(4, "little")
    listing[8:12] = number.to_bytes(4, "little")
    return bytes(listing)
