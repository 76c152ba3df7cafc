"""Schedules: the cron expressions of crontab(5), five fields in UTC, and the minutes that match them.

If both day fields are restricted, either is enough: `0 0 13 * 5` is every 13th and every Friday. A field that begins with `*`, such as
`*/2`, is not restricted in this sense. Months without the day are skipped.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from fuseml.domain import errors

# The calendar repeats after this number of years, weekdays included.
_CYCLE_YEARS = 400
_DAY = datetime.timedelta(days=1)
_MINUTE = datetime.timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression: the matching values of each field. Weekdays count from Sunday, 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both day fields are restricted, so either is enough (crontab(5))."""


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_WEEKDAYS)}),
)
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_RANGE = re.compile(r"(?:(\*)|(\w{1,9})(?:-(\w{1,9}))?)(?:/([0-9]{1,4}))?", re.ASCII)


def parse(text: str) -> Schedule:
    """Parse a cron expression of five fields (crontab(5)): minute, hour, day of the month, month, day of the week.

    Raises InvalidError for an invalid field, which it names, and for a day that no month has (30 February).
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise errors.InvalidError(f"{text!r} has {len(fields)} fields; a schedule has five: {names}, such as '0 3 * * *'")
    minutes, hours, days, months, weekdays = (
        _values(field, name, low, high, names) for field, (name, low, high, names) in zip(fields, _FIELDS, strict=True)
    )
    if min(days) > max(_LONGEST_MONTH.get(month, 31) for month in months) and fields[4].startswith("*"):
        raise errors.InvalidError(f"{text!r} matches no date: the months have no day {min(days)}")
    either_day = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Schedule(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either_day)


def following(schedule: Schedule, after: datetime.datetime) -> datetime.datetime:
    """The first minute of the schedule later than `after` (UTC)."""
    earliest = after.replace(second=0, microsecond=0) + _MINUTE
    day = earliest.date()
    while True:
        if day.month not in schedule.months:
            day = (day.replace(day=1) + 31 * _DAY).replace(day=1)
            continue
        if _is_day(schedule, day):
            for hour in sorted(schedule.hours):
                for minute in sorted(schedule.minutes):
                    moment = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=datetime.UTC)
                    if moment >= earliest:
                        return moment
        day += _DAY
        if day.year - earliest.year > _CYCLE_YEARS:
            raise errors.PermanentError("the schedule matches no date; correct its days and months")


def latest(schedule: Schedule, after: datetime.datetime, until: datetime.datetime) -> datetime.datetime | None:
    """The last minute of the schedule later than `after` and not later than `until` (UTC), or None."""
    day = until.date()
    while day >= after.date():
        if _is_day(schedule, day):
            for hour in sorted(schedule.hours, reverse=True):
                for minute in sorted(schedule.minutes, reverse=True):
                    moment = datetime.datetime(day.year, day.month, day.day, hour, minute, tzinfo=datetime.UTC)
                    if moment <= until:
                        return moment if moment > after else None
        day -= _DAY
    return None


def _is_day(schedule: Schedule, day: datetime.date) -> bool:
    if day.month not in schedule.months:
        return False
    of_month, of_week = day.day in schedule.days, day.isoweekday() % 7 in schedule.weekdays
    return of_month or of_week if schedule.either_day else of_month and of_week


def _values(text: str, name: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    values: set[int] = set()
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        first = low if match and match[1] else _number(match[2], names) if match else None
        last = high if match and (match[1] or (match[4] and not match[3])) else _number(match[3], names) if match and match[3] else first
        step = int(match[4]) if match and match[4] else 1
        if first is None or last is None or not low <= first <= last <= high or step < 1:
            raise errors.InvalidError(
                f"{part!r} is not a valid {name}: use {low}-{high}, *, a range such as {low}-{low + 2}, a step such as */2"
            )
        values.update(range(first, last + 1, step))
    return frozenset(values)


def _number(text: str, names: dict[str, int]) -> int | None:
    return int(text) if text.isdecimal() else names.get(text.lower())
