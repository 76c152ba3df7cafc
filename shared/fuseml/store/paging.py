"""Keyset pagination: the cost of a page does not grow with its number, and no row appears twice."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from fuseml.domain import errors

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` rows after `cursor`."""

    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Slice(Generic[Row]):
    """One page of rows, and the cursor of the next page, if any."""

    rows: Sequence[Row]
    next_cursor: str | None = None


def fetch(session: Session, query: SelectOfScalar[Row], page: Page, *columns: Any, descending: bool = False) -> Slice[Row]:
    """Run `query` ordered by `columns`, which together are unique. Raises InvalidError for a cursor of another list or server."""
    if page.cursor is not None:
        after = _decode(page.cursor, columns)
        edge = sqlalchemy.tuple_(*columns)
        query = query.where(edge < after if descending else edge > after)
    query = query.order_by(*(column.desc() if descending else column for column in columns)).limit(page.limit + 1)
    rows = session.exec(query).all()
    if len(rows) <= page.limit:
        return Slice(rows)
    last = rows[page.limit - 1]
    return Slice(rows[: page.limit], _encode([getattr(last, column.key) for column in columns]))


def _encode(values: Sequence[object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(cursor: str, columns: Sequence[Any]) -> tuple[Any, ...]:
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError) as error:
        raise errors.InvalidError("the cursor is not one of this server; begin again without it") from error
    kinds = [int if isinstance(column.type, sqlalchemy.Integer) else str for column in columns]
    if not isinstance(values, list) or [type(value) for value in values] != kinds or not all(_storable(value) for value in values):
        raise errors.InvalidError("the cursor is not one of this list; begin again without it")
    return tuple(values)


def _storable(value: str | int) -> bool:
    return value.isprintable() if isinstance(value, str) else abs(value) < 1 << 63


def batches(values: Collection[str], size: int = 100) -> Iterator[Sequence[str]]:
    """The values in groups: databases limit the length of a condition."""
    listed = list(values)
    return (listed[start : start + size] for start in range(0, len(listed), size))
