"""Dates of requests and responses. MLflow's dates have nanoseconds and no time zone: FuseML reads and writes them in UTC."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence

import numpy
import pandas

_ISO = re.compile(r"\d{4}(-?\d\d(-?\d\d)?)?([T ]\d\d(:?\d\d(:?\d\d(\.\d{1,9})?)?)?( ?(Z|[+-]\d\d(:?\d\d)?))?)?", re.ASCII)
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MOST = 2**63 - 1
# pandas 2 and later expect one form in a column, unless this format allows several.
_FORMAT = {} if pandas.__version__.startswith("1.") else {"format": "ISO8601"}
EXAMPLE = "2026-01-31T12:30:00Z"


def from_text(texts: Sequence[object]) -> pandas.DatetimeIndex:
    """Dates in ISO 8601, each in a form of its own; with an offset they are converted to UTC, without one they are UTC. None is null.

    Raises ValueError for other text, and for a moment outside the years 1678 to 2261.
    """
    for text in texts:
        if text is not None and not _is_iso(text):
            raise ValueError(f"{str(text)[:40]!r} is not a date in ISO 8601")
    return _read(texts, "raise").astype("datetime64[ns]")


def coerced(texts: Sequence[object]) -> pandas.DatetimeIndex:
    """Dates as those of `from_text`; all that it refuses is null."""
    moments = _read([text if _is_iso(text) else None for text in texts], "coerce")
    # pandas 3 reads moments that nanoseconds do not reach.
    return moments.where((moments >= pandas.Timestamp.min) & (moments <= pandas.Timestamp.max)).astype("datetime64[ns]")


def _is_iso(text: object) -> bool:
    return isinstance(text, str) and _ISO.fullmatch(text) is not None


def _read(texts: Sequence[object], errors: str) -> pandas.DatetimeIndex:
    read = pandas.to_datetime(pandas.Series(texts, dtype=object), utc=True, errors=errors, **_FORMAT)
    return pandas.DatetimeIndex(read).tz_localize(None)


def from_epoch(numbers: numpy.ndarray, unit: str) -> pandas.DatetimeIndex:
    """Dates from numbers of `unit` (`s`, `ms`, `us`, `ns`) since 1970 in UTC. None and NaN are null.

    Raises ValueError for a moment outside the years 1678 to 2261.
    """
    factor = _NANOSECONDS[unit]
    if numbers.dtype.kind == "f" and numpy.isinf(numbers).any():
        raise ValueError("a moment is infinite")
    moments = [None if number is None or math.isnan(number) else round(number * factor) for number in numbers.tolist()]
    if any(moment is not None and abs(moment) > _MOST for moment in moments):
        raise ValueError("a moment is outside the years 1678 to 2261")
    nat = numpy.iinfo("int64").min
    return pandas.DatetimeIndex(numpy.array([nat if moment is None else moment for moment in moments], "int64").view("datetime64[ns]"))


def text(moment: object) -> str | None:
    """A date, or a moment of Python, pandas or numpy, in ISO 8601; None for a null one."""
    if isinstance(moment, numpy.datetime64):
        if numpy.isnat(moment):
            return None
        if numpy.datetime_data(moment.dtype)[0] in ("Y", "M", "W", "D"):
            return str(moment.astype("datetime64[D]"))
        moment = pandas.Timestamp(moment)
    if moment is pandas.NaT or not isinstance(moment, (datetime.date, datetime.time)):
        return None
    return moment.isoformat()
