"""Applications and their revisions."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Application(columns.Row, table=True):
    """`document` is the newest registration, `revision` their number. `traffic` is revision -> percent."""

    __tablename__ = "application"
    # Each filter of lists, with their order.
    __table_args__ = tuple(sqlalchemy.Index(f"application_by_{field}", field, "name") for field in ("type", "workflow"))

    name: str = Field(primary_key=True)
    type: str
    workflow: str
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


class ModelAddress(columns.Row, table=True):
    """The moving address from which the model of an application was resolved; only while the application is at `revision` and of `created`.

    The address named `latest`, an exact one, at the time of `checked`, or nothing for a `problem`. `number` counts the changes of the row.
    """

    __tablename__ = "model_address"

    application: str = Field(primary_key=True)
    created: str
    revision: int
    requested: str
    follow: bool
    latest: str | None = None
    problem: str = ""
    checked: str = ""
    number: int = 0
