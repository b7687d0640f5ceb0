"""Wildcards of one component: cases by hand, and random ones against fnmatch(3) itself."""

import ctypes
import re

import pytest

from ltsp.transform.pattern import compile_wildcard, is_plain, matches_everything

FNM_PATHNAME, FNM_PERIOD, FNM_EXTMATCH = 1, 4, 32

MATCHES = [
    ("*", "a"),
    ("a*", "a"),
    ("?", "a"),
    ("[a-c]x", "bx"),
    ("[!a-c]x", "dx"),
    ("[^a-c]x", "dx"),
    ("[]x]", "]"),
    ("[a-]", "-"),
    ("[[:digit:]]*", "3x"),
    (r"\*", "*"),
    ("[a", "[a"),
    ("a(b", "a(b"),
    ("!(a|b)", "c"),
    ("!(a|b)", "ab"),
    ("!(java)", "javax"),
    (".!(java)", ".git"),
    ("@(a|b)c", "bc"),
    ("?(a)c", "c"),
    ("*(ab)", "abab"),
    ("+(ab|c)", "cab"),
    ("!(*.gz)", "syslog"),
    ("a!(b)c", "abbc"),
    ("@(*(a|b)|c)x", "abax"),
    ("??", "é"),
    ("**", "anything"),
    ("[[=a=]b]", "a"),
    ("[[.a.]b]", "a"),
    ("[a[:bogus:]]", "a"),
    ("**?(a)x", "bx"),
    ("@([)]|b)", ")"),
    ("@([)", "@([)"),
    ("@(!(a)b|c)", "xb"),
    ("a*@(b|c)", "axc"),
]
REFUSES = [
    ("?", ""),
    ("*", ".a"),
    ("?a", ".a"),
    ("[.]a", ".a"),
    (".!(java)", ".java"),
    ("!(a|b)", "a"),
    ("[!a]", "a"),
    ("@(a|b)", "ab"),
    ("+(a)", "b"),
    ("!(*.gz)", "a.gz"),
    ("?", "é"),
    ("a\\", "a\\"),
    ("[[:bogus:]]", "b"),
    ("A", "a"),
]


@pytest.mark.parametrize(("pattern", "name"), MATCHES)
def test_a_wildcard_matches(pattern, name):
    assert compile_wildcard(pattern, match_hidden=False)(name)


@pytest.mark.parametrize(("pattern", "name"), REFUSES)
def test_a_wildcard_does_not_match(pattern, name):
    assert not compile_wildcard(pattern, match_hidden=False)(name)


@pytest.mark.parametrize(("pattern", "name"), [("*", ".a"), ("?a", ".a"), ("[.]a", ".a"), ("*a*", ".xay")])
def test_in_our_own_lists_a_wildcard_matches_a_leading_dot(pattern, name):
    assert compile_wildcard(pattern, match_hidden=True)(name)


def test_a_name_that_is_not_utf_8_is_matched_by_its_bytes():
    assert compile_wildcard("a?b", match_hidden=False)("a\udcffb")
    assert compile_wildcard("[\udcfe-\udcff]", match_hidden=False)("\udcff")


def test_plain_components_have_no_wildcard():
    assert is_plain("a.b-c (d)")
    assert not any(map(is_plain, ["*", "a?", "[a]", "!(a)", "+(a)", "@(a)", r"\a"]))
    assert matches_everything("**")
    assert not matches_everything("")


@pytest.mark.parametrize("pattern", ["*a*a*a*a*a*b", "*(*(a|aa)|*(a))b", "!(*a*a*a*)b", "+(a|aa|aaa)+(a|aa)b"])
@pytest.mark.timeout(10)
def test_no_pattern_takes_for_ever(pattern):
    """A hostile source has names of 255 letters; whoever writes the list does not think of them."""
    assert not compile_wildcard(pattern, match_hidden=True)("a" * 255)


def _random_pattern(chance, depth=0):
    parts = []
    for _ in range(chance.randint(0 if depth else 1, 4 - depth)):
        kind = chance.random()
        if kind < 0.4:
            parts.append(chance.choice("abc."))
        elif kind < 0.5:
            parts.append("?")
        elif kind < 0.62:
            parts.append("*")
        elif kind < 0.72:
            members = (chance.choice(["a", "b", "a-c", ".", "-", "[:alpha:]", "\\b"]) for _ in range(3))
            parts.append(f"[{chance.choice(['', '!', '^'])}{''.join(members)}]")
        elif kind < 0.75:
            parts.append(chance.choice(["[", "(", "!", "@", "+", "\\a", "\\*"]))
        elif depth < 2:
            alternatives = "|".join(_random_pattern(chance, depth + 1) for _ in range(chance.randint(1, 3)))
            parts.append(f"{chance.choice('?*+@!')}({alternatives})")
    return "".join(parts)


ODDITIES = re.compile(r"\*\??\*?[)|]|\*[?*]*[(\[]|\*\?*[?*+@!]?\(|-\[|\[\.")
"""What the module says it does not follow."""


@pytest.mark.oracle
def test_random_wildcards_match_as_fnmatch_of_the_machine_does(chance):
    libc = ctypes.CDLL(None)
    compared = 0
    while compared < 4000:
        pattern = _random_pattern(chance)
        if ODDITIES.search(pattern):
            continue
        for hidden, flags in ((False, FNM_PATHNAME | FNM_PERIOD | FNM_EXTMATCH), (True, FNM_PATHNAME | FNM_EXTMATCH)):
            matches = compile_wildcard(pattern, match_hidden=hidden)
            for _ in range(4):
                name = "".join(chance.choice("aabbc.-xd]") for _ in range(chance.randint(1, 6)))
                expected = libc.fnmatch(pattern.encode(), name.encode(), flags) == 0
                assert matches(name) == expected, (pattern, name, hidden)
        compared += 1
