"""Applications and their revisions."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class Application(columns.Row, table=True):
    """`document` is the newest registration, `revision` their number. `traffic` is revision -> percent."""

    __tablename__ = "application"

    name: str = Field(primary_key=True)
    type: str = Field(index=True)
    workflow: str = Field(index=True)
    document: dict[str, Any] = Field(sa_type=columns.Json)
    revision: int
    traffic: dict[str, int] = Field(default_factory=dict, sa_type=columns.Json)
    created: str
    updated: str


class ApplicationRevision(columns.Row, table=True):
    """A registration of an application, kept while a roll back can reach it."""

    __tablename__ = "application_revision"

    application: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    document: dict[str, Any] = Field(sa_type=columns.Json)
    created: str
