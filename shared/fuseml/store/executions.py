"""Executed steps that others may be reused from: found by their key, and kept with one once they have succeeded."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from fuseml.store.tables import run_rows

UNKNOWN = ""
"""The key of a step that is to have one and has not succeeded yet, or has not put out what it promised."""


def find(session: Session, project: str, key: str) -> tuple[run_rows.Run, run_rows.StepRun] | None:
    """The newest execution in the project under that key, however its run has ended."""
    found = session.exec(
        select(run_rows.Run, run_rows.StepRun)
        .where(run_rows.StepRun.run_id == run_rows.Run.id, run_rows.Run.project == project)
        .where(run_rows.StepRun.cache_key == key, run_rows.StepRun.state == "succeeded")
        .order_by(col(run_rows.Run.sequence).desc())
        .limit(1)
    )
    return found.first()


def last(session: Session, workflow: str, project: str, codeset: str | None, step: str) -> run_rows.Run | None:
    """The newest run of the workflow on the codeset whose execution of the step others can find."""
    found = session.exec(
        select(run_rows.Run)
        .join(run_rows.StepRun, col(run_rows.StepRun.run_id) == run_rows.Run.id)
        .where(run_rows.Run.workflow == workflow, run_rows.Run.project == project, run_rows.Run.codeset == codeset)
        .where(run_rows.StepRun.name == step, col(run_rows.StepRun.cache_key) > UNKNOWN)
        .order_by(col(run_rows.Run.sequence).desc())
        .limit(1)
    )
    return found.first()


def record_key(session: Session, step: run_rows.StepRun, key: str | None) -> None:
    """Let later runs find the step by its key; without one it stays unfound until its outputs are known."""
    step.cache_key = key or UNKNOWN
    session.add(step)


def without_key(session: Session, run_id: str) -> Sequence[run_rows.StepRun]:
    """The steps of the run that are reported to have succeeded and are to have a key."""
    return session.exec(
        select(run_rows.StepRun)
        .where(run_rows.StepRun.run_id == run_id, run_rows.StepRun.cache_key == UNKNOWN)
        .where(run_rows.StepRun.state == "succeeded", col(run_rows.StepRun.finished).is_not(None))
    ).all()
