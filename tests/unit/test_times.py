"""Times: one format, whose text order is time order."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import times
from fuseml.runtime import clock

# RFC 3339 writes zones in whole minutes.
_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))
_MOMENTS = st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(9999, 1, 1), timezones=_ZONES)


@given(_MOMENTS)
def test_a_rendered_time_is_read_back(moment: datetime.datetime) -> None:
    assert times.parse(times.render(moment)) == moment
    assert len(times.render(moment)) == 27
    assert times.normalize(moment.isoformat()) == times.render(moment)
    assert times.parse(times.render_seconds(moment)) == moment.replace(microsecond=0)


@given(_MOMENTS, _MOMENTS)
def test_times_sort_as_text(one: datetime.datetime, other: datetime.datetime) -> None:
    assert (times.render(one) < times.render(other)) is (one < other)


@pytest.mark.parametrize(
    "text",
    ["2026-11-21T02:41:41Z", "2026-11-21T02:41:41.000000999Z", "2026-11-21T03:41:41+01:00", "2026-11-20T21:41:41.000-05:00"],
)
def test_times_of_any_width_and_zone_are_normalized(text: str) -> None:
    assert times.normalize(text) == "2026-11-21T02:41:41.000000Z"
    assert times.unix(text) == 1795228901
    assert times.from_unix(times.unix(text)) == times.normalize(text)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_text_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month"):
        times.parse(text)


def test_times_shift_across_days() -> None:
    assert times.shift("2026-11-21T23:59:59.500000Z", 1.25) == "2026-11-22T00:00:00.750000Z"
    assert times.shift("2026-11-22T00:00:00.750000Z", -1.25) == "2026-11-21T23:59:59.500000Z"
    assert times.between("2026-11-21T23:59:59.500000Z", "2026-11-22T00:00:00.750000Z") == 1.25


def test_moments_around_now() -> None:
    before, earlier, later, now = clock.now(), clock.ago(60), clock.ahead(60), clock.now()
    assert earlier < before <= now < later
    assert before <= times.shift(earlier, 60) <= now
    assert before <= times.shift(later, -60) <= now
