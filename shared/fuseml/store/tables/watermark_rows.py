"""How far jobs that look at times have come."""

from __future__ import annotations

from sqlmodel import Field

from fuseml.store.tables import columns


class Watermark(columns.Row, table=True):
    """Up to which moment a job that looks at times has looked."""

    __tablename__ = "milestone"

    job: str = Field(primary_key=True)
    moment: str
