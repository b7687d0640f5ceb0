from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ltsp.publish import version

DIGEST = "1a2b3c4d" + "0" * 56
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- hypothesis adds it


def test_a_version_is_its_time_and_its_image():
    moment = datetime(2026, 1, 31, 17, 45, 12, 345, UTC)
    assert version.new_version_id(moment, DIGEST, []) == "20260131T174512Z-1a2b3c4d"


@given(st.lists(MOMENTS, min_size=2, max_size=20))
def test_versions_sort_in_the_order_they_were_made_whatever_the_clock_does(moments):
    made: list[str] = []
    for moment in moments:
        made.append(version.new_version_id(moment, DIGEST, made))
    assert made == sorted(set(made))
    assert all(map(version.is_version_id, made))


@given(MOMENTS)
def test_the_time_is_read_back_to_the_second(moment):
    name = version.new_version_id(moment, DIGEST, [])
    assert moment - version.parse_time(name) < timedelta(seconds=1)


def test_other_names_are_not_version_ids():
    for name in ("", "current", "20260131T174512Z", "20260131T174512Z-1A2B3C4D", "20269931T174512Z-1a2b3c4d"):
        assert not version.is_version_id(name)
