from __future__ import annotations

from ltsp.publish.gc import RemovalReason, Retention, find_removable_versions
from ltsp.publish.manifest import ImageFacts, Manifest, Origin, SourceFacts
from ltsp.publish.paths import ImagePaths
from ltsp.publish.version import Version

PLACES = ImagePaths("lab", "/srv/ltsp", "/srv/tftp")
DAY = 86400
NOW = 100 * DAY


def made(version, *, image=None, days=50, pinned=False, origin=Origin.BUILT, staged=False, size=1):
    """A version, last current so many days ago, with an image of its own unless another one is given."""
    manifest = Manifest("lab", version, "", origin, SourceFacts("/", "directory"), ImageFacts(size, "", ""), None)
    return Version(PLACES, manifest, (1, hash(image or version)), pinned, NOW - days * DAY, staged)


def collected(versions, retention=Retention(2, 3), *, current="d", **names):  # noqa: B008 -- frozen
    return [each.id for each in let_go(versions, retention, current=current, **names)]


def let_go(versions, retention, *, current="d", **names):
    names = {"previous": None, "in_use": (), "disk_size": 1000, **names}
    return find_removable_versions(versions, retention, current={current}, now=NOW, **names)


FOUR = [made("a"), made("b"), made("c"), made("d")]


def test_the_current_image_and_the_one_before_are_kept():
    assert collected(FOUR) == ["a", "b"]
    assert collected(FOUR, previous="a") == ["b", "c"]


def test_more_can_be_kept():
    assert collected(FOUR, Retention(3, 0)) == ["a"]


def test_the_previous_one_is_kept_even_if_only_one_is_requested():
    assert collected(FOUR, Retention(1, 0), previous="a") == ["b", "c"]


def test_a_version_stays_for_days_after_it_was_last_current():
    assert collected([made("a", days=2.9), made("b", days=3.1), *FOUR[2:]]) == ["b"]


def test_pinned_foreign_and_used_ones_stay():
    versions = [made("a", pinned=True), made("b", origin=Origin.FOREIGN), made("b2"), made("b3"), *FOUR[2:]]
    assert collected(versions, in_use={"b2"}) == ["b3"]


def test_versions_that_share_an_image_count_once():
    versions = [made("a"), made("b", image="x"), made("c", image="x"), made("d", image="x")]
    assert collected(versions) == []


def test_the_dropped_version_is_collected_though_young_and_among_the_newest():
    versions = [*FOUR[:2], made("c", days=0), FOUR[3]]
    assert collected(versions, dropped="c", previous="b") == ["a", "c"]


def test_the_dropped_version_stays_while_pinned_or_in_use():
    assert collected([made("c", pinned=True), FOUR[3]], dropped="c") == []
    assert collected(FOUR[2:], dropped="c", in_use={"c"}) == []


def test_the_current_version_is_never_collected():
    assert collected([made("d", days=99)], Retention(1, 0), dropped="d") == []


def test_the_version_that_waits_is_kept_and_takes_no_place_of_one_that_clients_ran_on():
    versions = [made("b"), *FOUR[2:], made("e", staged=True)]
    assert collected(versions, Retention(1, 0), waiting="e") == ["b", "c"]
    assert collected(versions, Retention(2, 0), previous="b", waiting="e") == ["c"]


def test_staged_versions_that_are_overtaken_go_however_young_they_are():
    assert collected([made("b", staged=True, days=0), *FOUR[2:]]) == ["b"]
    assert collected([made("b", staged=True, image="x"), made("d", image="x")]) == ["b"]
    assert collected([made("b", staged=True, pinned=True), made("d")]) == []


def builds_of_a_day(count, **facts):
    return [made(f"{number:02}", days=1 - number / 100, size=10, **facts) for number in range(count)]


def test_a_day_of_builds_keeps_no_more_than_its_share_of_the_disk():
    """52 builds in a day used to keep 52 images."""
    versions = builds_of_a_day(52)
    gone = let_go(versions, Retention(2, 3, share=25), current="51", previous="50")
    assert {each.reason for each in gone} == {RemovalReason.SHARE}
    assert [each.id for each in gone] == [f"{number:02}" for number in range(25)]
    assert collected(versions, Retention(2, 3, share=100), current="51", previous="50") == []
    assert len(collected(versions, Retention(2, 3, share=0), current="51", previous="50")) == 50


def test_versions_kept_for_other_reasons_do_not_count_toward_the_share():
    versions = [*builds_of_a_day(9, pinned=True), *(made(name, days=0.1, size=10) for name in "ab")]
    versions += [made("c", days=0, size=900), made("d", days=0, size=900)]
    assert collected(versions, Retention(2, 3, share=2), previous="c", in_use={"a"}) == []
    assert collected(versions, Retention(2, 3, share=1), previous="c", in_use={"a"}) == []
    assert collected(versions, Retention(2, 3, share=0.5), previous="c", in_use={"a"}) == ["b"]


def test_versions_that_differ_in_the_kernel_alone_take_the_room_of_one_image():
    versions = [made(f"k{number}", image="x", days=1, size=10) for number in range(5)]
    versions += [made("c", days=0), made("d", days=0)]
    assert collected(versions, Retention(2, 3, share=1), previous="c") == []


def test_the_reason_for_a_removal_is_reported():
    versions = [made("a"), made("b", staged=True), made("c", days=1), FOUR[3]]
    gone = let_go(versions, Retention(1, 3), dropped="c")
    assert [(each.id, each.reason) for each in gone] == [
        ("a", RemovalReason.AGE),
        ("b", RemovalReason.UNWANTED),
        ("c", RemovalReason.UNWANTED),
    ]
