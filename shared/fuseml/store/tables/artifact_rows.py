"""Artifacts and their lineage."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class Artifact(columns.Row, table=True):
    __tablename__ = "artifact"

    address: str = Field(primary_key=True)
    kind: str = Field(index=True)
    project: str = Field(index=True)
    name: str = Field(index=True)
    version: str
    run: str | None = Field(default=None, index=True)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=columns.Json)
    created: str


class ArtifactEdge(columns.Row, table=True):
    """Lineage: `run` produced `target` from `source`."""

    __tablename__ = "artifact_edge"

    source: str = Field(primary_key=True)
    target: str = Field(primary_key=True, index=True)
    run: str = Field(primary_key=True)
