import itertools

import pytest

from ltsp.tree.selection import (
    Inclusion,
    combine_selections,
    make_emptying_selection,
    make_excluding_selection,
    select_all,
)

STRENGTH = [Inclusion.ALL, Inclusion.EMPTIED, Inclusion.NOTHING]


@pytest.mark.parametrize("answers", [*itertools.product(STRENGTH, repeat=3)], ids=str)
def test_the_strongest_answer_wins(answers):
    take = combine_selections(*(lambda _path, _directory, answer=answer: answer for answer in answers))
    assert take("x", True) is max(answers, key=STRENGTH.index)


def test_nothing_to_combine_takes_everything():
    assert combine_selections() is select_all
    assert combine_selections(select_all, select_all) is select_all


def test_leaving_out_and_emptying_are_about_these_very_paths():
    take = combine_selections(make_excluding_selection(["srv/ltsp"]), make_emptying_selection(["/mnt/"]))
    assert take("srv/ltsp", True) is Inclusion.NOTHING
    assert take("srv", True) is Inclusion.ALL
    assert take("mnt", True) is Inclusion.EMPTIED
    assert take("mnt", False) is Inclusion.ALL
