"""High-water marks of time-driven jobs."""

from __future__ import annotations

from sqlmodel import Field

from fuseml.store.tables import columns


class Watermark(columns.Row, table=True):
    """The moment up to which a time-driven job has processed."""

    __tablename__ = "milestone"

    job: str = Field(primary_key=True)
    moment: str
