"""The outbox of events between commit and publication, and the record of handled events: no event is lost, none has its effect twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, func, select

from fuseml.domain import events
from fuseml.store.tables import outbox_rows

FULL = 10_000
"""The number of pending events at which requests are refused."""


def as_document(event: events.Event) -> dict[str, Any]:
    """An event as plain data."""
    return {**dataclasses.asdict(event), "extensions": dict(event.extensions)}


def from_document(document: dict[str, Any]) -> events.Event:
    """The event that `as_document` wrote."""
    return events.Event(**document)


@dataclasses.dataclass(frozen=True, slots=True)
class PendingEvent:
    """An event of the outbox, not yet published."""

    sequence: int
    event: events.Event


def add(session: Session, new: Sequence[events.Event], now: str) -> list[PendingEvent]:
    """Put events into the outbox, in the transaction of their effect. The caller publishes them after the commit."""
    rows = [outbox_rows.Outbox(event=as_document(event), created=now) for event in new]
    session.add_all(rows)
    session.flush()
    return [PendingEvent(row.sequence, event) for row, event in zip(rows, new, strict=True) if row.sequence is not None]


def is_full(session: Session) -> bool:
    """Whether `FULL` events are pending. Reads no more rows than that."""
    return (
        session.exec(select(outbox_rows.Outbox.sequence).order_by(col(outbox_rows.Outbox.sequence)).offset(FULL - 1).limit(1)).first()
        is not None
    )


def pending(session: Session, after: int, limit: int, before: str | None = None) -> list[PendingEvent]:
    """Pending events, oldest first: at most `limit` of those with a sequence number above `after`, added before a time."""
    query = select(outbox_rows.Outbox).where(col(outbox_rows.Outbox.sequence) > after)
    if before is not None:
        query = query.where(outbox_rows.Outbox.created < before)
    rows = session.exec(query.order_by(col(outbox_rows.Outbox.sequence)).limit(limit)).all()
    return [PendingEvent(row.sequence, from_document(row.event)) for row in rows if row.sequence is not None]


def remove(session: Session, sequences: Sequence[int]) -> None:
    """Remove events that the broker has accepted."""
    session.exec(sqlalchemy.delete(outbox_rows.Outbox).where(col(outbox_rows.Outbox.sequence).in_(sequences)))


def depth(session: Session) -> int:
    """The number of pending events."""
    return session.exec(select(func.count()).select_from(outbox_rows.Outbox)).one()


def oldest(session: Session) -> str | None:
    """The time at which the oldest pending event was added, or None."""
    return session.exec(select(outbox_rows.Outbox.created).order_by(col(outbox_rows.Outbox.sequence)).limit(1)).first()


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """The answer to the first delivery of an event: at most one event."""

    event: events.Event | None


def handled(session: Session, consumer: str, event: events.Event) -> Reply | None:
    """The reply of `consumer` to an earlier delivery of this event, or None when it is new."""
    row = session.get(outbox_rows.HandledEvent, (event.source, event.id, consumer))
    return Reply(from_document(row.reply) if row.reply else None) if row else None


def handled_among(session: Session, consumer: str, among: Sequence[events.Event]) -> set[tuple[str, str]]:
    """(source, id) of those events that `consumer` has handled."""
    if not among:
        return set()
    rows = session.exec(
        select(outbox_rows.HandledEvent.source, outbox_rows.HandledEvent.id).where(
            outbox_rows.HandledEvent.consumer == consumer,
            col(outbox_rows.HandledEvent.source).in_({event.source for event in among}),
            col(outbox_rows.HandledEvent.id).in_({event.id for event in among}),
        )
    )
    return {(source, id) for source, id in rows}


def record_handled(session: Session, consumer: str, event: events.Event, reply: events.Event | None, now: str) -> None:
    """Record the reply to an event, in the transaction of the effect."""
    session.add(
        outbox_rows.HandledEvent(
            consumer=consumer, source=event.source, id=event.id, reply=as_document(reply) if reply else None, handled=now
        )
    )


def replies(session: Session, source: str, id: str) -> list[events.Event]:
    """The replies of all consumers to an event."""
    query = select(outbox_rows.HandledEvent).where(outbox_rows.HandledEvent.source == source, outbox_rows.HandledEvent.id == id)
    return [from_document(row.reply) for row in session.exec(query) if row.reply]


def replies_of(session: Session, consumer: str, among: Sequence[events.Event]) -> list[events.Event]:
    """The replies of `consumer` to those events."""
    if not among:
        return []
    table = outbox_rows.HandledEvent
    sources, ids = ({getattr(event, name) for event in among} for name in ("source", "id"))
    query = select(table).where(table.consumer == consumer, col(table.source).in_(sources), col(table.id).in_(ids))
    return [from_document(row.reply) for row in session.exec(query) if row.reply]


def forget_handled(session: Session, before: str) -> None:
    """Delete the record of events that were handled before a time."""
    session.exec(sqlalchemy.delete(outbox_rows.HandledEvent).where(col(outbox_rows.HandledEvent.handled) < before))
