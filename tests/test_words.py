"""Words that must not come back: in the names of modules, classes and functions, and in messages. docs/terms.md"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ltsp"
MODULES = sorted(SOURCE.rglob("*.py"))

NAMES = {
    "told": "a verb and its object, such as describe_user",
    "generation": "version",
    "draft": "staged image",
    "census": "prescan",
    "succession": "switch",
    "adoption": "adopt",
    "wishes": "options",
    "unforeseen": "internal error",
    "parcel": "layer",
    "frames": "protocol",
    "most": "max_… or limit",
    "see_that": "check_… or require_…",
    "whoever": "a noun",
}
"""By a part of a name, as between underscores: what to write in its place."""

MESSAGES = {
    "a fault of this program": "internal error",
    "anew": "again",
    "(is|are) at work": "is running",
    "beside": "next to, besides",
    "exported images?": "published image",
    "lies": "is",
    "makes? no sense": "invalid",
    "mends?": "fix",
    "nobody can tell": "cannot determine",
    "of ours": "our",
    "(?<!there )is no(?! longer)": "is not a",
    "(is|are) not there": "not found, missing",
    "that there (is|are)": "existing",
    "told": "reported, named",
    "whoever": "anyone who",
}
"""By a regular expression for words of a text: what to write in their place."""


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def defined_names(path: Path) -> list[tuple[int, str]]:
    """The module and what it defines, in lower case with underscores between the parts, and where."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = [(node.lineno, node.name) for node in ast.walk(parse(path)) if isinstance(node, definitions)]
    return [(line, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()) for line, name in [(1, path.stem), *names]]


def messages(path: Path) -> list[tuple[int, str]]:
    """The texts of a module that are not docstrings, and where."""
    tree = parse(path)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]


def find_words(texts: list[tuple[int, str]], words: dict[str, str], pattern: str) -> list[str]:
    """A line for each word that is there; `pattern` puts a word in its place between others."""
    return [
        f"line {line}: {found[0]!r} in {text.strip()[:80]!r}: write {better!r}"
        for line, text in texts
        for word, better in words.items()
        if (found := re.search(pattern.format(word), text, re.IGNORECASE))
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_names_use_the_words_of_the_glossary(path):
    assert find_words(defined_names(path), NAMES, r"(?:^|_){}(?:_|$)") == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_messages_use_plain_english(path):
    assert find_words(messages(path), MESSAGES, r"\b{}\b") == []
