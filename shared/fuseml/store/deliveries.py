"""The embedded broker's queue on disk: the ledger of accepted events and their deliveries to triggers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlmodel import Session, col, func, select

from fuseml.domain import events, signature
from fuseml.store import outbox
from fuseml.store.tables import ledger_rows


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery that is due. `attempts` is the number of failed attempts."""

    sequence: int
    trigger: str
    event: events.Event
    attempts: int


def accept(session: Session, event: events.Event, triggers: Sequence[str], now: str, due: float) -> bool:
    """Add an event to the ledger, with one delivery for each trigger. Returns False when (source, id) is in the ledger already."""
    # Each database has a construct of its own for the same clause; an import takes as long as ten tables.
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql as dialect
    else:
        from sqlalchemy.dialects import sqlite as dialect  # type: ignore[no-redef]
    insert = dialect.insert(ledger_rows.LedgerEvent.__table__).values(  # type: ignore[attr-defined]
        source=event.source, id=event.id, type=event.type, subject=event.subject, event=outbox.as_document(event), received=now
    )
    ignoring = insert.on_conflict_do_nothing(index_elements=["source", "id"])
    sequence = session.connection().execute(ignoring.returning(col(ledger_rows.LedgerEvent.sequence))).scalar()
    if sequence is None:
        return False
    if triggers:
        new = [{"event_sequence": sequence, "trigger": trigger, "state": "pending", "attempts": 0, "due": due} for trigger in triggers]
        session.connection().execute(_QUEUE, new)
    return True


def is_known(session: Session, event: events.Event) -> bool:
    """Whether an event of this source and id is in the ledger."""
    query = select(ledger_rows.LedgerEvent.sequence).where(
        ledger_rows.LedgerEvent.source == event.source, ledger_rows.LedgerEvent.id == event.id
    )
    return session.exec(query).first() is not None


# These statements are built once: building one costs more than executing it.
_QUEUE = sqlalchemy.insert(ledger_rows.Delivery)
_waiting = sqlalchemy.and_(ledger_rows.Delivery.state == "pending", ledger_rows.Delivery.trigger == sqlalchemy.bindparam("of_trigger"))  # type: ignore[arg-type]
_DUE = (
    sqlalchemy.select(
        col(ledger_rows.Delivery.event_sequence),
        col(ledger_rows.Delivery.trigger),
        col(ledger_rows.Delivery.attempts),
        col(ledger_rows.LedgerEvent.event),
    )
    .join(ledger_rows.LedgerEvent, col(ledger_rows.LedgerEvent.sequence) == ledger_rows.Delivery.event_sequence)
    .where(
        _waiting,
        col(ledger_rows.Delivery.due) <= sqlalchemy.bindparam("now"),
        col(ledger_rows.Delivery.event_sequence).not_in(sqlalchemy.bindparam("excluding", expanding=True)),
    )
    .order_by(col(ledger_rows.Delivery.due), col(ledger_rows.Delivery.event_sequence))
    .limit(sqlalchemy.bindparam("most"))
)
_NEXT = sqlalchemy.select(func.min(ledger_rows.Delivery.due)).where(_waiting, col(ledger_rows.Delivery.due) > sqlalchemy.bindparam("now"))
_SETTLE = (
    sqlalchemy.update(ledger_rows.Delivery)
    .where(
        col(ledger_rows.Delivery.event_sequence) == sqlalchemy.bindparam("sequence"),
        col(ledger_rows.Delivery.trigger) == sqlalchemy.bindparam("of_trigger"),
    )
    .values(
        state=sqlalchemy.bindparam("new_state"),
        attempts=sqlalchemy.bindparam("new_attempts"),
        due=sqlalchemy.bindparam("new_due"),
        error=sqlalchemy.bindparam("new_error"),
    )
)


def due(session: Session, trigger: str, now: float, limit: int, excluding: Sequence[int]) -> list[DueDelivery]:
    """Deliveries to `trigger` that are due, longest due first, without those in `excluding` (in flight)."""
    parameters = {"of_trigger": trigger, "now": now, "most": limit, "excluding": excluding}
    rows = session.connection().execute(_DUE, parameters).all()
    return [DueDelivery(sequence, name, outbox.from_document(dict(event)), attempts) for sequence, name, attempts, event in rows]


def next_due(session: Session, trigger: str, after: float) -> float | None:
    """The first time after `after` (Unix seconds) at which a delivery to `trigger` becomes due, or None."""
    first: float | None = session.connection().execute(_NEXT, {"of_trigger": trigger, "now": after}).scalar()
    return first


def settle(session: Session, delivery: DueDelivery, *, state: str, due: float, error: str | None) -> None:
    """Record the outcome of an attempt: `done`, `dead` after the last attempt, or `pending` again at `due`."""
    outcome = {"new_state": state, "new_attempts": delivery.attempts + 1, "new_due": due, "new_error": error}
    session.connection().execute(_SETTLE, {"sequence": delivery.sequence, "of_trigger": delivery.trigger, **outcome})


def erase(session: Session, sequence: int) -> None:
    """Delete an event whose deliveries are all done."""
    waiting = select(ledger_rows.Delivery.event_sequence).where(
        ledger_rows.Delivery.event_sequence == sequence, ledger_rows.Delivery.state != "done"
    )
    session.exec(
        sqlalchemy.delete(ledger_rows.LedgerEvent).where(
            col(ledger_rows.LedgerEvent.sequence) == sequence, ~sqlalchemy.exists(waiting.subquery())
        )
    )


def forget(session: Session, before: str) -> None:
    """Delete events that were accepted before a time and whose deliveries are all done. The same event is then new again.

    A dead letter stays until it is replayed or dropped, except one that cannot be replayed: it came without a valid signature.
    """
    waiting = select(ledger_rows.Delivery.event_sequence).where(col(ledger_rows.Delivery.state).in_(("pending", "dead")))
    is_settled = col(ledger_rows.LedgerEvent.sequence).not_in(waiting)
    is_unproven = col(ledger_rows.LedgerEvent.source).startswith(signature.UNPROVEN)
    session.exec(
        sqlalchemy.delete(ledger_rows.LedgerEvent).where(
            col(ledger_rows.LedgerEvent.received) < before, sqlalchemy.or_(is_settled, is_unproven)
        )
    )


def oldest_pending(session: Session) -> str | None:
    """The time at which the oldest event with a pending delivery was accepted, or None."""
    oldest = select(func.min(ledger_rows.Delivery.event_sequence)).where(ledger_rows.Delivery.state == "pending").scalar_subquery()
    return session.exec(select(ledger_rows.LedgerEvent.received).where(ledger_rows.LedgerEvent.sequence == oldest)).first()


def count(session: Session, state: str) -> int:
    """The number of deliveries in a state."""
    return session.exec(select(func.count()).select_from(ledger_rows.Delivery).where(ledger_rows.Delivery.state == state)).one()
