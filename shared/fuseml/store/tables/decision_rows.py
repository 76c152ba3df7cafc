"""The decisions on events and webhook deliveries, for `GET /why`."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Decision(columns.Row, table=True):
    """A decision on an event, for one workflow or (None) for all: the run, or the reason for none. `outcome` is that of a source, applied or
    refused; empty for any other decision.
    """

    __tablename__ = "decision"
    __table_args__ = (sqlalchemy.Index("decision_event", "source", "event"),)

    sequence: int | None = Field(default=None, primary_key=True)
    source: str
    event: str
    workflow: str | None = None
    run: str | None = Field(default=None, index=True)
    reason: str
    outcome: str = Field(default="", sa_column_kwargs={"server_default": sqlalchemy.text("''")})
    commit: str | None = Field(default=None, index=True)
    made: str = Field(index=True)


class DeclinedDelivery(columns.Row, table=True):
    """A webhook delivery that became no event; outcome: refused, ignored, duplicate. Holds neither its body nor its signature.

    `subject` (project/codeset, or an extension) and `commit` are unverified claims of a refused delivery. `bucket` is the subject where that
    is registered, empty otherwise: each bucket holds a bounded number of rows.
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
