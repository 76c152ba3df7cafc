"""The tables. A change here needs a migration; a test upgrades an empty database and compares it with these classes.

Times are RFC 3339 text in UTC with a fixed width, so that text order is time order in every database.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy
import sqlmodel
from sqlmodel import Field, SQLModel


class _Json(sqlalchemy.JSON):
    """Plain data, stored as a document by PostgreSQL and SQLite both. None is the database's NULL, not the JSON text `null`."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(none_as_null=True)


# Without this, SQLite gives the number of the newest row again once that row is deleted.
_NEVER_REUSED = {"sqlite_autoincrement": True}


class Project(SQLModel, table=True):
    __tablename__ = "project"

    name: str = Field(primary_key=True)
    description: str = ""
    created: str


class Codeset(SQLModel, table=True):
    """`webhook_secret` is sealed with the server's keys. `pushes_seen` is how far the sweep has read the git host's record of pushes."""

    __tablename__ = "codeset"

    project: str = Field(primary_key=True, foreign_key="project.name")
    name: str = Field(primary_key=True)
    description: str = ""
    labels: list[str] = Field(default_factory=list, sa_type=_Json)
    url: str
    webhook_secret: str
    pushes_seen: int = 0
    created: str


class TrackerWebhook(SQLModel, table=True):
    """How a tracking server signs its webhooks; `extension` is the id under which they come in, registered or not yet. Sealed."""

    __tablename__ = "tracker_webhook"

    extension: str = Field(primary_key=True)
    secret: str


class FormerSecret(SQLModel, table=True):
    """A webhook secret that was replaced and is good until a moment, because who signs with it may not know yet. Sealed."""

    __tablename__ = "former_secret"

    sequence: int | None = Field(default=None, primary_key=True)
    owner: str = Field(index=True)
    secret: str
    until: str = Field(index=True)


class ModelVersion(SQLModel, table=True):
    """A model version of a tracking server that was announced."""

    __tablename__ = "model_version"

    extension: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: str = Field(primary_key=True)


class TrackerCursor(SQLModel, table=True):
    """How far the sweep has read a tracking server's registry, newest first, in milliseconds of the versions' creation.

    All up to `seen` was compared. A walk that did not come down there in time goes on from page `token`, and ends in `seen = newest`.
    """

    __tablename__ = "tracker_cursor"

    extension: str = Field(primary_key=True)
    seen: int = Field(sa_type=sqlalchemy.BigInteger)
    newest: int = Field(default=0, sa_type=sqlalchemy.BigInteger)
    token: str | None = None


class CodesetRef(SQLModel, table=True):
    """The last commit of each ref that was announced; the sweep compares it with the git host."""

    __tablename__ = "codeset_ref"

    project: str = Field(primary_key=True)
    codeset: str = Field(primary_key=True)
    ref: str = Field(primary_key=True)
    commit: str
    updated: str


class ExtensionRecord(SQLModel, table=True):
    """One extension with all its services as a document; credentials values in it are sealed one by one."""

    __tablename__ = "extension"

    id: str = Field(primary_key=True)
    product: str = Field(default="", index=True)
    zone: str = Field(default="", index=True)
    document: dict[str, Any] = Field(sa_type=_Json)
    revision: int
    created: str
    updated: str


class ExtensionService(SQLModel, table=True):
    """What selectors ask for and rank by, as columns: narrows the candidates and puts the best first, never decides.

    `internal` and `external`: whether it has such an endpoint; `version` is the place of the extension's version (domain.versions).
    """

    __tablename__ = "extension_service"
    # Services of the consumer's own zone are read in the order of (internal first, version), those of all zones in that of the version.
    __table_args__ = tuple(
        sqlalchemy.Index(f"extension_service_{name}", *asked, *order, "version", "extension_id")
        for field, asked in (("resource", ["resource"]), ("category", ["category"]), ("product", ["product"]), ("any", []))
        for name, order in ((f"{field}_in_zone", ["zone", "internal"]), (f"{field}_anywhere", ["external"]))
    )

    extension_id: str = Field(primary_key=True, foreign_key="extension.id", ondelete="CASCADE")
    service_id: str = Field(primary_key=True)
    resource: str = ""
    category: str = ""
    product: str = ""
    zone: str = ""
    internal: bool = False
    external: bool = False
    version: bytes = b""


class Workflow(SQLModel, table=True):
    """`revision` is the current one, `runs` counts the runs ever created: their names are `<workflow>-<number>`.

    A deleted workflow keeps its row: its runs still need its revisions, and a new one of its name must not use their names again.
    """

    __tablename__ = "workflow"

    name: str = Field(primary_key=True)
    revision: int
    runs: int = 0
    created: str
    updated: str
    deleted: str | None = None


class WorkflowRevision(SQLModel, table=True):
    __tablename__ = "workflow_revision"

    workflow: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    document: dict[str, Any] = Field(sa_type=_Json)
    created: str


class Assignment(SQLModel, table=True):
    """Binds a workflow to what triggers it: `pattern` is an address without version (`code://project/codeset`), `*` matches any."""

    __tablename__ = "assignment"
    __table_args__ = (sqlalchemy.UniqueConstraint("workflow", "pattern"),)

    id: str = Field(primary_key=True)
    workflow: str = Field(foreign_key="workflow.name", index=True)
    pattern: str = Field(index=True)
    created: str


class Run(SQLModel, table=True):
    """`id` is the run's identity (domain.run.identity): the same meaning cannot be inserted twice. `request` is the one that asked for it.

    `caused_by` is the run whose artifact started this one.
    `submitted` is when the engine got the execution of number `execution`; `executed` is the last that is known to have succeeded where
    others may follow; `cancelled` is why the engine was asked to stop (domain.course).
    `forgotten` is when the engine was told to forget the run, `expired` when its logs were removed (store.archive).
    """

    __tablename__ = "run"
    __table_args__ = tuple(sqlalchemy.Index(f"run_not_{mark}", mark, "finished") for mark in ("forgotten", "expired"))

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    sequence: int = Field(unique=True)
    workflow: str = Field(index=True)
    revision: int
    project: str = Field(index=True)
    codeset: str | None = Field(default=None, index=True)
    commit: str | None = Field(default=None, index=True)
    trigger: dict[str, Any] = Field(sa_type=_Json)
    request: str | None = Field(default=None, index=True, unique=True)
    caused_by: str | None = Field(default=None, index=True)
    concurrency_group: str | None = Field(default=None, index=True)
    inputs: dict[str, Any] = Field(sa_type=_Json)
    plan: dict[str, Any] | None = Field(default=None, sa_type=_Json)
    state: str = Field(index=True)
    cause: str | None = None
    outputs: dict[str, Any] = Field(default_factory=dict, sa_type=_Json)
    submitted: str | None = None
    execution: int = 1
    executed: int = 0
    cancelled: str | None = None
    created: str
    started: str | None = None
    finished: str | None = None
    forgotten: str | None = None
    expired: str | None = None


class StepRun(SQLModel, table=True):
    """`reused_from` is the run that executed the step, where this one only takes its outputs.

    `cache_key` is where others find what the step has put out (domain.caching): none for one that is not to be found, empty until it
    has succeeded.
    `execution` is the number of the run's execution that the step belongs to, 0 as long as it belongs to none; `approval` is what people
    were asked and answered (domain.approval.Approval).
    `archived` is the key of its log in the contents: none while the engine alone has it, empty for one that is kept nowhere.
    """

    __tablename__ = "step_run"
    __table_args__ = (sqlalchemy.Index("step_run_archived", "archived", "state"),)

    run_id: str = Field(primary_key=True, foreign_key="run.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    position: int
    state: str
    cause: str | None = None
    attempts: int = 0
    outputs: dict[str, Any] = Field(default_factory=dict, sa_type=_Json)
    reused_from: str | None = None
    cache_key: str | None = Field(default=None, index=True)
    execution: int = 1
    approval: dict[str, Any] | None = Field(default=None, sa_type=_Json)
    archived: str | None = None
    started: str | None = None
    finished: str | None = None


class Milestone(SQLModel, table=True):
    """Up to which moment a job that looks at times has looked."""

    __tablename__ = "milestone"

    job: str = Field(primary_key=True)
    moment: str


class Application(SQLModel, table=True):
    """A served thing. `document` is what was registered last; `revision` counts how often. `traffic` is revision -> percent."""

    __tablename__ = "application"

    name: str = Field(primary_key=True)
    type: str = Field(index=True)
    workflow: str = Field(index=True)
    document: dict[str, Any] = Field(sa_type=_Json)
    revision: int
    traffic: dict[str, int] = Field(default_factory=dict, sa_type=_Json)
    created: str
    updated: str


class ApplicationRevision(SQLModel, table=True):
    """What an application was registered as once, for as long as one can go back to it."""

    __tablename__ = "application_revision"

    application: str = Field(primary_key=True)
    revision: int = Field(primary_key=True)
    document: dict[str, Any] = Field(sa_type=_Json)
    created: str


class Artifact(SQLModel, table=True):
    __tablename__ = "artifact"

    address: str = Field(primary_key=True)
    kind: str = Field(index=True)
    project: str = Field(index=True)
    name: str = Field(index=True)
    version: str
    run: str | None = Field(default=None, index=True)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=_Json)
    created: str


class ArtifactEdge(SQLModel, table=True):
    """Lineage: `target` was made from `source`, by `run`."""

    __tablename__ = "artifact_edge"

    source: str = Field(primary_key=True)
    target: str = Field(primary_key=True, index=True)
    run: str = Field(primary_key=True)


class Outbox(SQLModel, table=True):
    """Events that are committed and not yet published. A sequence number is never used twice: relays forget by number what they published."""

    __tablename__ = "outbox"
    __table_args__ = _NEVER_REUSED

    sequence: int | None = Field(default=None, primary_key=True)
    event: dict[str, Any] = Field(sa_type=_Json)
    created: str


class HandledEvent(SQLModel, table=True):
    """Which function has handled which event, and what it answered: a redelivery gets the same reply and has no effect."""

    __tablename__ = "handled_event"

    source: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    consumer: str = Field(primary_key=True)
    reply: dict[str, Any] | None = Field(default=None, sa_type=_Json)
    handled: str = Field(index=True)


class LedgerEvent(SQLModel, table=True):
    """Every event that the broker accepted: written by the embedded broker itself, on Knative by the function `events`."""

    __tablename__ = "ledger_event"
    __table_args__ = (sqlalchemy.UniqueConstraint("source", "id"), _NEVER_REUSED)

    sequence: int | None = Field(default=None, primary_key=True)
    source: str
    id: str
    type: str = Field(index=True)
    subject: str | None = Field(default=None, index=True)
    event: dict[str, Any] = Field(sa_type=_Json)
    received: str = Field(index=True)


class Delivery(SQLModel, table=True):
    """One event on its way to one trigger's subscriber. `due` is a Unix time in seconds; state: pending, done, dead, dropped.

    The embedded broker's queue. On Knative, whose broker has its own, only dead letters are here.
    """

    __tablename__ = "delivery"
    __table_args__ = (sqlalchemy.Index("delivery_due", "state", "trigger", "due"),)

    event_sequence: int = Field(primary_key=True, foreign_key="ledger_event.sequence", ondelete="CASCADE")
    trigger: str = Field(primary_key=True)
    state: str = "pending"
    attempts: int = 0
    due: float
    error: str | None = None


class Decision(SQLModel, table=True):
    """What `dispatcher` made of an event, for one workflow or (None) for all: the run that it led to, or why there is none."""

    __tablename__ = "decision"
    __table_args__ = (sqlalchemy.Index("decision_event", "source", "event"),)

    sequence: int | None = Field(default=None, primary_key=True)
    source: str
    event: str
    workflow: str | None = None
    run: str | None = Field(default=None, index=True)
    reason: str
    commit: str | None = Field(default=None, index=True)
    made: str = Field(index=True)


class DeclinedDelivery(SQLModel, table=True):
    """A webhook delivery that became no event; outcome: refused, ignored, duplicate. Never its body or its signature.

    `subject` (project/codeset, or an extension) and `commit` are what a refused delivery claims: nobody vouches for them. `bucket` is
    the subject where that is registered, empty otherwise: each bucket holds a bounded number of rows.
    """

    __tablename__ = "declined_delivery"
    __table_args__ = (sqlalchemy.Index("declined_delivery_bucket", "bucket", "sequence"),)

    sequence: int | None = Field(default=None, primary_key=True)
    ingress: str
    subject: str
    bucket: str
    delivery: str
    outcome: str
    reason: str
    commit: str | None = Field(default=None, index=True)
    received: str = Field(index=True)


metadata = sqlmodel.SQLModel.metadata
