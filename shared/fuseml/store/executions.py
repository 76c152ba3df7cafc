"""The cache of executed steps: a step gets its key once it has succeeded, and is found by it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.store.tables import run_rows

UNKNOWN = ""
"""The key of a caching step that has not succeeded yet, or has not written all its outputs."""


def find(session: Session, project: str, key: str) -> tuple[run_rows.Run, run_rows.StepRun] | None:
    """The newest execution in the project under that key, however its run has ended."""
    rows = session.exec(
        select(run_rows.Run, run_rows.StepRun)
        .where(run_rows.StepRun.run_id == run_rows.Run.id, run_rows.Run.project == project)
        .where(run_rows.StepRun.cache_key == key, run_rows.StepRun.state == "succeeded")
        .order_by(col(run_rows.Run.sequence).desc())
        .limit(1)
    )
    return rows.first()


def last(session: Session, workflow: str, project: str, codeset: str | None, step: str) -> run_rows.Run | None:
    """The newest run of the workflow on the codeset with a cached execution of the step."""
    rows = session.exec(
        select(run_rows.Run)
        .join(run_rows.StepRun, col(run_rows.StepRun.run_id) == run_rows.Run.id)
        .where(run_rows.Run.workflow == workflow, run_rows.Run.project == project, run_rows.Run.codeset == codeset)
        .where(run_rows.StepRun.name == step, col(run_rows.StepRun.cache_key) > UNKNOWN)
        .order_by(col(run_rows.Run.sequence).desc())
        .limit(1)
    )
    return rows.first()


def record_key(session: Session, step: run_rows.StepRun, key: str | None) -> None:
    """Record the key of a step, under which later runs find it; None while its outputs are unknown."""
    step.cache_key = key or UNKNOWN
    session.add(step)


def without_key(session: Session, run_id: str) -> Sequence[run_rows.StepRun]:
    """The steps of the run that are reported to have succeeded and are to have a key."""
    return session.exec(
        select(run_rows.StepRun)
        .where(run_rows.StepRun.run_id == run_id, run_rows.StepRun.cache_key == UNKNOWN)
        .where(run_rows.StepRun.state == "succeeded", col(run_rows.StepRun.finished).is_not(None))
    ).all()


def forget(session: Session, outputs: Sequence[str]) -> None:
    """Let no later run find the executions with one of these outputs, which are gone, such as a removed environment of a builder."""
    if not outputs:
        return
    table = run_rows.StepRun
    text = sqlalchemy.cast(col(table.outputs), sqlalchemy.Text)
    holds = (text.contains(json.dumps(output)[1:-1], autoescape=True) for output in outputs)
    found = select(table).where(col(table.cache_key) > UNKNOWN, sqlalchemy.or_(*holds))
    for step in session.exec(found):
        step.cache_key = None
        session.add(step)


def unfinished_outputs(session: Session) -> list[str]:
    """The outputs of all steps of unfinished runs, and the outputs that these runs reuse."""
    rows = session.exec(
        select(run_rows.StepRun.outputs)
        .join(run_rows.Run, col(run_rows.StepRun.run_id) == run_rows.Run.id)
        .where(col(run_rows.Run.finished).is_(None))
    )
    return [str(value) for outputs in rows for value in (outputs or {}).values()]
