"""Runs whose lineage is exported."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class LineageExport(columns.Row, table=True):
    """The export of a run's lineage. `sequence` is that of the run; `sent` are the keys of the events that the endpoint has accepted, or that
    were given up after it had refused them (`refusals`, key -> number). `done`: the run has no further events.
    """

    __tablename__ = "lineage_export"

    run_id: str = Field(primary_key=True)
    sequence: int = Field(unique=True)
    sent: list[str] = Field(default_factory=list, sa_type=columns.Json)
    refusals: dict[str, Any] = Field(default_factory=dict, sa_type=columns.Json)
    done: bool = Field(default=False, index=True)
