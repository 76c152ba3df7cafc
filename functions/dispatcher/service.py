"""Use cases of `dispatcher`: from an event to stored runs, inside the transaction of the event."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence

import sqlmodel

from functions.dispatcher import creation, subscriptions
from functions.dispatcher.deps import Deps
from fuseml import artifactstores
from fuseml.domain import errors, events, plans, times
from fuseml.domain.plans import identity, run_inputs
from fuseml.domain.runnables import watching
from fuseml.domain.runs import FINISHED
from fuseml.domain.workflows import Workflow, deployment, registry_triggers, triggers
from fuseml.runtime import clock
from fuseml.store import artifact_names, artifacts, codesets, decisions, extensions, runs, workflows
from fuseml.usecases import assigned_codesets, lifecycle, planner, requests, step_reuse

_log = logging.getLogger("fuseml.dispatcher")


def on_codeset_pushed(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """One run for each workflow that the codeset starts and whose triggers match the ref and the paths."""
    push = events.CodesetPushed.model_validate(event.data)
    codeset = codesets.find_codeset(session, push.project, push.codeset)
    if codeset is None or (push.registered and push.registered != codeset.created):
        return _decline(session, event, f"codeset {push.subject} was removed, or removed and registered again", commit=push.commit)
    payloads: list[events.Payload] = []
    changed = functools.cache(lambda: _changed_paths(deps, push))
    for match in _matches(session, event, "code", push.project, push.codeset, push.commit):
        revision, document = _current(session, match.workflow)
        paths = changed() if triggers.watches_files(document) else None
        matches, reason = triggers.matches_push(document.on, push.ref, paths, triggers.watched_folders(document))
        if not matches:
            _decline(session, event, reason, workflow=match.workflow, commit=push.commit)
            continue
        deployed = _deployed(session, event, document, (push.project, push.codeset, push.ref), commit=push.commit)
        if deployed is None:
            continue
        spec = planner.RunSpec(
            document=deployed.workflow,
            revision=revision,
            project=push.project,
            codeset=push.codeset,
            ref=push.ref,
            commit=push.commit,
            user=push.pusher,
        )
        details = {"assignment": match.assignment, "ref": push.ref, "announced": times.normalize(event.time), "push": push.identity}
        meaning = identity.of_push(match.meaning, push.identity if push.push else "")
        payloads += _create(
            deps, session, spec, creation.Cause(event=event, meaning=meaning, reason=_noted(reason, deployed), trigger=details)
        )
    return payloads


def on_workflow_assigned(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """An assignment starts a first run on each of its codesets, on the newest commit of the default branch; without a commit, the first push
    starts it. A pattern of all projects starts none: it would run in each of them.
    """
    assigned = events.WorkflowAssigned.model_validate(event.data)
    assignment = workflows.find_assignment(session, assigned.assignment)
    kind, _, rest = assigned.pattern.partition("://")
    project, _, name = rest.partition("/")
    if assignment is None:
        return _decline(session, event, "the assignment was removed", workflow=assigned.workflow)
    if kind != "code" or "*" in project:
        return _decline(session, event, f"it starts with the next artifact that matches {assigned.pattern}", workflow=assigned.workflow)
    if "*" not in name:
        return _first_run(deps, session, event, assignment, (project, name))
    names = codesets.matching(session, project, assigned.pattern)
    if not names:
        return _decline(session, event, f"there is no codeset that matches {assigned.pattern} yet", workflow=assigned.workflow)
    return [payload for found in names for payload in _first_run(deps, session, event, assignment, (project, found))]


def _first_run(
    deps: Deps, session: sqlmodel.Session, event: events.Event, assignment: workflows.Assignment, codeset: tuple[str, str]
) -> Sequence[events.Payload]:
    """The run of a new assignment on the codeset, a project and a name."""
    project, name = codeset
    commit = _newest(session, project, name)
    if commit is None:
        reason = f"nothing was pushed to the default branch of {project}/{name} yet; the first push starts it"
        return _decline(session, event, reason, workflow=assignment.workflow)
    revision, document = _current(session, assignment.workflow)
    ref = codesets.default_ref(session, project, name)
    matches, reason = triggers.matches_push(document.on, ref, None)
    if not matches:
        return _decline(session, event, reason, workflow=assignment.workflow)
    deployed = _deployed(session, event, document, (project, name, ref))
    if deployed is None:
        return []
    spec = planner.RunSpec(document=deployed.workflow, revision=revision, project=project, codeset=name, ref=ref, commit=commit)
    # The event of that push may still be under way: both start one run.
    push = codesets.last_push(session, project, name, ref)
    cause = creation.Cause(
        event=event,
        meaning=identity.of_push(assignment.id, push),
        reason=_noted(f"it was assigned to {assignment.pattern}", deployed),
        trigger={"assignment": assignment.id, "push": push or None},
    )
    return _create(deps, session, spec, cause)


def on_schedule_reached(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """One run for the scheduled minute, on the newest commit of the codeset's default branch; a repeated event makes no other."""
    reached = events.ScheduleReached.model_validate(event.data)
    if runs.of_request(session, event.id):
        return []
    assignment = workflows.find_assignment(session, reached.assignment) if reached.assignment else None
    if workflows.is_deleted(session, reached.workflow) or (reached.assignment and assignment is None):
        return _decline(session, event, "the workflow was deleted or its assignment removed", workflow=reached.workflow)
    project, _, named = assignment.pattern.removeprefix("code://").partition("/") if assignment else ("", "", "")
    codeset = reached.codeset or named
    commit = _newest(session, project, codeset) if assignment else None
    if assignment and commit is None:
        reason = f"nothing was pushed to the default branch of {project}/{codeset} yet"
        return _decline(session, event, reason, workflow=reached.workflow)
    revision, document = _current(session, reached.workflow)
    ref = codesets.default_ref(session, project, codeset) if codeset else ""
    deployed = _deployed(session, event, document, (project, codeset, ref) if ref else None)
    if deployed is None:
        return []
    spec = planner.RunSpec(document=deployed.workflow, revision=revision, project=project, codeset=codeset or None, ref=ref, commit=commit)
    cause = creation.Cause(
        event=event,
        meaning=event.id,
        reason=_noted(f"its schedule reached {reached.due}", deployed),
        trigger={"assignment": reached.assignment, "due": reached.due},
        request=event.id,
    )
    return _create(deps, session, spec, cause)


def on_artifact_recorded(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A new model or dataset starts each matching workflow once. (Code comes as `codeset.pushed`.) Inputs that are codesets get the codeset
    version that it derives from.

    A workflow whose filters it does not pass yet starts when facts that are reported later complete it.
    """
    artifact = events.ArtifactRecorded.model_validate(event.data)
    if artifact.kind == "code":
        return []
    row = artifacts.find(session, artifact.address)
    if row is None and artifact_names.deletion(session, artifact.address):
        return _decline(session, event, f"{artifact.address} was deleted")
    if row is not None and row.external:
        return _decline(session, event, f"{artifact.address} is external: a reference starts nothing")
    uri = subscriptions.uri_of(artifact, row)
    producer = runs.find_named(session, artifact.run) if artifact.run else None
    origin = subscriptions.code_of(session, artifact, subscriptions.origin_of(session, producer))
    payloads: list[events.Payload] = []
    if artifact.completed:
        matches = subscriptions.matches(session, artifact.kind, artifact.project, artifact.name)
    else:
        matches = _matches(session, event, artifact.kind, artifact.project, artifact.name)
    current = {match.workflow: _current(session, match.workflow) for match in matches}
    watched = {name: subscriptions.watches(session, artifact, document) for name, (_, document) in current.items()}
    for name, matched in subscriptions.waiting(session, artifact, subscriptions.narrowed(matches, watched)).items():
        match, shortfall = subscriptions.passed(session, row, matched)
        if match is None:
            _decline(session, event, f"{artifact.address} does not pass {shortfall}", workflow=name)
            continue
        if unchanged := subscriptions.unchanged(session, row, watched[name]):
            _decline(session, event, unchanged, workflow=name)
            continue
        if uri is None:
            reason = f"{artifact.address} has no location, and no run could load it: register it again with the URI of its contents"
            _decline(session, event, reason, workflow=name)
            continue
        ancestor = subscriptions.cause_of(session, artifact.run, name)
        if ancestor:
            _decline(session, event, f"{artifact.address} derives from {ancestor}, a run of the same workflow", workflow=name)
            continue
        revision, document = current[name]
        deployed = _deployed(session, event, document, (origin.project, origin.codeset, origin.ref) if origin else None)
        if deployed is None:
            continue
        taking = watching.input_for(document, artifact.kind)
        inputs = {taking: uri} if taking else {}
        spec = planner.RunSpec(document=deployed.workflow, revision=revision, project=artifact.project, inputs=inputs)
        if needed := run_inputs.codesets(deployed.workflow):
            if origin is None or origin.project != artifact.project:
                reason = f"{artifact.address} derives from no codeset version, which the input {needed[0]!r} needs"
                _decline(session, event, reason, workflow=name)
                continue
            spec = dataclasses.replace(spec, codeset=origin.codeset, ref=origin.ref, commit=origin.commit)
        cause = creation.Cause(
            event=event,
            meaning=f"artifact:{artifact.address}",
            reason=_noted(f"{artifact.address} was recorded", deployed),
            trigger={"assignment": match.assignment, "artifact": artifact.address},
            run=producer.name if producer else None,
        )
        payloads += _create(deps, session, spec, cause)
    return payloads


def on_extension_changed(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """One run for each workflow that lists a record like this one, and for each codeset that it is assigned to; one without a codeset for a
    workflow that takes none. The record counts as it is now: events may come late. An input of the type `extension` gets its id.
    """
    subject = event.data["extension"]
    listening = workflows.triggered_by(session, "extensions")
    if not listening:
        return []
    if not extensions.is_known(session, subject):
        return _decline(session, event, f"the extension {subject} was removed")
    record = extensions.get(session, subject)
    payloads: list[events.Payload] = []
    for row in listening:
        document = Workflow.model_validate(row.document)
        met = registry_triggers.matched(document.on, record, home=deps.zone) if document.on else ""
        if not met:
            _decline(session, event, f"the extension {subject} does not match its on.extensions", workflow=row.workflow)
            continue
        taking = watching.input_for(document, "extension")
        spec = planner.RunSpec(document=document, revision=row.revision, project="", inputs={taking: subject} if taking else {})
        reason = f"the extension {subject} ({met}) {'was registered' if event.type == events.ExtensionRegistered.TYPE else 'has changed'}"
        for found in assigned_codesets.assigned(session, row.workflow):
            payloads += _run_assigned(deps, session, event, found, spec, reason)
        if assigned_codesets.runs_alone(session, document):
            cause = creation.Cause(event=event, meaning=event.id, reason=reason, trigger={"extension": subject})
            payloads += _create(deps, session, spec, cause)
    return payloads


def _run_assigned(
    deps: Deps, session: sqlmodel.Session, event: events.Event, found: assigned_codesets.Assigned, spec: planner.RunSpec, reason: str
) -> Sequence[events.Payload]:
    """The run on the newest commit of the default branch of an assigned codeset."""
    commit = _newest(session, found.project, found.codeset)
    if commit is None:
        problem = f"nothing was pushed to the default branch of {found.project}/{found.codeset} yet"
        return _decline(session, event, problem, workflow=spec.document.name)
    ref = codesets.default_ref(session, found.project, found.codeset)
    deployed = _deployed(session, event, spec.document, (found.project, found.codeset, ref))
    if deployed is None:
        return []
    spec = dataclasses.replace(spec, document=deployed.workflow, project=found.project, codeset=found.codeset, ref=ref, commit=commit)
    trigger = {"assignment": found.assignment.id, "extension": event.data["extension"]}
    return _create(deps, session, spec, creation.Cause(event=event, meaning=event.id, reason=_noted(reason, deployed), trigger=trigger))


def on_run_requested(deps: Deps, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """The requested run. A run that has become impossible since the request is stored as failed, with the reason.

    A stored run that only has to be submitted is submitted after the commit, like every pending run.
    """
    requested = events.RunRequested.model_validate(event.data)
    if requested.action == "submit":
        runs.get(session, requested.run or "")
        return []
    if runs.of_request(session, requested.request):
        return []
    spec = requests.run_spec(session, requested)
    planning = functools.partial(requests.plan_of, session, requested, spec, placement=_placement(deps), digest=deps.git.digest)
    cause = creation.Cause(
        event=event,
        meaning=f"request:{requested.request}",
        reason=f"a {requested.action} of {requested.run} was requested" if requested.run else "it was requested",
        trigger={"action": requested.action, "of": requested.run},
        request=requested.request,
    )
    return creation.create(session, spec, planning, cause)


def on_cancel_requested(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Cancel a run of which no execution is in the engine; the engine cancels the others, after the commit.

    The execution in the engine may succeed nevertheless; the request is stored, so that no further execution follows.
    """
    requested = events.RunCancelRequested.model_validate(event.data)
    row = runs.get(session, requested.run)
    if row.state in FINISHED:
        return []
    if creation.is_with_engine(row):
        runs.request_cancel(session, row, requested.reason)
        return []
    return lifecycle.end(session, row, "cancelled", requested.reason)


def on_codeset_removed(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Cancel the unfinished runs on the codeset: its repository is gone, and with it the code of steps that have not begun.

    Runs of a codeset that was registered anew meanwhile go on.
    """
    removed = events.CodesetRemoved.model_validate(event.data)
    unfinished = runs.active(session, project=removed.project, codeset=removed.codeset)
    cause = f"codeset {removed.subject} was deleted"
    payloads: list[events.Payload] = []
    for row in unfinished:
        if times.normalize(row.created) <= times.normalize(event.time):
            payloads += creation.cancel(session, row, cause)
    return payloads


def on_decided(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """A step was approved or rejected: begin the next execution, or end the run."""
    return lifecycle.advance(session, runs.get(session, event.data["run"]))


def _changed_paths(deps: Deps, push: events.CodesetPushed) -> Sequence[str] | None:
    """The files that differ between the commits before and after the push, as the git host compares them; None where that is not known.

    The event's list is no substitute: webhooks list the files of some pushed commits, and never those of dropped ones.
    """
    if push.before is None:
        return push.paths
    try:
        return deps.git.changed_paths(push.project, push.codeset, push.before, push.commit)
    except errors.NotFoundError:
        return push.paths
    except errors.FusemlError as error:
        # A run too many is better than one too few, and than an event that waits for the git host.
        _log.warning("the changed files of %s at %s are not known: %s", push.subject, push.commit, error.message)
        return None


def _newest(session: sqlmodel.Session, project: str, codeset: str) -> str | None:
    """The commit of the default branch that was published last; None without one, or without the codeset."""
    commit = codesets.commits(session, project, codeset).get(codesets.default_ref(session, project, codeset))
    return commit if codesets.find_codeset(session, project, codeset) else None


def _deployed(
    session: sqlmodel.Session, event: events.Event, document: Workflow, code: tuple[str, str, str] | None, *, commit: str | None = None
) -> deployment.Deployment | None:
    """The workflow as it runs for `code`, a project, codeset and ref, or for none; None, with the reason on record, if no step is left."""
    if code is None:
        return deployment.Deployment(document)
    try:
        return planner.deployed(session, document, *code)
    except errors.InvalidError as error:
        _decline(session, event, error.message, workflow=document.name, commit=commit)
        return None


def _noted(reason: str, deployed: deployment.Deployment) -> str:
    return f"{reason}; {deployed.note}" if deployed.note else reason


def _current(session: sqlmodel.Session, name: str) -> tuple[int, Workflow]:
    row = workflows.revision(session, name)
    return row.revision, Workflow.model_validate(row.document)


def _matches(
    session: sqlmodel.Session, event: events.Event, kind: str, project: str, name: str, commit: str | None = None
) -> list[subscriptions.Match]:
    """The workflows that the artifact starts; their absence is recorded as a decision."""
    matches = subscriptions.matches(session, kind, project, name)
    if not matches:
        _decline(session, event, f"no workflow is assigned to {kind}://{project}/{name}", commit=commit)
    return matches


def _decline(
    session: sqlmodel.Session, event: events.Event, reason: str, *, workflow: str | None = None, commit: str | None = None
) -> list[events.Payload]:
    """Record the reason for which nothing starts. Returns the events to publish: none."""
    decisions.record(session, event, reason, clock.now(), workflow=workflow, commit=commit)
    return []


def _create(deps: Deps, session: sqlmodel.Session, spec: planner.RunSpec, cause: creation.Cause) -> list[events.Payload]:
    def planning(run_id: str, run_name: str) -> plans.Plan:
        plan = planner.build(session, spec, run_id, run_name, _placement(deps))
        return step_reuse.decide(session, spec, plan, deps.git.digest)

    return creation.create(session, spec, planning, cause)


def _placement(deps: Deps) -> planner.Placement:
    return planner.Placement(deps.zone, deps.namespace, deps.tracking_url, artifactstores.facts)
