"""Events between commit and publication, and the record of what was handled: the two halves of "nothing lost, nothing done twice"."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, func, select

from fuseml.domain import events
from fuseml.store.tables import outbox_rows

FULL = 10_000
"""How many events may wait here before nothing new is announced."""


def as_document(event: events.Event) -> dict[str, Any]:
    """An event as plain data."""
    return {**dataclasses.asdict(event), "extensions": dict(event.extensions)}


def from_document(document: dict[str, Any]) -> events.Event:
    """The event that `as_document` wrote."""
    return events.Event(**document)


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is not yet published."""

    sequence: int
    event: events.Event


def add(session: Session, announced: Sequence[events.Event], now: str) -> list[Waiting]:
    """Announce events with the transaction that made them true. Whoever adds them publishes them, when it is committed."""
    rows = [outbox_rows.Outbox(event=as_document(event), created=now) for event in announced]
    session.add_all(rows)
    session.flush()
    return [Waiting(row.sequence, event) for row, event in zip(rows, announced, strict=True) if row.sequence is not None]


def is_full(session: Session) -> bool:
    """Whether `FULL` events wait to be published. Looks at no more rows than that."""
    return (
        session.exec(select(outbox_rows.Outbox.sequence).order_by(col(outbox_rows.Outbox.sequence)).offset(FULL - 1).limit(1)).first()
        is not None
    )


def waiting(session: Session, after: int, limit: int, before: str | None = None) -> list[Waiting]:
    """Events that are not yet published, oldest first: at most `limit` of those behind the sequence number `after`, announced before a time."""
    query = select(outbox_rows.Outbox).where(col(outbox_rows.Outbox.sequence) > after)
    if before is not None:
        query = query.where(outbox_rows.Outbox.created < before)
    rows = session.exec(query.order_by(col(outbox_rows.Outbox.sequence)).limit(limit)).all()
    return [Waiting(row.sequence, from_document(row.event)) for row in rows if row.sequence is not None]


def published(session: Session, sequences: Sequence[int]) -> None:
    """Forget events that the broker has accepted."""
    session.exec(sqlalchemy.delete(outbox_rows.Outbox).where(col(outbox_rows.Outbox.sequence).in_(sequences)))


def depth(session: Session) -> int:
    """How many events are not yet published."""
    return session.exec(select(func.count()).select_from(outbox_rows.Outbox)).one()


def oldest(session: Session) -> str | None:
    """When the oldest event was announced that is not yet published, or None."""
    return session.exec(select(outbox_rows.Outbox.created).order_by(col(outbox_rows.Outbox.sequence)).limit(1)).first()


@dataclasses.dataclass(frozen=True, slots=True)
class Handled:
    """What was answered when the event came first."""

    reply: events.Event | None


def handled(session: Session, consumer: str, event: events.Event) -> Handled | None:
    """How `consumer` answered this event before, or None when it is new."""
    row = session.get(outbox_rows.HandledEvent, (event.source, event.id, consumer))
    return Handled(from_document(row.reply) if row.reply else None) if row else None


def handled_among(session: Session, consumer: str, wanted: Sequence[events.Event]) -> set[tuple[str, str]]:
    """(source, id) of those of the events that `consumer` has handled."""
    if not wanted:
        return set()
    rows = session.exec(
        select(outbox_rows.HandledEvent.source, outbox_rows.HandledEvent.id).where(
            outbox_rows.HandledEvent.consumer == consumer,
            col(outbox_rows.HandledEvent.source).in_({event.source for event in wanted}),
            col(outbox_rows.HandledEvent.id).in_({event.id for event in wanted}),
        )
    )
    return {(source, id) for source, id in rows}


def record_handled(session: Session, consumer: str, event: events.Event, reply: events.Event | None, now: str) -> None:
    """Remember the answer, in the transaction of the effect."""
    session.add(
        outbox_rows.HandledEvent(
            consumer=consumer, source=event.source, id=event.id, reply=as_document(reply) if reply else None, handled=now
        )
    )


def replies(session: Session, source: str, id: str) -> list[events.Event]:
    """What consumers answered to an event."""
    query = select(outbox_rows.HandledEvent).where(outbox_rows.HandledEvent.source == source, outbox_rows.HandledEvent.id == id)
    return [from_document(row.reply) for row in session.exec(query) if row.reply]


def forget_handled(session: Session, before: str) -> None:
    """Forget what was handled before a time."""
    session.exec(sqlalchemy.delete(outbox_rows.HandledEvent).where(col(outbox_rows.HandledEvent.handled) < before))
