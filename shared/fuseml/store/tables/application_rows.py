"""Applications, and what one can go back to."""

from __future__ import annotations

from typing import Any

from sqlmodel import Field

from fuseml.store.tables import columns


class Application(columns.Row, table=True):
    """A served thing. `document` is what was registered last; `revision` counts how often. `traffic` is revision -> percent."""

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
    """What an application was registered as once, for as long as one can go back to it."""

    __tablename__ = "application_revision"

    application: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    document: dict[str, Any] = Field(sa_type=columns.Json)
    created: str
