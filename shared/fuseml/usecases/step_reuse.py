"""The cache of steps: looks up what a plan need not execute, and keeps what was executed.

Both happen in the transaction that stores the run, or the end of its step. Of two runs that are planned at the same time neither finds the
other: a step too many is executed, and no harm is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import sqlmodel

from fuseml.domain import plans
from fuseml.domain.plans import replan, step_cache
from fuseml.store import executions, runs

if TYPE_CHECKING:
    from fuseml.usecases import planner

Digest = Callable[[str, str, str, Sequence[str]], str]
"""Project, codeset, commit and globs -> digest of the files, as a git host gives it."""


def decide(session: sqlmodel.Session, spec: planner.RunSpec, planned: plans.Plan, digest: Digest, declined: str = "") -> plans.Plan:
    """What has to be executed of the plan; `declined` is why nothing may be reused, if so.

    The host of the code is asked only when a step uses the cache. Raises NotFoundError when it does not know the commit.
    """
    if not any(step.cache for step in planned.steps):
        return planned

    @functools.cache
    def content(project: str, codeset: str, commit: str, paths: tuple[str, ...]) -> str:
        return digest(project, codeset, commit, paths)

    known = step_cache.with_content(planned, lambda item, paths: content(item.project, item.codeset, item.commit, tuple(paths)))
    if declined:
        return step_cache.without_reuse(known, declined)
    return step_cache.decide(known, functools.partial(_found, session, spec), functools.partial(_last, session, spec))


def _found(session: sqlmodel.Session, spec: planner.RunSpec, key: str) -> replan.StepResult | None:
    found = executions.find(session, spec.project, key)
    return replan.StepResult(found[0].name, found[1].outputs) if found else None


def _last(session: sqlmodel.Session, spec: planner.RunSpec, step: str) -> step_cache.Execution | None:
    row = executions.last(session, spec.document.name, spec.project, spec.codeset, step)
    if row is None:
        return None
    planned = plans.Plan.model_validate(row.plan)
    made = step_cache.fingerprint(planned, planned.step(step), _outputs(session, row))
    return step_cache.Execution(row.name, made) if made is not None else None


def keep(session: sqlmodel.Session, row: runs.Run) -> None:
    """Let later runs find the steps of this one that have succeeded. Steps that read an output wait until it is known."""
    steps = executions.without_key(session, row.id)
    if not steps:
        return
    planned, outputs = plans.Plan.model_validate(row.plan), _outputs(session, row)
    for step in steps:
        executions.record_key(session, step, step_cache.key_of_executed(planned, step.name, outputs))


def _outputs(session: sqlmodel.Session, row: runs.Run) -> step_cache.Outputs:
    return {step.name: step.outputs for step in runs.steps(session, [row.id]) if step.state == "succeeded"}
