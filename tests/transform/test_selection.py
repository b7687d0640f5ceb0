import itertools

import pytest

from ltsp.transform.selection import combined, empty, leave_out
from ltsp.tree.selection import Take, everything

STRENGTH = [Take.ALL, Take.EMPTIED, Take.NOTHING]


@pytest.mark.parametrize("answers", [*itertools.product(STRENGTH, repeat=3)], ids=str)
def test_the_strongest_answer_wins(answers):
    take = combined(*(lambda _path, _directory, answer=answer: answer for answer in answers))
    assert take("x", True) is max(answers, key=STRENGTH.index)


def test_nothing_to_combine_takes_everything():
    assert combined() is everything
    assert combined(everything, everything) is everything


def test_leaving_out_and_emptying_are_about_these_very_paths():
    take = combined(leave_out(["srv/ltsp"]), empty(["/mnt/"]))
    assert take("srv/ltsp", True) is Take.NOTHING
    assert take("srv", True) is Take.ALL
    assert take("mnt", True) is Take.EMPTIED
    assert take("mnt", False) is Take.ALL
