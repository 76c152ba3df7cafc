"""Runs and their steps."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlmodel import Field

from fuseml.store.tables import columns


class Run(columns.Row, table=True):
    """`id` is the run's identity (domain.plans.identity): a duplicate cannot be inserted. `request` is the id of its request.

    `caused_by` is the run whose artifact started this one.
    `submitted` is the time at which the engine got the execution of number `execution`; `executed` is the number of the last execution that
    succeeded where others may follow; `cancelled` is the reason of a cancellation (domain.runs.lifecycle).
    `forgotten` is the time at which the engine forgot the run, `expired` that at which its logs were removed (store.archive).
    """

    __tablename__ = "run"
    __table_args__ = (
        *(sqlalchemy.Index(f"run_not_{mark}", mark, "finished") for mark in ("forgotten", "expired")),
        # Each filter of lists, with their order.
        *(sqlalchemy.Index(f"run_by_{name}", name, "sequence") for name in ("workflow", "project", "codeset", "commit", "state")),
    )

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    sequence: int = Field(unique=True)
    workflow: str
    revision: int
    project: str
    codeset: str | None = None
    commit: str | None = None
    ref: str | None = None
    trigger: dict[str, Any] = Field(sa_type=columns.Json)
    request: str | None = Field(default=None, index=True, unique=True)
    caused_by: str | None = Field(default=None, index=True)
    concurrency_group: str | None = Field(default=None, index=True)
    inputs: dict[str, Any] = Field(sa_type=columns.Json)
    plan: dict[str, Any] | None = Field(default=None, sa_type=columns.Json)
    state: str
    cause: str | None = None
    outputs: dict[str, Any] = Field(default_factory=dict, sa_type=columns.Json)
    submitted: str | None = None
    execution: int = 1
    executed: int = 0
    cancelled: str | None = None
    created: str
    started: str | None = None
    finished: str | None = None
    forgotten: str | None = None
    expired: str | None = None


class StepRun(columns.Row, table=True):
    """`reused_from` is the run that executed the step, where this one reuses its outputs.

    `cache_key` makes the outputs reusable (domain.plans.step_cache): None for a step that is not cached, empty until it has succeeded.
    `execution` is the number of the run's execution that the step belongs to, 0 while it belongs to none; `approval` is a document of
    domain.runs.approval.Approval.
    `archived` is the key of its log in the contents: None while only the engine has it, empty for a log that is not kept.
    `finished` is when it ended as the engine reported it; none for an end that is only inferred from that of the run (domain.runs.infer).
    """

    __tablename__ = "step_run"
    __table_args__ = (sqlalchemy.Index("step_run_archived", "archived", "state"),)

    run_id: str = Field(primary_key=True, foreign_key="run.id", ondelete="CASCADE")
    name: str = Field(primary_key=True)
    position: int
    state: str
    cause: str | None = None
    attempts: int = 0
    outputs: dict[str, Any] = Field(default_factory=dict, sa_type=columns.Json)
    reused_from: str | None = None
    cache_key: str | None = Field(default=None, index=True)
    execution: int = 1
    approval: dict[str, Any] | None = Field(default=None, sa_type=columns.Json)
    archived: str | None = None
    started: str | None = None
    finished: str | None = None
