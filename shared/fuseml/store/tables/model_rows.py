"""How far the registries of the tracking servers were announced."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class ModelVersion(columns.Row, table=True):
    """A model version of a tracking server that was announced."""

    __tablename__ = "model_version"

    extension: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str = Field(primary_key=True)


class TrackerCursor(columns.Row, table=True):
    """How far the sweep has read a tracking server's registry, newest first, in milliseconds of the versions' creation.

    All up to `seen` was compared. A walk that did not come down there in time goes on from page `token`, and ends in `seen = newest`.
    """

    __tablename__ = "tracker_cursor"

    extension: str = Field(primary_key=True)
    seen: int = Field(sa_type=sqlalchemy.BigInteger)
    newest: int = Field(default=0, sa_type=sqlalchemy.BigInteger)
    token: str | None = None
