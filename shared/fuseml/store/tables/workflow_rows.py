"""Workflows, their revisions and their assignments."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Workflow(columns.Row, table=True):
    """`revision` is the current one, `runs` counts the runs ever created: their names are `<workflow>-<number>`.

    A deleted workflow keeps its row: its runs need its revisions, and a new workflow of its name must not reuse their names.
    """

    __tablename__ = "workflow"

    name: str = Field(primary_key=True)
    revision: int
    runs: int = 0
    created: str
    updated: str
    deleted: str | None = None


class WorkflowRevision(columns.Row, table=True):
    __tablename__ = "workflow_revision"

    workflow: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    document: dict[str, Any] = Field(sa_type=columns.Json)
    created: str


class Assignment(columns.Row, table=True):
    """Binds a workflow to its triggers: `pattern` is an address without version (`code://project/codeset`), `*` matches any."""

    __tablename__ = "assignment"
    __table_args__ = (sqlalchemy.UniqueConstraint("workflow", "pattern"),)

    id: str = Field(primary_key=True)
    workflow: str = Field(foreign_key="workflow.name", index=True)
    pattern: str = Field(index=True)
    created: str
