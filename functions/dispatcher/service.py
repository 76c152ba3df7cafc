"""Use cases of `dispatcher`: from an event to stored runs. Everything here happens inside the event's transaction."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import sqlmodel

from functions.dispatcher import creation, subscriptions
from functions.dispatcher.deps import Deps
from fuseml.domain import events, plans, times
from fuseml.domain.runs import FINISHED
from fuseml.domain.workflows import Workflow, triggers
from fuseml.runtime import clock
from fuseml.store import codesets, decisions, runs, workflows
from fuseml.usecases import lifecycle, planner, requests, step_reuse


def on_codeset_pushed(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """One run for each match of the codeset whose workflow wants this ref and these paths."""
    pushed = events.CodesetPushed.model_validate(event.data)
    codeset = codesets.find_codeset(session, pushed.project, pushed.codeset)
    if codeset is None or (pushed.registered and pushed.registered != codeset.created):
        # The codeset is gone, or it is another one of the same name by now.
        return _decline(session, event, f"codeset {pushed.subject} was removed, or removed and registered again", commit=pushed.commit)
    announced: list[events.Payload] = []
    for match in _takers(session, event, "code", pushed.project, pushed.codeset, pushed.commit):
        revision, document = _current(session, match.workflow)
        wanted, because = triggers.matches_push(document.on, pushed.ref, pushed.paths)
        if not wanted:
            _decline(session, event, because, workflow=match.workflow, commit=pushed.commit)
            continue
        spec = planner.RunSpec(
            document=document,
            revision=revision,
            project=pushed.project,
            codeset=pushed.codeset,
            ref=pushed.ref,
            commit=pushed.commit,
            user=pushed.pusher,
        )
        details = {"assignment": match.assignment, "ref": pushed.ref, "announced": times.normalize(event.time)}
        announced += _create(deps, session, spec, creation.Cause(event=event, meaning=match.meaning, reason=because, trigger=details))
    return announced


def on_workflow_assigned(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """An assignment starts the first run, on the newest commit that was announced; without one, the first push will."""
    assigned = events.WorkflowAssigned.model_validate(event.data)
    assignment = workflows.find_assignment(session, assigned.assignment)
    kind, _, rest = assigned.pattern.partition("://")
    project, _, name = rest.partition("/")
    if assignment is None:
        return _decline(session, event, "the assignment was removed", workflow=assigned.workflow)
    if kind != "code" or "*" in rest:
        return _decline(session, event, f"it starts with the next artifact that matches {assigned.pattern}", workflow=assigned.workflow)
    commit = _newest(session, project, name)
    if commit is None:
        told = f"nothing was pushed to the main branch of {rest} yet; the first push starts it"
        return _decline(session, event, told, workflow=assigned.workflow)
    revision, document = _current(session, assignment.workflow)
    wanted, because = triggers.matches_push(document.on, planner.DEFAULT_REF, None)
    if not wanted:
        return _decline(session, event, because, workflow=assigned.workflow)
    spec = planner.RunSpec(document=document, revision=revision, project=project, codeset=name, commit=commit)
    cause = creation.Cause(
        event=event, meaning=assignment.id, reason=f"it was assigned to {assigned.pattern}", trigger={"assignment": assignment.id}
    )
    return _create(deps, session, spec, cause)


def on_schedule_reached(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """One run for the scheduled minute, on the newest commit of the codeset's main branch, whoever tells of the minute again."""
    reached = events.ScheduleReached.model_validate(event.data)
    if runs.of_request(session, event.id):
        return []
    assignment = workflows.find_assignment(session, reached.assignment) if reached.assignment else None
    if workflows.is_deleted(session, reached.workflow) or (reached.assignment and assignment is None):
        return _decline(session, event, "the workflow was deleted or its assignment removed", workflow=reached.workflow)
    project, _, codeset = assignment.pattern.removeprefix("code://").partition("/") if assignment else ("", "", "")
    commit = _newest(session, project, codeset) if assignment else None
    if assignment and commit is None:
        told = f"nothing was pushed to the main branch of {project}/{codeset} yet"
        return _decline(session, event, told, workflow=reached.workflow)
    revision, document = _current(session, reached.workflow)
    spec = planner.RunSpec(document=document, revision=revision, project=project, codeset=codeset or None, commit=commit)
    cause = creation.Cause(
        event=event,
        meaning=event.id,
        reason=f"its schedule reached {reached.due}",
        trigger={"assignment": reached.assignment, "due": reached.due},
        request=event.id,
    )
    return _create(deps, session, spec, cause)


def on_artifact_recorded(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A new model or dataset starts each workflow that takes it once. (Code comes as `codeset.pushed`.)"""
    recorded = events.ArtifactRecorded.model_validate(event.data)
    if recorded.kind == "code":
        return []
    uri = f"models:/{recorded.name}/{recorded.version}" if recorded.kind == "model" else recorded.address
    made_by = runs.find_named(session, recorded.run) if recorded.run else None
    announced: list[events.Payload] = []
    found = _takers(session, event, recorded.kind, recorded.project, recorded.name)
    for name, assignment in {match.workflow: match.assignment for match in reversed(found)}.items():
        circle = subscriptions.cause_of(session, recorded.run, name)
        if circle:
            _decline(session, event, f"{recorded.address} derives from {circle}, a run of the same workflow", workflow=name)
            continue
        revision, document = _current(session, name)
        by_type = [item.name for item in document.inputs if item.type == recorded.kind]
        by_name = [item.name for item in document.inputs if item.name == recorded.kind]
        inputs = dict.fromkeys([*by_type, *by_name][:1], uri)
        spec = planner.RunSpec(document=document, revision=revision, project=recorded.project, inputs=inputs)
        cause = creation.Cause(
            event=event,
            meaning=f"artifact:{recorded.address}",
            reason=f"{recorded.address} was recorded",
            trigger={"assignment": assignment, "artifact": recorded.address},
            run=made_by.name if made_by else None,
        )
        announced += _create(deps, session, spec, cause)
    return announced


def on_run_requested(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A run that somebody asked for. One that became impossible since is made nevertheless, and says why it failed.

    A stored run that only has to be submitted is submitted after the commit, like every run that waits for it.
    """
    requested = events.RunRequested.model_validate(event.data)
    if requested.action == "submit":
        runs.get(session, requested.run or "")
        return []
    if runs.of_request(session, requested.request):
        return []
    spec = requests.run_spec(session, requested)
    placement = planner.Placement(deps.zone, deps.namespace)
    planning = functools.partial(requests.plan_of, session, requested, spec, placement=placement, digest=deps.git.digest)
    cause = creation.Cause(
        event=event,
        meaning=f"request:{requested.request}",
        reason=f"a {requested.action} of {requested.run} was requested" if requested.run else "it was requested",
        trigger={"action": requested.action, "of": requested.run},
        request=requested.request,
    )
    return creation.create(session, spec, planning, cause)


def on_cancel_requested(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A run of which the engine has nothing is cancelled here; the engine cancels the others, after the commit.

    It may be too late to stop what the engine has; the request is stored, so that no further execution follows.
    """
    requested = events.RunCancelRequested.model_validate(event.data)
    row = runs.get(session, requested.run)
    if row.state in FINISHED:
        return []
    if creation.is_with_engine(row):
        runs.request_cancel(session, row, requested.reason)
        return []
    return lifecycle.end(session, row, "cancelled", requested.reason)


def on_answered(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A step was approved or rejected: what is stored with the answer leads to the next execution, or to the run's end."""
    return lifecycle.advance(session, runs.get(session, event.data["run"]))


def _newest(session: sqlmodel.Session, project: str, codeset: str) -> str | None:
    """The commit of the main branch that was announced last; None without one, or without the codeset."""
    commit = codesets.announced(session, project, codeset).get(planner.DEFAULT_REF)
    return commit if codesets.find_codeset(session, project, codeset) else None


def _current(session: sqlmodel.Session, name: str) -> tuple[int, Workflow]:
    row = workflows.revision(session, name)
    return row.revision, Workflow.model_validate(row.document)


def _takers(
    session: sqlmodel.Session, event: events.Event, kind: str, project: str, name: str, commit: str | None = None
) -> list[subscriptions.Match]:
    """Who takes what the event tells of; that nobody does is a decision too."""
    found = subscriptions.matches(session, kind, project, name)
    if not found:
        _decline(session, event, f"no workflow is assigned to {kind}://{project}/{name}", commit=commit)
    return found


def _decline(
    session: sqlmodel.Session, event: events.Event, reason: str, *, workflow: str | None = None, commit: str | None = None
) -> list[events.Payload]:
    """Remember why nothing starts. Returns what that announces: nothing."""
    decisions.record(session, event, reason, clock.now(), workflow=workflow, commit=commit)
    return []


def _create(deps: Deps, session: sqlmodel.Session, spec: planner.RunSpec, cause: creation.Cause) -> list[events.Payload]:
    def planning(run_id: str, run_name: str) -> plans.Plan:
        planned = planner.build(session, spec, run_id, run_name, planner.Placement(deps.zone, deps.namespace))
        return step_reuse.decide(session, spec, planned, deps.git.digest)

    return creation.create(session, spec, planning, cause)
