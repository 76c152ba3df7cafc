"""What a request for a run asks for: read once to refuse it at once, and again, in its transaction, to execute it.

Between the two the world may change: what `order` finds is still enough to show a run that failed, and `plan` says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sqlmodel

from fuseml.domain import errors, events, plans
from fuseml.domain.plans import planning, replan
from fuseml.domain.runs import FINISHED
from fuseml.domain.workflows import Workflow
from fuseml.store import codesets, runs, workflows
from fuseml.usecases import planner, step_reuse

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def run_spec(session: sqlmodel.Session, requested: events.RunRequested) -> planner.RunSpec:
    """What the request comes to. Raises NotFoundError for a run or workflow that never was."""
    if requested.run is None:
        return _start(session, requested)
    source = runs.get(session, requested.run)
    is_kept = requested.action == "resume" or requested.locked
    number = source.revision if is_kept else workflows.latest(session, source.workflow)
    codeset_inputs = planning.codeset_inputs(_document(session, source.workflow, source.revision))
    return planner.RunSpec(
        document=_document(session, source.workflow, number),
        revision=number,
        project=source.project,
        codeset=source.codeset,
        ref=_ref(session, source.project, source.codeset, source.commit),
        commit=requested.commit or source.commit,
        inputs={name: value for name, value in source.inputs.items() if name not in codeset_inputs},
        # The credentials of the one who pushed, as in the run that is repeated.
        user=source.trigger.get("user") or "",
    )


def _start(session: sqlmodel.Session, requested: events.RunRequested) -> planner.RunSpec:
    name, project = requested.workflow or "", requested.project or ""
    number = workflows.latest(session, name)
    commit = requested.commit or (_head(session, project, requested.codeset) if requested.codeset else None)
    return planner.RunSpec(
        document=_document(session, name, number),
        revision=number,
        project=project,
        codeset=requested.codeset,
        ref=_ref(session, project, requested.codeset, commit),
        commit=commit,
        inputs=requested.inputs,
    )


def plan_of(
    session: sqlmodel.Session,
    requested: events.RunRequested,
    spec: planner.RunSpec,
    run_id: str,
    run_name: str,
    placement: planner.Placement,
    digest: step_reuse.Digest,
) -> plans.Plan:
    """The plan of a run of that identity, without the steps that the cache holds.

    Raises NotFoundError, ConflictError, InvalidError, UnresolvedError when it cannot be run now.
    """
    plan = _build(session, requested, spec, run_id, run_name, placement)
    return step_reuse.decide(session, spec, plan, digest, _declined(requested))


def check(session: sqlmodel.Session, requested: events.RunRequested, spec: planner.RunSpec, placement: planner.Placement) -> None:
    """Raises what `plan_of` raises when the request cannot be run now."""
    _build(session, requested, spec, "", "", placement)


def _build(
    session: sqlmodel.Session,
    requested: events.RunRequested,
    spec: planner.RunSpec,
    run_id: str,
    run_name: str,
    placement: planner.Placement,
) -> plans.Plan:
    _check(session, requested, spec)
    source = runs.get(session, requested.run) if requested.run else None
    succeeded = _succeeded(session, source) if source else {}
    if source and requested.action == "resume":
        planned = replan.resume(_resumable(source), succeeded, commit=requested.commit, images=requested.images)
    elif source and requested.locked:
        planned = _stored(source)
    else:
        planned = planner.build(session, spec, run_id, run_name, placement)
    if requested.until:
        planned = replan.up_to(planned, requested.until)
    elif requested.only:
        planned = replan.only(planned, requested.only, succeeded)
    return replan.rename(planned, run_id, run_name)


def _declined(requested: events.RunRequested) -> str:
    """Why a request executes all that it asks for, if it does."""
    if requested.no_cache:
        return "the run was requested without the cache"
    if requested.only:
        return "the step was requested"
    if requested.action == "resume":
        return "a resumed run executes the remaining steps"
    return "a locked run repeats the steps of its plan" if requested.locked else ""


def _check(session: sqlmodel.Session, requested: events.RunRequested, spec: planner.RunSpec) -> None:
    workflows.workflow(session, spec.document.name)
    if requested.until and requested.only:
        raise _invalid("only", "give `until` or `only`, not both")
    if requested.locked and requested.no_cache:
        raise _invalid("no_cache", "a locked run repeats its plan with the steps that it has reused; give `locked` or `no_cache`, not both")
    if requested.commit and not _COMMIT.fullmatch(requested.commit):
        raise _invalid("commit", f"{requested.commit[:80]!r} is not a commit; it takes all 40 (or 64) hex digits")
    if spec.codeset is None:
        if planning.codeset_inputs(spec.document):
            raise _invalid("codeset", f"workflow {spec.document.name!r} runs on a codeset, and none was given")
        return
    codesets.codeset(session, spec.project, spec.codeset)
    if spec.commit is None:
        where = f"{spec.project}/{spec.codeset}"
        raise errors.ConflictError(f"nothing was pushed to the main branch of {where} yet; push to it, or name a commit")


def _invalid(path: str, message: str) -> errors.InvalidError:
    problem = errors.Problem(path, message)
    return errors.InvalidError(f"the request is not valid: {problem}", [problem])


def _document(session: sqlmodel.Session, name: str, number: int) -> Workflow:
    return Workflow.model_validate(workflows.stored_revision(session, name, number).document)


def _head(session: sqlmodel.Session, project: str, codeset: str) -> str | None:
    return codesets.announced(session, project, codeset).get(planner.DEFAULT_REF)


def _ref(session: sqlmodel.Session, project: str, codeset: str | None, commit: str | None) -> str:
    """A branch or tag that is at the commit, else the main branch: for people, code is found by its commit."""
    heads = codesets.announced(session, project, codeset) if codeset else {}
    at = [ref for ref, head in sorted(heads.items()) if head == commit]
    return planner.DEFAULT_REF if not at or planner.DEFAULT_REF in at else at[0]


def _succeeded(session: sqlmodel.Session, source: runs.Run) -> Mapping[str, replan.StepResult]:
    return {
        step.name: replan.StepResult(step.reused_from or source.name, step.outputs)
        for step in runs.steps(session, [source.id])
        if step.state == "succeeded"
    }


def _stored(source: runs.Run) -> plans.Plan:
    if source.plan is None:
        why = f" ({source.cause})" if source.cause else ""
        raise errors.ConflictError(f"run {source.name} was never planned{why}; `fuseml run rerun {source.name}` plans it anew")
    return plans.Plan.model_validate(source.plan)


def _resumable(source: runs.Run) -> plans.Plan:
    if source.state not in FINISHED:
        raise errors.ConflictError(f"run {source.name} is {source.state}; only one that has failed or was cancelled can be resumed")
    if source.state == "succeeded":
        raise errors.ConflictError(f"run {source.name} has succeeded, so there is nothing to resume; `fuseml run rerun` repeats it")
    return _stored(source)
