"""The schedule of the health checks of extension records, and their outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain.registry import extension
from fuseml.store import extensions
from fuseml.store.tables import extension_rows


@dataclass(frozen=True, slots=True)
class Due:
    """A record whose health check is due: all of it, or what has `changed` since its last one. `failures` is the count before this check."""

    record: extension.Extension
    changed: bool
    failures: int


def due(session: Session, now: str, limit: int) -> list[Due]:
    """The records whose health check is due by `now`, changed ones first, then by their time."""
    row = extension_rows.ExtensionRecord
    query = select(row).where(col(row.check_due) <= now).order_by(col(row.check_due), col(row.id)).limit(limit)
    return [Due(extensions.of_row(found), not found.check_due, found.check_failures) for found in session.exec(query)]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of the check of a record: when the next one is `due`, how many failed in a row, and whether it `changed` the health.

    `checked` is the time of a check that has a result for each part; empty for another one.
    """

    record: extension.Extension
    due: str
    failures: int
    checked: str
    changed: bool


def store(session: Session, checks: Sequence[Check]) -> None:
    """Store the outcome of checks; revision and `updated` stay.

    A record may have changed since its check read it. Then its parts that did not change get their health, and it stays due. A result of an
    older check than the stored one changes nothing.
    """
    for check in checks:
        if check.changed:
            extensions.store_health(session, check.record)
    row = extension_rows.ExtensionRecord
    values = [
        {"of": check.record.id, "at": check.record.revision, "due": check.due, "failures": check.failures, "checked": check.checked}
        for check in checks
    ]
    checked = sqlalchemy.bindparam("checked", type_=sqlalchemy.String())
    statement = (
        sqlalchemy.update(row)
        .where(col(row.id) == sqlalchemy.bindparam("of"), col(row.revision) == sqlalchemy.bindparam("at"))
        .values(
            check_due=sqlalchemy.bindparam("due"),
            check_failures=sqlalchemy.bindparam("failures"),
            checked=sqlalchemy.case((col(row.checked) < checked, checked), else_=col(row.checked)),
        )
    )
    session.flush()
    if values:
        session.connection().execute(statement, values)
