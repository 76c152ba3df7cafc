"""Registered versions of runnables."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Runnable(columns.Row, table=True):
    """A version of a runnable, which is also the artifact at `address`.

    `version_order` is the sort key of the version, newest first; `content` the digest of the descriptor without its version. `original` is
    the document of the original's API, where one registered it. `step` of `run` registered it.
    """

    __tablename__ = "runnable"
    __table_args__ = (
        sqlalchemy.Index("runnable_by_name", "name", "project", "version_order"),
        sqlalchemy.Index("runnable_by_project", "project", "name", "version_order", "address"),
    )

    address: str = Field(primary_key=True)
    project: str
    name: str
    version: str
    version_order: bytes
    kind: str
    digest: str
    content: str
    document: dict[str, Any] = Field(sa_type=columns.Json)
    original: dict[str, Any] | None = Field(default=None, sa_type=columns.Json)
    run: str | None = None
    step: str | None = None
    by: str
    created: str
