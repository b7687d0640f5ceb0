"""docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast

import pytest

from corpus.promises import CHECKOUT, PROMISES, TESTS


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_has_tests_that_exist(promise):
    assert TESTS[promise]
    for name in TESTS[promise]:
        path, _, function = name.partition("::")
        nodes = ast.walk(ast.parse((CHECKOUT / path).read_text()))
        defined = [node.name for node in nodes if isinstance(node, ast.FunctionDef)]
        assert any(each.startswith("test_") and function in {"", each} for each in defined), name


def test_all_promises_of_the_first_version_are_listed():
    assert {*PROMISES} >= {f"R{number}" for number in (*range(1, 7), *range(9, 16), 18, 19)}
