"""Executed steps that others may be reused from: found by their key, and kept with one once they have succeeded."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from fuseml.store import tables

UNKNOWN = ""
"""The key of a step that is to have one and has not succeeded yet, or has not put out what it promised."""


def find(session: Session, project: str, key: str) -> tuple[tables.Run, tables.StepRun] | None:
    """The newest execution in the project under that key, however its run has ended."""
    found = session.exec(
        select(tables.Run, tables.StepRun)
        .where(tables.StepRun.run_id == tables.Run.id, tables.Run.project == project)
        .where(tables.StepRun.cache_key == key, tables.StepRun.state == "succeeded")
        .order_by(col(tables.Run.sequence).desc())
        .limit(1)
    )
    return found.first()


def last(session: Session, workflow: str, project: str, codeset: str | None, step: str) -> tables.Run | None:
    """The newest run of the workflow on the codeset whose execution of the step others can find."""
    found = session.exec(
        select(tables.Run)
        .join(tables.StepRun, col(tables.StepRun.run_id) == tables.Run.id)
        .where(tables.Run.workflow == workflow, tables.Run.project == project, tables.Run.codeset == codeset)
        .where(tables.StepRun.name == step, col(tables.StepRun.cache_key) > UNKNOWN)
        .order_by(col(tables.Run.sequence).desc())
        .limit(1)
    )
    return found.first()


def without_key(session: Session, run_id: str) -> Sequence[tables.StepRun]:
    """The steps of the run that have succeeded and are to have a key."""
    return session.exec(
        select(tables.StepRun).where(
            tables.StepRun.run_id == run_id, tables.StepRun.cache_key == UNKNOWN, tables.StepRun.state == "succeeded"
        )
    ).all()
