from __future__ import annotations

from ltsp.publish.generation import Generation
from ltsp.publish.manifest import Manifest, Origin, Source
from ltsp.publish.places import Places
from ltsp.publish.retention import Retention, collectable

PLACES = Places("lab", "/srv/ltsp", "/srv/tftp")
DAY = 86400
NOW = 100 * DAY


def made(version, *, image=None, days=50, pinned=False, origin=Origin.BUILT, staged=False):
    """A version, last current so many days ago; its image is its own unless another one's is given."""
    manifest = Manifest("lab", version, "", origin, Source("/", "directory"), None, None)
    return Generation(PLACES, manifest, (1, hash(image or version)), pinned, NOW - days * DAY, staged)


def collected(generations, keep=Retention(2, 3), *, current="d", **names):  # noqa: B008 -- frozen
    names = {"before": None, "in_use": (), **names}
    doomed = collectable(generations, keep, current={current}, now=NOW, **names)
    return [each.version for each in doomed]


FOUR = [made("a"), made("b"), made("c"), made("d")]


def test_the_current_image_and_the_one_before_are_kept():
    assert collected(FOUR) == ["a", "b"]
    assert collected(FOUR, before="a") == ["b", "c"]


def test_more_can_be_kept():
    assert collected(FOUR, Retention(3, 0)) == ["a"]


def test_the_one_before_is_kept_where_only_one_is_asked_for():
    assert collected(FOUR, Retention(1, 0), before="a") == ["b", "c"]


def test_a_version_stays_for_days_after_it_was_last_current():
    assert collected([made("a", days=2.9), made("b", days=3.1), *FOUR[2:]]) == ["b"]


def test_pinned_foreign_and_used_ones_stay():
    generations = [made("a", pinned=True), made("b", origin=Origin.FOREIGN), made("b2"), made("b3"), *FOUR[2:]]
    assert collected(generations, in_use={"b2"}) == ["b3"]


def test_versions_that_share_an_image_count_once():
    generations = [made("a"), made("b", image="x"), made("c", image="x"), made("d", image="x")]
    assert collected(generations) == []


def test_the_dropped_version_is_collected_though_young_and_among_the_newest():
    generations = [*FOUR[:2], made("c", days=0), FOUR[3]]
    assert collected(generations, dropped="c", before="b") == ["a", "c"]


def test_the_dropped_version_stays_while_pinned_or_in_use():
    assert collected([made("c", pinned=True), FOUR[3]], dropped="c") == []
    assert collected(FOUR[2:], dropped="c", in_use={"c"}) == []


def test_the_current_version_is_never_collected():
    assert collected([made("d", days=99)], Retention(1, 0), dropped="d") == []


def test_the_version_that_waits_is_kept_and_takes_no_place_of_one_that_clients_ran_on():
    generations = [made("b"), *FOUR[2:], made("e", staged=True)]
    assert collected(generations, Retention(1, 0), waiting="e") == ["b", "c"]
    assert collected(generations, Retention(2, 0), before="b", waiting="e") == ["c"]


def test_staged_versions_that_are_overtaken_go_however_young_they_are():
    assert collected([made("b", staged=True, days=0), *FOUR[2:]]) == ["b"]
    assert collected([made("b", staged=True, image="x"), made("d", image="x")]) == ["b"]
    assert collected([made("b", staged=True, pinned=True), made("d")]) == []
