"""`-regex`: POSIX extended regular expressions, against regcomp(3) as grep -E has it."""

import subprocess

import pytest

from ltsp.errors import UsageError
from ltsp.transform.posix_regex import compile_regex

NAMES = [
    "a",
    "abc",
    "a.b",
    "x1",
    "A-B",
    "]",
    "a\\b",
    "foo_bar",
    "",
    "aa",
    "{",
    "a{1}",
    "^",
    "$x",
    "cache",
    "2024-01.log",
]
EXPRESSIONS = [
    "^a",
    "b$",
    "a.c",
    "[0-9]",
    "[^a-z]",
    "[[:upper:]]",
    "[]]",
    "[\\]",
    "a{2}",
    "^(a|x)",
    "^(aa?|x[0-9]+)$",
    "[a-]",
    r"\.",
    r"\w",
    r"\W",
    r"\bfoo",
    r"(a)\1",
    r"^[[:alnum:]._-]+\.log$",
    "[[.a.]]",
    "^$",
]


@pytest.mark.oracle
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_is_found_where_grep_finds_it(expression):
    matches = compile_regex(expression)
    for name in NAMES:
        grep = subprocess.run(
            ["grep", "-qE", "-e", expression], input=f"{name}\n", text=True, env={"LC_ALL": "C"}, check=False
        )
        assert matches(name) == (grep.returncode == 0), name


@pytest.mark.parametrize("expression", ["(", "[", "a(?:b)", "(?i)a", "[[:bogus:]]", "a{3,1}"])
def test_an_invalid_expression_is_refused(expression):
    with pytest.raises(UsageError, match="invalid regular expression"):
        compile_regex(expression)
