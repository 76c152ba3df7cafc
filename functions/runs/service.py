"""Use cases of `runs`."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from typing import Any

from functions.runs import views
from functions.runs.deps import Deps
from fuseml import artifactstores, contents, engines
from fuseml.domain import errors, events
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED, approval
from fuseml.domain.workflows import Workflow
from fuseml.runtime import cloudevents, http
from fuseml.store import archive, codesets, paging, runs, workflows
from fuseml.usecases import lifecycle, planner, requests, settlement

_ORIGINAL_LIMIT = 500
_LOG_CHUNK = 1 << 20


def page(deps: Deps, limit: int, cursor: str | None, filters: Mapping[str, str | None]) -> http.ListPage[views.Run]:
    """A page of runs, newest first."""
    with deps.store.read() as session:
        slice_ = runs.page(session, paging.Page(limit, cursor), **filters)
        steps = itertools.groupby(runs.steps(session, [row.id for row in slice_.rows]), key=lambda step: step.run_id)
        by_run = {run_id: list(group) for run_id, group in steps}
        waits = runs.waits_for(session, slice_.rows)
        settled = settlement.settled(session, slice_.rows, by_run)
    items = [views.of(row, by_run.get(row.id, []), waits.get(row.id), settled=row.id in settled) for row in slice_.rows]
    return http.ListPage(items, slice_.next_cursor)


def get(deps: Deps, name: str) -> views.Run:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        row = runs.get(session, name)
        steps = runs.steps(session, [row.id])
        settled = settlement.settled(session, [row], {row.id: steps})
        return views.of(row, steps, runs.waits_for(session, [row]).get(row.id), settled=row.id in settled)


def plan(deps: Deps, name: str) -> dict[str, Any]:
    """The stored plan. Raises NotFoundError when the run has none, because it could not be planned."""
    with deps.store.read() as session:
        row = runs.get(session, name)
    if row.plan is None:
        raise errors.NotFoundError(f"run {name} has no plan: {row.cause}")
    return row.plan


def log(deps: Deps, name: str, step: str, offset: int) -> engines.LogChunk:
    """A piece of a step's log. Raises NotFoundError for the run and the step."""
    with deps.store.read() as session:
        row = runs.get(session, name)
        steps = {item.name: item for item in runs.steps(session, [row.id])}
    if step not in steps:
        raise errors.NotFoundError(f"run {name} has no step {step!r}; its steps are {', '.join(steps)}")
    executed_by = steps[step].reused_from
    if executed_by:
        return log(deps, executed_by, views.executed_as(row, step), offset)
    archived = steps[step].archived
    if archived is not None:
        return _archived(deps.contents, archived, offset)
    over = steps[step].state in FINISHED
    if steps[step].execution:
        try:
            return deps.engine.logs(identity.execution_id(row.id, steps[step].execution), step, offset)
        except errors.NotFoundError:
            # The sweep may have archived it meanwhile, and had the engine drop the log or forget the run.
            with deps.store.read() as session:
                archived = next((item.archived for item in runs.steps(session, [row.id]) if item.name == step), None)
            if archived is not None:
                return _archived(deps.contents, archived, offset)
    # The log is still empty, stays empty, or is lost.
    lost = over and steps[step].execution and steps[step].started
    return _gone(offset) if lost else engines.LogChunk(b"", offset, complete=over)


def _archived(store: contents.Contents | None, key: str, offset: int) -> engines.LogChunk:
    if store is None or key == archive.NOWHERE:
        return _gone(offset)
    try:
        rest = b"".join(store.get(key, offset, _LOG_CHUNK + 1))
    except errors.NotFoundError:
        return _gone(offset)
    data = rest[:_LOG_CHUNK]
    return engines.LogChunk(data, offset + len(data), complete=data == rest)


def _gone(offset: int) -> engines.LogChunk:
    # A reader that already has a part of the log gets no message in the middle.
    data = b"" if offset else b"fuseml: the log of this step is kept no longer\n"
    return engines.LogChunk(data, offset + len(data), complete=True)


def cancel(deps: Deps, name: str, reason: str) -> views.Run:
    """Request the cancellation of the run. Raises NotFoundError, ConflictError when it has finished."""
    with deps.store.write() as session:
        row = runs.get(session, name)
        if row.state in FINISHED:
            raise errors.ConflictError(f"run {name} has finished already: {row.state}")
        pending = cloudevents.enqueue(session, events.RunCancelRequested(run=name, reason=reason or "cancelled by request"))
    cloudevents.relay(deps.store, deps.publisher, pending)
    return get(deps, name)


def decide(deps: Deps, name: str, step: str | None, decision: approval.Decision, *, by: str, comment: str) -> views.Run:
    """Record the decision on a waiting step. Raises NotFoundError, ConflictError when no step waits for it, InvalidError when several steps
    wait and none is named.
    """
    with deps.store.write() as session:
        pending = cloudevents.enqueue(
            session, lifecycle.record_decision(session, runs.get(session, name), step, decision, by=by, comment=comment)
        )
    cloudevents.relay(deps.store, deps.publisher, pending)
    return get(deps, name)


def request(deps: Deps, requested: events.RunRequested) -> str:
    """Request a run. Returns the id of the request, which the run will record.

    The commit is fixed now, so that the run does not depend on the time at which the request is read. Raises NotFoundError, ConflictError,
    InvalidError, UnresolvedError when the run is impossible.
    """
    requested = requested.model_copy(update={"request": uuid.uuid4().hex})
    with deps.store.read() as session:
        spec = requests.run_spec(session, requested)
        placement = planner.Placement(deps.zone, deps.namespace, deps.tracking_url, artifactstores.facts)
        requests.check(session, requested, spec, placement)
    if requested.action == "start":
        requested = requested.model_copy(update={"commit": spec.commit})
    with deps.store.write() as session:
        pending = cloudevents.enqueue(session, requested)
    cloudevents.relay(deps.store, deps.publisher, pending)
    return requested.request


def original(deps: Deps, filters: Mapping[str, str | None], status: str | None) -> list[views.OriginalRun]:
    """Runs in the original's shape. An unknown workflow gives an empty list, as there."""
    with deps.store.read() as session:
        rows = runs.page(session, paging.Page(_ORIGINAL_LIMIT), **filters).rows
        urls = {f"{row.project}/{row.name}": row.url for row in codesets.all_codesets(session)}
        documents: dict[tuple[str, int], Workflow] = {}
        originals: list[views.OriginalRun] = []
        for row in rows:
            key = (row.workflow, row.revision)
            if key not in documents:
                stored = workflows.stored_revision(session, *key)
                documents[key] = Workflow.model_validate(stored.document)
            originals.append(views.original(row, documents[key], f"{deps.public_url}/runs/{row.name}", urls))
    return [item for item in originals if not status or item.status == status]
