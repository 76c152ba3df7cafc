"""What became of events and of webhook deliveries, for people who ask why."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Decision(columns.Row, table=True):
    """What `dispatcher` made of an event, for one workflow or (None) for all: the run that it led to, or why there is none."""

    __tablename__ = "decision"
    __table_args__ = (sqlalchemy.Index("decision_event", "source", "event"),)

    sequence: int | None = Field(default=None, primary_key=True)
    source: str
    event: str
    workflow: str | None = None
    run: str | None = Field(default=None, index=True)
    reason: str
    commit: str | None = Field(default=None, index=True)
    made: str = Field(index=True)


class DeclinedDelivery(columns.Row, table=True):
    """A webhook delivery that became no event; outcome: refused, ignored, duplicate. Never its body or its signature.

    `subject` (project/codeset, or an extension) and `commit` are what a refused delivery claims: nobody vouches for them. `bucket` is
    the subject where that is registered, empty otherwise: each bucket holds a bounded number of rows.
    """

    __tablename__ = "declined_delivery"
    __table_args__ = (sqlalchemy.Index("declined_delivery_bucket", "bucket", "sequence"),)

    sequence: int | None = Field(default=None, primary_key=True)
    ingress: str
    subject: str
    bucket: str
    delivery: str
    outcome: str
    reason: str
    commit: str | None = Field(default=None, index=True)
    received: str = Field(index=True)
