"""Retention of artifacts: policies, the locks of runs, anonymous artifacts, and contents that are to be deleted."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class RetentionPolicy(columns.Row, table=True):
    """The policy of a kind of a project (domain.artifacts.retention), set by `by`.

    `position` is the last address that the present walk of the sweep has compared, empty between two walks; `walked` the end of the last one.
    `leftovers` and `swept` are the same for the leftovers in the store.
    """

    __tablename__ = "retention_policy"

    project: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    newest: int | None = None
    days: int | None = None
    by: str
    updated: str
    position: str = ""
    walked: str = ""
    leftovers: str = ""
    swept: str = ""


class RunLock(columns.Row, table=True):
    """The plan of a run names an artifact."""

    __tablename__ = "run_lock"

    address: str = Field(primary_key=True)
    run_id: str = Field(primary_key=True, index=True)


class AnonymousArtifact(columns.Row, table=True):
    """An anonymous artifact that a run may have made, until its contents are deleted. `due` is the next attempt after a failed one."""

    __tablename__ = "anonymous_artifact"
    __table_args__ = (sqlalchemy.Index("anonymous_artifact_by_kind", "project", "kind", "due"),)

    run_id: str = Field(primary_key=True)
    step: str = Field(primary_key=True)
    output: str = Field(primary_key=True)
    project: str
    kind: str
    due: str = ""


class ArtifactRemoval(columns.Row, table=True):
    """The contents of an artifact that retention has removed. `facts` are those of its descriptor that lead to its store.

    `due` is the next attempt. From `taken` on the contents may be gone in part, from `gone` on they are.
    """

    __tablename__ = "artifact_removal"
    __table_args__ = (sqlalchemy.Index("artifact_removal_due", "gone", "due"),)

    address: str = Field(primary_key=True)
    facts: dict[str, Any] = Field(sa_type=columns.Json)
    due: str
    taken: str | None = None
    gone: str | None = None
    problem: str = ""
