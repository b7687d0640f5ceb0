from __future__ import annotations

import json

import pytest
from hypothesis import given

from corpus.tree_strategies import trees
from ltsp.errors import FormatError
from ltsp.sandbox.tree_codec import decode_tree, encode_tree
from ltsp.tree.content import Bytes
from ltsp.tree.node import Directory, File, Metadata
from ltsp.tree.tree import Tree

COMMON = [0o755, 0, 0, 0, []]
FILE = ["f", *COMMON, 0, 5, 5, []]


def through(given_tree):
    """What another process would make of it, and the numbers of the contents under their paths."""
    contents = []
    return decode_tree(
        list(encode_tree(given_tree, contents)),
        lambda number, size, stored, _places: _checked(contents[number], size, stored),
    )


def _checked(content, size, stored):
    assert (content.size, content.stored_size) == (size, stored)
    return content


def _same(one, other):
    """Down to which names are one file."""
    pairs = {}
    for (path, node), (other_path, found) in zip(one.walk(), other.walk(), strict=True):
        assert path == other_path
        assert type(node) is type(found)
        assert node.metadata == found.metadata
        assert pairs.setdefault(id(node), id(found)) == id(found)
        for name in ("target", "kind", "major", "minor", "content"):
            assert getattr(node, name, None) == getattr(found, name, None)


@given(trees())
def test_a_tree_comes_back_as_it_was(given_tree):
    found = through(given_tree)
    assert found.root.metadata == given_tree.root.metadata
    _same(given_tree, found)


def test_a_tree_may_be_deeper_than_the_interpreters_stack():
    root = Directory(Metadata(0o755))
    for _ in range(5000):
        root = Directory(Metadata(0o755), {"d": root})
    assert sum(1 for _ in through(Tree(root)).walk()) == 5000


@pytest.mark.parametrize(
    "forged",
    [
        [],
        [FILE],
        [None],
        None,
        3,
        "text",
        {"a": 1},
        [[]],
        [["d", *COMMON, ["a"], [0]]],
        [["d", *COMMON, ["a"], [1]], ["d", *COMMON, ["a"], [0]]],
        [FILE, ["d", *COMMON, ["a/b"], [0]]],
        [FILE, ["d", *COMMON, [".."], [0]]],
        [FILE, ["d", *COMMON, ["."], [0]]],
        [FILE, ["d", *COMMON, [""], [0]]],
        [FILE, ["d", *COMMON, ["a\0"], [0]]],
        [FILE, ["d", *COMMON, ["a" * 256], [0]]],
        [FILE, ["d", *COMMON, ["\ud800"], [0]]],
        [FILE, ["d", *COMMON, ["a", "a"], [0, 0]]],
        [FILE, ["d", *COMMON, ["a"], [0, 0]]],
        [FILE, ["d", *COMMON, ["a"], [-1]]],
        [FILE, ["d", *COMMON, ["a"], [True]]],
        [FILE, ["d", *COMMON, 1, [0]]],
        [FILE, ["d", *COMMON, [["a"]], [0]]],
        [["d", *COMMON, [], []], ["d", *COMMON, ["a", "b"], [0, 0]]],
        [["f", *COMMON, 0, 5, 5], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, 5, 5, [[0, 0, 4]]], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, 5, 5, [[0, 0, 5], [0, 5, 0]]], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, 5, 5, [[-2, 0, 5]]], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, 5, 5, [[0, -1, 5]]], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, 5, 5, [[0, 5]]], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, -1, 0, []], ["d", *COMMON, [], []]],
        [["f", *COMMON, 0, 1 << 64, 0, []], ["d", *COMMON, [], []]],
        [["f", 0o10000, 0, 0, 0, [], 0, 0, 0, []], ["d", *COMMON, [], []]],
        [["f", 0.5, 0, 0, 0, [], 0, 0, 0, []], ["d", *COMMON, [], []]],
        [["f", 0, 1 << 32, 0, 0, [], 0, 0, 0, []], ["d", *COMMON, [], []]],
        [["f", 0, 0, 0, 0, [["user.x", "?"]], 0, 0, 0, []], ["d", *COMMON, [], []]],
        [["f", 0, 0, 0, 0, [[1, ""]], 0, 0, 0, []], ["d", *COMMON, [], []]],
        [["f", 0, 0, 0, 0, {"a": 1}, 0, 0, 0, []], ["d", *COMMON, [], []]],
        [["l", *COMMON, "a\0b"], ["d", *COMMON, [], []]],
        [["l", *COMMON, "a" * 70_000], ["d", *COMMON, [], []]],
        [["b", *COMMON, 1 << 12, 0], ["d", *COMMON, [], []]],
        [["x", *COMMON], ["d", *COMMON, [], []]],
    ],
)
def test_an_invalid_tree_is_refused(forged):
    with pytest.raises(FormatError, match="the sandbox worker returned an invalid reply"):
        decode_tree([json.dumps(forged).encode()], lambda *_: File)


def test_places_of_contents_come_with_them():
    places = ((0, 4096, 3), (-1, 0, 7))
    given_tree = Tree(Directory(Metadata(0o755), {"a": File(Metadata(0o644), Bytes(b"x" * 10))}))
    sent = encode_tree(given_tree, [], lambda _content: places)
    assert decode_tree(sent, lambda *given: given).get("a").content == (0, 10, 10, places)
