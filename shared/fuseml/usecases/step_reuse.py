"""The cache of steps in the store: looks up the steps that a plan need not execute, and keeps the keys of executed steps.

Both happen in the transaction that stores the run, or the end of its step. Two runs that are planned at the same time do not find each
other: a step too many is executed, without harm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import sqlmodel

from fuseml.domain import plans
from fuseml.domain.plans import replan, step_cache
from fuseml.store import executions, runs
from fuseml.usecases import planner

Digest = Callable[[str, str, str, Sequence[str]], str]
"""Project, codeset, commit and globs -> digest of the files, as a git host gives it."""


def decide(session: sqlmodel.Session, spec: planner.RunSpec, plan: plans.Plan, digest: Digest, declined: str = "") -> plans.Plan:
    """The plan without the steps that the cache holds. A reason in `declined` forbids reuse.

    The git host is called only when a step uses the cache. Raises NotFoundError for a commit that it does not have.
    """
    if not any(step.cache for step in plan.steps):
        return plan

    @functools.cache
    def content(project: str, codeset: str, commit: str, paths: tuple[str, ...]) -> str:
        return digest(project, codeset, commit, paths)

    digested = step_cache.with_content(plan, lambda item, paths: content(item.project, item.codeset, item.commit, tuple(paths)))
    if declined:
        return step_cache.without_reuse(digested, declined)
    return step_cache.decide(digested, functools.partial(_find, session, spec), functools.partial(_last, session, spec))


def _find(session: sqlmodel.Session, spec: planner.RunSpec, key: str) -> replan.StepResult | None:
    execution = executions.find(session, spec.project, key)
    return replan.StepResult(execution[0].name, execution[1].outputs, execution[1].name) if execution else None


def _last(session: sqlmodel.Session, spec: planner.RunSpec, step: str) -> step_cache.Execution | None:
    row = executions.last(session, spec.document.name, spec.project, spec.codeset, step)
    if row is None:
        return None
    plan = plans.Plan.model_validate(row.plan)
    fingerprint = step_cache.fingerprint(plan, plan.step(step), _outputs(session, row))
    return step_cache.Execution(row.name, fingerprint) if fingerprint is not None else None


def keep(session: sqlmodel.Session, row: runs.Run) -> None:
    """Let later runs find the succeeded steps of this run. A step that reads an output gets its key when the output is known."""
    steps = executions.without_key(session, row.id)
    if not steps:
        return
    plan, outputs = plans.Plan.model_validate(row.plan), _outputs(session, row)
    for step in steps:
        executions.record_key(session, step, step_cache.key_of_executed(plan, step.name, outputs))


def _outputs(session: sqlmodel.Session, row: runs.Run) -> step_cache.Outputs:
    return {step.name: step.outputs for step in runs.steps(session, [row.id]) if step.state == "succeeded"}
