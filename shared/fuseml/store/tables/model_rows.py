"""The published model versions of tracking servers, and the watermarks of the sweep."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class ModelVersion(columns.Row, table=True):
    """A model version of a tracking server whose event was enqueued."""

    __tablename__ = "model_version"

    extension: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str = Field(primary_key=True)


class TrackerCursor(columns.Row, table=True):
    """The sweep's watermark in a tracking server's registry, in Unix milliseconds of the versions' creation.

    Versions up to `seen` are complete. A walk begins with the newest version; one that ran out of time continues at page `token`, and sets
    `seen` to `newest` at its end.
    """

    __tablename__ = "tracker_cursor"

    extension: str = Field(primary_key=True)
    seen: int = Field(sa_type=sqlalchemy.BigInteger)
    newest: int = Field(default=0, sa_type=sqlalchemy.BigInteger)
    token: str | None = None
