"""Schedules: parsing, and the matching minutes compared with a minute-by-minute implementation."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.workflows import schedule

MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0, microsecond: int = 0) -> datetime.datetime:
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, tzinfo=datetime.UTC)


def test_a_schedule_parses_field_by_field() -> None:
    parsed = schedule.parse("*/15 3,5 1-7 jan-MAR mon")
    assert parsed.minutes == {0, 15, 30, 45}
    assert parsed.hours == {3, 5}
    assert parsed.days == set(range(1, 8))
    assert parsed.months == {1, 2, 3}
    assert parsed.weekdays == {1}
    assert parsed.either_day


def test_sunday_is_zero_and_seven() -> None:
    assert schedule.parse("0 0 * * 7").weekdays == {0}
    assert schedule.parse("0 0 * * 5-7").weekdays == {5, 6, 0}
    assert not schedule.parse("0 0 * * 5-7").either_day


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has 0 fields"),
        ("0 3 * *", "has 4 fields"),
        ("60 3 * * *", "'60' is not a valid minute"),
        ("0 24 * * *", "'24' is not a valid hour"),
        ("0 3 0 * *", "'0' is not a valid day of the month"),
        ("0 3 * 13 *", "'13' is not a valid month"),
        ("0 3 * * 8", "'8' is not a valid day of the week"),
        ("0 3 * * fun", "'fun' is not a valid day of the week"),
        ("5-1 * * * *", "'5-1' is not a valid minute"),
        ("*/0 * * * *", "'*/0' is not a valid minute"),
        ("1,,2 * * * *", "'' is not a valid minute"),
        ("0 0 30 2 *", "matches no date: the months have no day 30"),
        ("@daily", "has 1 fields"),
    ],
)
def test_an_invalid_schedule_names_the_field(text: str, message: str) -> None:
    with pytest.raises(errors.InvalidError, match=re.escape(message)):
        schedule.parse(text)


@given(st.text("0123456789*/,-adefijmnorstuw ", max_size=30))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        parsed = schedule.parse(text)
    except errors.InvalidError:
        return
    assert all((parsed.minutes, parsed.hours, parsed.days, parsed.months, parsed.weekdays))


class Oracle:
    """A plain implementation of cron: every field is compared in every minute."""

    def __init__(self, text: str) -> None:
        self.fields = text.split()

    def matches(self, moment: datetime.datetime) -> bool:
        values = (moment.minute, moment.hour, moment.day, moment.month, (moment.weekday() + 1) % 7)
        lows = (0, 0, 1, 1, 0)
        minute, hour, day, month, weekday = (holds(field, value, low) for field, value, low in zip(self.fields, values, lows, strict=True))
        is_either = "*" not in (self.fields[2][0], self.fields[4][0])
        return minute and hour and month and (day or weekday if is_either else day and weekday)

    def between(self, after: datetime.datetime, until: datetime.datetime) -> Iterator[datetime.datetime]:
        moment = after.replace(second=0, microsecond=0) + MINUTE
        while moment <= until:
            if self.matches(moment):
                yield moment
            moment += MINUTE


def holds(field: str, value: int, low: int) -> bool:
    if field.startswith("*"):
        return (value - low) % int(field.partition("/")[2] or 1) == 0
    return any(int(first) <= value <= int(last or first) for first, _, last in (part.partition("-") for part in field.split(",")))


def field(low: int, high: int, steps: tuple[int, ...]) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    ranges = st.tuples(numbers, numbers).map(lambda pair: f"{min(pair)}-{max(pair)}")
    listed = st.lists(st.one_of(numbers.map(str), ranges), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), st.sampled_from(steps).map(lambda step: f"*/{step}"), listed)


EXPRESSIONS = st.tuples(field(0, 59, (7, 20)), field(0, 23, (5, 6)), field(1, 31, (2, 10)), field(1, 12, (2, 3)), field(0, 6, (2, 3))).map(
    " ".join
)
# Edges of the calendar: leap days, common years, ends of months and years.
ANCHORS = st.sampled_from([utc(2028, 2, 27), utc(2027, 2, 26), utc(2100, 2, 26), utc(2026, 4, 28), utc(2026, 12, 29), utc(2026, 11, 21)])
MOMENTS = st.builds(lambda anchor, seconds: anchor + datetime.timedelta(seconds=seconds), ANCHORS, st.integers(0, 4 * 86_400))


@settings(max_examples=60)
@given(EXPRESSIONS, MOMENTS, st.integers(0, 3 * 86_400))
def test_the_latest_minute_agrees_with_the_plain_implementation(text: str, after: datetime.datetime, seconds: int) -> None:
    try:
        parsed = schedule.parse(text)
    except errors.InvalidError as error:
        assert "matches no date" in error.message
        return
    until = after + datetime.timedelta(seconds=seconds)
    assert schedule.latest(parsed, after, until) == max(Oracle(text).between(after, until), default=None)


@settings(max_examples=60)
@given(EXPRESSIONS, MOMENTS)
def test_the_next_minute_agrees_with_the_plain_implementation(text: str, after: datetime.datetime) -> None:
    try:
        parsed = schedule.parse(text)
    except errors.InvalidError:
        return
    moment = schedule.following(parsed, after)
    assert Oracle(text).matches(moment)
    assert next(Oracle(text).between(after, min(moment, after + 5 * DAY)), moment) == moment


@pytest.mark.parametrize(
    ("text", "after", "following"),
    [
        ("* * * * *", utc(2026, 11, 21, 12, 0, 0, 1), utc(2026, 11, 21, 12, 1)),
        ("0 3 * * *", utc(2026, 11, 21, 3), utc(2026, 11, 22, 3)),
        ("0 0 31 * *", utc(2026, 3, 31), utc(2026, 5, 31)),
        ("0 0 29 2 *", utc(2096, 2, 29), utc(2104, 2, 29)),
        ("0 0 29 2 */7", utc(2026, 1, 1), utc(2032, 2, 29)),
        ("59 23 31 12 *", utc(2026, 12, 31, 23, 59), utc(2027, 12, 31, 23, 59)),
        # crontab(5): if both day fields are restricted, either is enough; a field that begins with * is not restricted.
        ("0 0 13 * fri", utc(2026, 11, 9), utc(2026, 11, 13)),
        ("0 0 13 * fri", utc(2026, 11, 13), utc(2026, 11, 20)),
        ("0 0 */2 * fri", utc(2026, 11, 13), utc(2026, 11, 27)),
    ],
)
def test_the_next_minute_can_be_months_or_years_away(text: str, after: datetime.datetime, following: datetime.datetime) -> None:
    assert schedule.following(schedule.parse(text), after) == following


def test_february_29_occurs_on_every_weekday() -> None:
    for weekday in range(7):
        parsed = schedule.Schedule(
            minutes=frozenset({0}),
            hours=frozenset({0}),
            days=frozenset({29}),
            months=frozenset({2}),
            weekdays=frozenset({weekday}),
            either_day=False,
        )
        assert schedule.following(parsed, utc(2026, 1, 1)).isoweekday() % 7 == weekday
