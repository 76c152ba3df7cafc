"""Projects, their codesets, and the published commit of each ref."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Project(columns.Row, table=True):
    __tablename__ = "project"

    name: str = Field(primary_key=True)
    description: str = ""
    created: str


class Codeset(columns.Row, table=True):
    """`webhook_secret` and `git_password` are sealed with the server's keys. `pushes_seen` is the sweep's position in the git host's record of pushes.

    `default_branch` is the default branch of the repository, as the last webhook reported it; empty before.
    """

    __tablename__ = "codeset"

    project: str = Field(primary_key=True, foreign_key="project.name")
    name: str = Field(primary_key=True)
    description: str = ""
    labels: list[str] = Field(default_factory=list, sa_type=columns.Json)
    url: str
    webhook_secret: str
    git_password: str | None = None
    pushes_seen: int = 0
    default_branch: str = Field(default="", sa_column_kwargs={"server_default": sqlalchemy.text("''")})
    created: str


class CodesetRef(columns.Row, table=True):
    """The last published commit of each ref; the sweep compares it with the git host."""

    __tablename__ = "codeset_ref"

    project: str = Field(primary_key=True)
    codeset: str = Field(primary_key=True)
    ref: str = Field(primary_key=True)
    commit: str
    updated: str
