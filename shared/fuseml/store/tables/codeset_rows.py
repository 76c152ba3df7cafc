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
    """`webhook_secret` and `git_password` are sealed with the server's keys. `pushes_seen` is the sweep's position in the git host's record
    of pushes.

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
    """The present commit of each ref, as far as it is known; the sweep compares it with the git host.

    `push` is the identity of the push that moved the ref there (events.CodesetPushed); empty for one of an older release.
    """

    __tablename__ = "codeset_ref"

    project: str = Field(primary_key=True)
    codeset: str = Field(primary_key=True)
    ref: str = Field(primary_key=True)
    commit: str
    updated: str
    push: str = Field(default="", sa_column_kwargs={"server_default": sqlalchemy.text("''")})


class CodesetMove(columns.Row, table=True):
    """A known move of a ref (domain.pushes.Move). `event` is the identity of the push that was published for it."""

    __tablename__ = "codeset_move"
    __table_args__ = (
        sqlalchemy.Index("codeset_move_to", "project", "codeset", "ref", "commit"),
        sqlalchemy.Index("codeset_move_from", "project", "codeset", "ref", "before"),
        columns.NEVER_REUSED,
    )

    sequence: int | None = Field(default=None, primary_key=True)
    project: str
    codeset: str
    ref: str
    kind: str
    before: str | None = None
    commit: str | None = None
    delivery: str = ""
    digest: str = ""
    event: str = ""
    received: str = Field(index=True)
