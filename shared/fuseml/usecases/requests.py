"""Requests for runs: read once to refuse an impossible request at once, and again, in its transaction, to execute it.

The state may change in between. `run_spec` is then still enough to create a run that shows as failed, and `plan_of` raises the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import sqlmodel

from fuseml.domain import errors, events, plans
from fuseml.domain.plans import replan, run_inputs
from fuseml.domain.runs import FINISHED
from fuseml.domain.workflows import Workflow, deployment
from fuseml.store import codesets, runs, workflows
from fuseml.usecases import planner, runnables, step_reuse

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def run_spec(session: sqlmodel.Session, request: events.RunRequested) -> planner.RunSpec:
    """The specification of the requested run. Raises NotFoundError for an unknown run or workflow."""
    if request.run is None:
        return _start(session, request)
    source = runs.get(session, request.run)
    is_kept = request.action == "resume" or request.locked
    number = source.revision if is_kept else workflows.latest(session, source.workflow)
    codeset_inputs = run_inputs.codesets(_document(session, source.workflow, source.revision))
    document = _document(session, source.workflow, number)
    ref = source.ref or _ref(session, source.project, source.codeset, source.commit)
    return planner.RunSpec(
        # A stored plan holds the steps of its ref.
        document=document if is_kept else _deployed(session, request, document, source.project, source.codeset, ref),
        revision=number,
        project=source.project,
        codeset=source.codeset,
        ref=ref,
        commit=request.commit or source.commit,
        inputs={**{name: value for name, value in source.inputs.items() if name not in codeset_inputs}, **request.inputs},
        # The credentials of the user who pushed, as in the repeated run.
        user=source.trigger.get("user") or "",
    )


def _start(session: sqlmodel.Session, request: events.RunRequested) -> planner.RunSpec:
    name, project = request.workflow or "", request.project or ""
    number = workflows.latest(session, name)
    commit = request.commit or (_head(session, project, request.codeset) if request.codeset else None)
    ref = _ref(session, project, request.codeset, commit)
    return planner.RunSpec(
        document=_deployed(session, request, _document(session, name, number), project, request.codeset, ref),
        revision=number,
        project=project,
        codeset=request.codeset,
        ref=ref,
        commit=commit,
        inputs=request.inputs,
    )


def _deployed(
    session: sqlmodel.Session, request: events.RunRequested, document: Workflow, project: str, codeset: str | None, ref: str
) -> Workflow:
    """The workflow as it runs for the ref; whole for a request of a serving step, and for a run without code."""
    document = runnables.expanded(session, document, project)
    serving = deployment.serving_steps(document)
    if codeset is None or request.until in serving or request.only in serving:
        return document
    return planner.deployed(session, document, project, codeset, ref).workflow


def plan_of(
    session: sqlmodel.Session,
    request: events.RunRequested,
    spec: planner.RunSpec,
    run_id: str,
    run_name: str,
    placement: planner.Placement,
    digest: step_reuse.Digest,
) -> plans.Plan:
    """The plan of the requested run under that identity, without the steps that the cache holds.

    Raises NotFoundError, ConflictError, InvalidError, UnresolvedError when the run is impossible now.
    """
    plan = _whole_plan(session, request, spec, run_id, run_name, placement)
    return step_reuse.decide(session, spec, plan, digest, _no_reuse(request))


def check(session: sqlmodel.Session, request: events.RunRequested, spec: planner.RunSpec, placement: planner.Placement) -> None:
    """Raises the errors of `plan_of` when the requested run is impossible now."""
    _whole_plan(session, request, spec, "", "", placement)


def _whole_plan(
    session: sqlmodel.Session,
    request: events.RunRequested,
    spec: planner.RunSpec,
    run_id: str,
    run_name: str,
    placement: planner.Placement,
) -> plans.Plan:
    _validate(session, request, spec)
    source = runs.get(session, request.run) if request.run else None
    succeeded = _succeeded(session, source) if source else {}
    if source and request.action == "resume":
        plan = replan.resume(_resumable(source), succeeded, commit=request.commit, images=request.images)
    elif source and request.locked:
        plan = _stored(source)
    else:
        plan = planner.build(session, spec, run_id, run_name, placement)
    if request.until:
        plan = replan.up_to(plan, request.until)
    elif request.only:
        plan = replan.only(plan, request.only, succeeded)
    return replan.rename(plan, run_id, run_name)


def _no_reuse(request: events.RunRequested) -> str:
    """The reason for which a requested run reuses no step; empty when it may."""
    if request.no_cache:
        return "the run was requested without the cache"
    if request.only:
        return "the step was requested"
    if request.action == "resume":
        return "a resumed run executes the remaining steps"
    return "a locked run repeats the steps of its plan" if request.locked else ""


def _validate(session: sqlmodel.Session, request: events.RunRequested, spec: planner.RunSpec) -> None:
    workflows.workflow(session, spec.document.name)
    if request.until and request.only:
        raise _invalid("only", "give `until` or `only`, not both")
    if request.locked and request.no_cache:
        raise _invalid("no_cache", "a locked run repeats its plan with the steps that it has reused; give `locked` or `no_cache`, not both")
    if request.locked and request.inputs:
        raise _invalid("inputs", "a locked run repeats its plan with the inputs of the run; give `locked` or `inputs`, not both")
    if request.commit and not _COMMIT.fullmatch(request.commit):
        raise _invalid("commit", f"{request.commit[:80]!r} is not a commit; it takes all 40 (or 64) hex digits")
    if spec.codeset is None:
        if run_inputs.codesets(spec.document):
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
    return codesets.commits(session, project, codeset).get(codesets.default_ref(session, project, codeset))


def _ref(session: sqlmodel.Session, project: str, codeset: str | None, commit: str | None) -> str:
    """A branch or tag at the commit, else the default branch; empty without a codeset. Code is checked out by commit."""
    if not codeset:
        return ""
    default = codesets.default_ref(session, project, codeset)
    at = [ref for ref, head in sorted(codesets.commits(session, project, codeset).items()) if head == commit]
    return default if not at or default in at else at[0]


def _succeeded(session: sqlmodel.Session, source: runs.Run) -> Mapping[str, replan.StepResult]:
    reused = {item["name"]: item.get("executed_as", "") for item in (source.plan or {}).get("reused", ())}
    return {
        step.name: replan.StepResult(step.reused_from or source.name, step.outputs, reused.get(step.name, ""))
        for step in runs.steps(session, [source.id])
        if step.state == "succeeded"
    }


def _stored(source: runs.Run) -> plans.Plan:
    if source.plan is None:
        reason = f" ({source.cause})" if source.cause else ""
        raise errors.ConflictError(f"run {source.name} has no plan{reason}; `fuseml run rerun {source.name}` plans it anew")
    return plans.Plan.model_validate(source.plan)


def _resumable(source: runs.Run) -> plans.Plan:
    if source.state not in FINISHED:
        raise errors.ConflictError(f"run {source.name} is {source.state}; only a failed or cancelled run can be resumed")
    if source.state == "succeeded":
        raise errors.ConflictError(f"run {source.name} has succeeded, so there is nothing to resume; `fuseml run rerun` repeats it")
    return _stored(source)
