"""The events that a function enqueues with its state, and those that it has handled."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class Outbox(columns.Row, table=True):
    """Committed events that are not yet published. Relays delete by sequence number, so no number is used twice."""

    __tablename__ = "outbox"
    __table_args__ = columns.NEVER_REUSED

    sequence: int | None = Field(default=None, primary_key=True)
    event: dict[str, Any] = Field(sa_type=columns.Json)
    created: str


class HandledEvent(columns.Row, table=True):
    """An event that a function has handled, with its reply: a redelivery gets the same reply and has no effect."""

    __tablename__ = "handled_event"

    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    consumer: str = Field(primary_key=True)
    reply: dict[str, Any] | None = Field(default=None, sa_type=columns.Json)
    handled: str = Field(index=True)
