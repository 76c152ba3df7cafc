"""Use cases of `dispatcher`: from an event to stored runs. Everything here happens inside the event's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import sqlmodel

from fuseml.domain import artifact, errors, events, plan, planning, run, selector, trigger, workflow
from fuseml.runtime import clock
from fuseml.store import codesets, extensions, runs, tables, workflows

if TYPE_CHECKING:
    from functions.dispatcher.app import Deps

_DEFAULT_REF = "refs/heads/main"


def on_codeset_pushed(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """One run for each assignment that matches the codeset and whose workflow wants this ref and these paths."""
    pushed = events.CodesetPushed.model_validate(event.data)
    version = _version(session, pushed.project, pushed.codeset, pushed.ref, pushed.commit)
    if version is None:
        return []
    announced: list[events.Payload] = []
    for assignment in workflows.assignments(session):
        if not artifact.matches(assignment.pattern, "code", pushed.project, pushed.codeset):
            continue
        revision = workflows.revision(session, assignment.workflow)
        document = workflow.Workflow.model_validate(revision.document)
        wanted, _ = trigger.matches_push(document.on, pushed.ref, pushed.paths)
        if wanted:
            announced += _create(deps, session, assignment, revision, document, version, {}, event)
    return announced


def on_workflow_assigned(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """An assignment starts the first run, on the newest commit that was announced; without one, the first push will."""
    assigned = events.WorkflowAssigned.model_validate(event.data)
    assignment = workflows.find_assignment(session, assigned.assignment)
    kind, _, rest = assigned.pattern.partition("://")
    project, _, name = rest.partition("/")
    if assignment is None or kind != "code" or "*" in rest:
        return []
    commit = codesets.announced(session, project, name).get(_DEFAULT_REF)
    version = _version(session, project, name, _DEFAULT_REF, commit) if commit else None
    if version is None:
        return []
    revision = workflows.revision(session, assignment.workflow)
    document = workflow.Workflow.model_validate(revision.document)
    return _create(deps, session, assignment, revision, document, version, {}, event)


def on_artifact_recorded(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A new model or dataset starts the workflows that are assigned to its kind. (Code comes as `codeset.pushed`.)"""
    recorded = events.ArtifactRecorded.model_validate(event.data)
    if recorded.kind == "code":
        return []
    announced: list[events.Payload] = []
    for assignment in workflows.assignments(session):
        if not artifact.matches(assignment.pattern, recorded.kind, recorded.project, recorded.name):
            continue
        revision = workflows.revision(session, assignment.workflow)
        document = workflow.Workflow.model_validate(revision.document)
        taker = next((item.name for item in document.inputs if item.type == recorded.kind), recorded.kind)
        uri = f"models:/{recorded.name}/{recorded.version}" if recorded.kind == "model" else recorded.address
        announced += _create(deps, session, assignment, revision, document, None, {taker: uri}, event, project=recorded.project)
    return announced


def on_run_requested(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """The sweep asks for a stored run to be submitted again: that is done after the commit, for every run that waits for it."""
    requested = events.RunRequested.model_validate(event.data)
    if requested.run is None:
        raise errors.PermanentError(
            "starting a workflow by request comes with a later release; push to the codeset, or assign the workflow"
        )
    runs.get(session, requested.run)
    return []


def on_cancel_requested(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A run that the engine never got is cancelled here; the engine cancels the others, after the commit."""
    requested = events.RunCancelRequested.model_validate(event.data)
    row = runs.get(session, requested.run)
    if row.submitted is not None or row.state in run.FINISHED:
        return []
    return end(session, row, "cancelled", requested.reason)


def end(session: sqlmodel.Session, row: tables.Run, state: run.State, cause: str) -> list[events.Payload]:
    """Finish a run that no engine will ever tell about."""
    moment = clock.now()
    runs.record(session, row, run.advance(runs.progress(row), run.Observation(row.id, None, state, moment, cause=cause)))
    for step in runs.steps(session, [row.id]):
        runs.record(session, step, run.advance(runs.progress(step), run.Observation(row.id, step.name, "skipped", moment)))
    finished = "cancelled" if state == "cancelled" else "failed"
    return [
        events.RunFinished(
            run=row.name, workflow=row.workflow, project=row.project, codeset=row.codeset, commit=row.commit, state=finished, cause=cause
        )
    ]


def _version(session: sqlmodel.Session, project: str, name: str, ref: str, commit: str) -> planning.CodesetVersion | None:
    codeset = codesets.find_codeset(session, project, name)
    return planning.CodesetVersion(project=project, codeset=name, url=codeset.url, ref=ref, commit=commit) if codeset else None


def _create(
    deps: Deps,
    session: sqlmodel.Session,
    assignment: tables.Assignment,
    revision: tables.WorkflowRevision,
    document: workflow.Workflow,
    version: planning.CodesetVersion | None,
    inputs: Mapping[str, str],
    event: events.Event,
    *,
    project: str = "",
) -> list[events.Payload]:
    versions = dict.fromkeys(planning.codeset_inputs(document), version) if version else {}
    code = str(artifact.code(version.project, version.codeset, version.commit)) if version else None
    given = {**dict.fromkeys(versions, code or ""), **inputs}
    run_id = run.identity(revision.workflow, revision.revision, given or {"trigger": code or ""}, assignment.id)
    if runs.find(session, run_id):
        return []
    row = tables.Run(
        id=run_id,
        name=runs.next_name(session, revision.workflow),
        sequence=0,
        workflow=revision.workflow,
        revision=revision.revision,
        project=version.project if version else project,
        codeset=version.codeset if version else None,
        commit=version.commit if version else None,
        trigger={
            "kind": event.type.removeprefix(events.PREFIX).removesuffix(".v1"),
            "event": event.id,
            "source": event.source,
            "assignment": assignment.id,
            "user": event.data.get("pusher", ""),
        },
        inputs=given,
        state="queued",
        created=clock.now(),
    )
    runs.add(session, row, [step.name for step in document.steps])
    created = events.RunCreated(
        run=row.name, workflow=row.workflow, revision=row.revision, project=row.project, codeset=row.codeset, commit=row.commit
    )
    try:
        row.plan = _plan(deps, session, row, document, {name: v for name, v in versions.items() if v}, inputs).model_dump(mode="json")
    except (errors.UnresolvedError, errors.InvalidError) as error:
        # The push must not vanish: the run is there, and says why it could not start.
        return [created, *end(session, row, "failed", error.message)]
    session.add(row)
    return [created]


def _plan(
    deps: Deps,
    session: sqlmodel.Session,
    row: tables.Run,
    document: workflow.Workflow,
    versions: Mapping[str, planning.CodesetVersion],
    inputs: Mapping[str, str],
) -> plan.Plan:
    context = selector.Context(project=row.project, user=row.trigger.get("user", ""), zone=deps.zone)
    bindings: dict[str, dict[str, selector.Binding]] = {}
    for step, wanted in planning.selectors(document).items():
        try:
            found = selector.resolve(wanted, extensions.candidates(session, wanted), context, home=deps.zone)
        except errors.UnresolvedError as error:
            raise errors.UnresolvedError(f"step {step!r}: {error.message}", details=error.details) from error
        bindings[step] = {binding.name: binding for binding in found.bindings}
    return planning.build(
        document,
        revision=row.revision,
        run_id=row.id,
        run_name=row.name,
        project=row.project,
        codesets=versions,
        inputs=inputs,
        bindings=bindings,
        namespace=deps.namespace,
    )
