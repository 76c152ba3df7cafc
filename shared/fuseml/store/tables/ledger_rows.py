"""The events of the broker and their deliveries."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.domain import events
from fuseml.store.tables import columns

# Spelled out, not a parameter: a database uses a partial index only for its own condition.
NO_TICK = sqlalchemy.column("type", sqlalchemy.String()) != sqlalchemy.literal(events.TICK, literal_execute=True)


class LedgerEvent(columns.Row, table=True):
    """Every event that the broker accepted. The embedded broker writes it itself; on Knative the function `events` does."""

    __tablename__ = "ledger_event"
    __table_args__ = (
        sqlalchemy.UniqueConstraint("source", "id"),
        # Each filter of lists, with their order; without one, ticks are left out.
        *(sqlalchemy.Index(f"ledger_event_by_{name}", name, "sequence") for name in ("type", "subject", "source", "received")),
        sqlalchemy.Index("ledger_event_shown", "sequence", sqlite_where=NO_TICK, postgresql_where=NO_TICK),
        columns.NEVER_REUSED,
    )

    sequence: int | None = Field(default=None, primary_key=True)
    source: str
    id: str
    type: str
    subject: str | None = None
    event: dict[str, Any] = Field(sa_type=columns.Json)
    received: str


class Delivery(columns.Row, table=True):
    """One event on its way to one trigger's subscriber. `due` is a Unix time in seconds; state: pending, done, dead, dropped.

    The embedded broker's queue. On Knative the broker has its own queue, and only dead letters are here.
    """

    __tablename__ = "delivery"
    __table_args__ = (sqlalchemy.Index("delivery_due", "state", "trigger", "due"),)

    event_sequence: int = Field(primary_key=True, foreign_key="ledger_event.sequence", ondelete="CASCADE")
    trigger: str = Field(primary_key=True)
    state: str = "pending"
    attempts: int = 0
    due: float
    error: str | None = None
