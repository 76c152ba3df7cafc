"""Origins of codesets, and commit statuses on their way to git hosts."""

from __future__ import annotations

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class CodesetOrigin(columns.Row, table=True):
    """The repository elsewhere that a codeset is a copy of: `path` on the `host` (domain.origins.Host) at `base`.

    `extension` and `service` name the registered service with the account, both are empty for a public repository. `secret` is sealed, and
    signs the host's webhooks; `webhook` is what is known about the one there: `set`, `manual` or, before the first attempt, empty, and
    `webhook_problem` the reason why a person has to enter it. `delivered` and `refused` are the times of the last genuine and the last refused
    delivery, each with what it was. A synchronisation is due at `due`; `synced` is the end of the last one that succeeded, `checked` of the
    last one at all, `problem` its fault, and `failures` counts those in a row.
    """

    __tablename__ = "codeset_origin"

    project: str = Field(primary_key=True)
    codeset: str = Field(primary_key=True)
    url: str
    host: str
    base: str
    path: str
    extension: str = ""
    service: str = ""
    secret: str
    webhook: str = ""
    webhook_problem: str = ""
    delivered: str = ""
    delivery: str = ""
    refused: str = ""
    refusal: str = ""
    due: str = Field(index=True)
    checked: str = ""
    synced: str = ""
    problem: str = ""
    failures: int = 0
    created: str


class CommitStatus(columns.Row, table=True):
    """The newest status of a context at a commit of a codeset: that of the run with this `sequence`.

    `sent` says that the git host has it. Until then it is due at `due`, none where it was given up after `attempts`; `problem` is the last
    fault. A process sends it until `claimed`.
    """

    __tablename__ = "commit_status"
    __table_args__ = (sqlalchemy.Index("commit_status_due", "sent", "due"),)

    project: str = Field(primary_key=True)
    codeset: str = Field(primary_key=True)
    commit: str = Field(primary_key=True)
    context: str = Field(primary_key=True)
    run: str
    sequence: int
    state: str
    description: str
    target_url: str = ""
    sent: bool = False
    attempts: int = 0
    due: str | None = None
    claimed: str = ""
    problem: str = ""
    updated: str = Field(index=True)
