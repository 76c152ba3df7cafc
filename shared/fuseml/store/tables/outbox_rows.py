"""What goes with the state that a function writes: the events that it announces, and those that it has handled."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class Outbox(columns.Row, table=True):
    """Events that are committed and not yet published. A sequence number is never used twice: relays forget by number what they published."""

    __tablename__ = "outbox"
    __table_args__ = columns.NEVER_REUSED

    sequence: int | None = Field(default=None, primary_key=True)
    event: dict[str, Any] = Field(sa_type=columns.Json)
    created: str


class HandledEvent(columns.Row, table=True):
    """Which function has handled which event, and what it answered: a redelivery gets the same reply and has no effect."""

    __tablename__ = "handled_event"

    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    consumer: str = Field(primary_key=True)
    reply: dict[str, Any] | None = Field(default=None, sa_type=columns.Json)
    handled: str = Field(index=True)
