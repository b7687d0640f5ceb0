from __future__ import annotations

import pytest

from ltsp.errors import UsageError
from ltsp.mksquashfs.sort_file import find_priorities, parse
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata, Symlink
from ltsp.tree.tree import Tree

PLAIN = Metadata(0o644)


@pytest.mark.parametrize(
    ("line", "entries"),
    {
        b"boot/vmlinuz 100": {"boot/vmlinuz": 100},
        b"  a\t-5  ": {"a": -5},
        b"a +7": {"a": 7},
        rb"with\ space 1": {"with space": 1},
        rb"back\\slash 1": {"back\\slash": 1},
        b"caf\xe9 1": {"caf\udce9": 1},
        b"/usr//./bin/ 1": {"usr/bin": 1},
        b"usr/* 1": {"usr": 1},
        b"/ 1": {"": 1},
        b"a 1\nb 2\na 3": {"a": 1, "b": 2},
        b"# a 1\n\n   \n #b 2": {},
        b"a 32767\nb -32768": {"a": 32767, "b": -32768},
    }.items(),
)
def test_what_a_line_says(line, entries):
    assert parse(line, "sort") == entries


def test_every_bad_line_is_named():
    text = b"a\nb 1 2\nc x\nd 32768\ne -32769\n../f 1\ng 1"
    with pytest.raises(UsageError) as caught:
        parse(text, "/etc/sort")
    assert [fault.split(": ")[0] for fault in caught.value.message.split("; ")] == [
        f"/etc/sort:{number}" for number in range(1, 7)
    ]


def test_a_directory_gives_its_priority_to_what_is_below_unless_that_has_its_own():
    file = File(PLAIN, Bytes(b""))
    inner = Directory(PLAIN, {"x": file, "y": File(PLAIN, Bytes(b""))})
    tree = Tree(Directory(PLAIN, {"d": Directory(PLAIN, {"e": inner, "f": file, "l": Symlink(PLAIN, "x")}), "g": file}))
    found = find_priorities({"d": 5, "d/e": 0, "d/e/y": -1, "no/such": 3}, tree)
    assert found.files == {"d/e/x": 0, "d/e/y": -1, "d/f": 5}
    assert found.missing == ("no/such",)


def test_the_root_stands_for_everything():
    tree = Tree(Directory(PLAIN, {"a": File(PLAIN, Bytes(b""))}))
    assert find_priorities({"": 1}, tree).files == {"a": 1}
