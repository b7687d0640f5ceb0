"""Section names that match machines, and those that never match one."""

from __future__ import annotations

import pytest

from ltsp.settings.conf_sections import find_pattern_fault


@pytest.mark.parametrize(
    "pattern",
    [
        "52:54:00:12:34:56",
        "52:54:00:*",
        "*:34:56",
        "b8:27:eb:*",
        "52:54:00:12:34:[0-5]?",
        "192.168.67.20",
        "192.168.67.*",
        "192.168.*",
        "192.168.67.[0-9]",
        "pc01",
        "pc*",
        "lab-[12]*",
        "*",
        "pc01.example.org",
        "123456789012",
    ],
)
def test_valid_patterns_have_no_fault(pattern):
    assert find_pattern_fault(pattern) == ""


@pytest.mark.parametrize(
    "pattern",
    [
        "52-54-00-12-34-56",
        "01-52-54-00-12-34-56",
        "525400ab3456",
        "5254.00ab.3456",
        "52:54:0:12:34:56",
        "52.54.00.ab.34.56",
    ],
)
def test_an_address_in_another_notation_gets_the_right_form(pattern):
    assert "[52:54:00:" in find_pattern_fault(pattern)


@pytest.mark.parametrize(
    "pattern", ["52:54:00:12:34", "52:54:00:12:34:5g", "52:54:00:12:34:56:78", "5?:54:00", "fe80::1", "254:0:*"]
)
def test_an_invalid_address_gets_an_example(pattern):
    assert "six pairs" in find_pattern_fault(pattern)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("192.168.67", "four numbers"),
        ("192.168.67.300", "300 is too large"),
        ("192.168..1", "four numbers"),
        ("1.2.3.4.*", "four numbers"),
        ("my@pc", "letters, digits"),
    ],
)
def test_a_pattern_that_is_neither_address_nor_hostname_gets_the_reason(pattern, says):
    assert says in find_pattern_fault(pattern)
