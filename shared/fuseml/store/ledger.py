"""The ledger as people look at it: which events came, what became of them with each consumer, and what is to be delivered again.

It is written by `deliveries` (the embedded broker's queue), or on Knative by what the broker sends to the function `events`: there only
dead letters are deliveries of ours, and who has handled an event is told by the record that each consumer keeps.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors, events
from fuseml.store import deliveries, paging
from fuseml.store.tables import outbox_rows
from fuseml.store.tables.ledger_rows import Delivery, LedgerEvent


@dataclass(frozen=True, slots=True)
class Consumption:
    """What became of an event with one consumer (its service's name); `attempts` are those made, where they are known."""

    consumer: str
    state: str
    attempts: int
    error: str | None


def page(
    session: Session,
    page: paging.Page,
    *,
    type: str | None = None,
    subject: str | None = None,
    source: str | None = None,
    since: str | None = None,
    dead: bool = False,
) -> paging.Slice[LedgerEvent]:
    """Events, newest first; those with a dead letter only, if `dead`. `type` may end in `*`; ticks are shown only where it names them."""
    query = select(LedgerEvent)
    if type is None:
        query = query.where(LedgerEvent.type != events.TICK)
    elif type.endswith("*"):
        query = query.where(col(LedgerEvent.type).startswith(type[:-1], autoescape=True))
    else:
        query = query.where(LedgerEvent.type == type)
    for column, value in ((LedgerEvent.subject, subject), (LedgerEvent.source, source)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(LedgerEvent.received >= since)
    if dead:
        given_up = select(Delivery.event_sequence).where(Delivery.state == "dead")
        query = query.where(col(LedgerEvent.sequence).in_(given_up))
    return paging.fetch(session, query, page, LedgerEvent.sequence, descending=True)


def find(session: Session, id: str, source: str | None = None) -> LedgerEvent:
    """The event of this id, or of this number in the ledger.

    Raises NotFoundError, and ConflictError where several sources have used the id and none is given.
    """
    query = select(LedgerEvent).where(LedgerEvent.id == id)
    found = session.exec(query.where(LedgerEvent.source == source) if source else query).all()
    if not found and source is None and id.isdecimal() and len(id) < 19:
        numbered = session.get(LedgerEvent, int(id))
        found = [numbered] if numbered else []
    if not found:
        raise errors.NotFoundError(
            f"there is no event {id!r}{f' of {source}' if source else ''}; `fuseml events list` shows those there are"
        )
    if len(found) > 1:
        sources = ", ".join(sorted(row.source for row in found))
        raise errors.ConflictError(f"{len(found)} events have the id {id!r}; say which one is meant by its source: {sources}")
    return found[0]


def at(session: Session, source: str, id: str) -> LedgerEvent | None:
    """The event that these two identify, or None."""
    query = select(LedgerEvent).where(LedgerEvent.source == source, LedgerEvent.id == id)
    return session.exec(query).first()


def pushes(session: Session, prefix: str) -> Sequence[LedgerEvent]:
    """Pushes of commits that begin with these hex digits, oldest first."""
    query = select(LedgerEvent).where(
        LedgerEvent.type == events.CodesetPushed.TYPE, col(LedgerEvent.id).contains(f"@{prefix}", autoescape=True)
    )
    rows = session.exec(query.order_by(col(LedgerEvent.sequence))).all()
    return [row for row in rows if str(row.event["data"].get("commit", "")).startswith(prefix)]


def consumptions(session: Session, rows: Sequence[LedgerEvent]) -> Mapping[int, list[Consumption]]:
    """What became of the events, by their number."""
    found: dict[int, list[Consumption]] = collections.defaultdict(list)
    numbers = {(row.source, row.id): row.sequence or 0 for row in rows}
    chosen = select(Delivery).where(col(Delivery.event_sequence).in_(numbers.values()))
    for delivery in session.exec(chosen.order_by(col(Delivery.trigger))):
        found[delivery.event_sequence].append(Consumption(delivery.trigger, delivery.state, delivery.attempts, delivery.error))
    key = sqlalchemy.tuple_(col(outbox_rows.HandledEvent.source), col(outbox_rows.HandledEvent.id))
    for handled in session.exec(
        select(outbox_rows.HandledEvent).where(key.in_(list(numbers))).order_by(col(outbox_rows.HandledEvent.consumer))
    ):
        known, consumer = found[numbers[handled.source, handled.id]], handled.consumer.replace("_", "-")
        if all(item.consumer != consumer for item in known):
            known.append(Consumption(consumer, "done", 0, None))
    return found


def record_dead_letter(session: Session, event: events.Event, consumer: str, error: str, now: str) -> None:
    """A broker has given up delivering the event to the consumer. Told again, it is the same dead letter with the newer cause."""
    deliveries.accept(session, event, [], now, 0)
    row = find(session, event.id, event.source)
    known = session.get(Delivery, (row.sequence, consumer)) or Delivery(event_sequence=row.sequence or 0, trigger=consumer, due=0)
    known.state, known.error = "dead", error
    session.add(known)


def revive(session: Session, row: LedgerEvent, now: float, *, all: bool, queued: bool) -> list[str]:
    """Let the event be delivered again to those who have failed, or to `everybody`. Returns who they are.

    `queued`: our deliveries are the queue, and begin anew. Else another broker will be given the event again, and what it cannot
    deliver comes back as a new dead letter.
    """
    states = ("dead", "dropped", "done") if all else ("dead",)
    chosen = (col(Delivery.event_sequence) == row.sequence, col(Delivery.state).in_(states))
    consumers = list(session.exec(select(Delivery.trigger).where(*chosen).order_by(col(Delivery.trigger))))
    if queued:
        again = sqlalchemy.update(Delivery).where(*chosen)
        session.exec(again.values(state="pending", attempts=0, due=now, error=None))
    else:
        session.exec(sqlalchemy.delete(Delivery).where(*chosen))
    return consumers


def drop(session: Session, row: LedgerEvent) -> list[str]:
    """Give the event's dead letters up for good. Returns whose they were."""
    chosen = (col(Delivery.event_sequence) == row.sequence, col(Delivery.state) == "dead")
    consumers = list(session.exec(select(Delivery.trigger).where(*chosen).order_by(col(Delivery.trigger))))
    session.exec(sqlalchemy.update(Delivery).where(*chosen).values(state="dropped"))
    return consumers
