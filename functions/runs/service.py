"""Use cases of `runs`."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Mapping
from typing import Any

from functions.runs import settlement, views
from functions.runs.deps import Deps
from fuseml import contents, engines
from fuseml.domain import errors, events
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED, approval
from fuseml.domain.workflows import Workflow
from fuseml.runtime import cloudevents, http
from fuseml.store import archive, codesets, paging, runs, workflows
from fuseml.usecases import lifecycle, planner, requests

_ORIGINAL_LIMIT = 500
_LOG_CHUNK = 1 << 20


def page(deps: Deps, limit: int, cursor: str | None, filters: Mapping[str, str | None]) -> http.Listed[views.Run]:
    """A page of runs, newest first."""
    with deps.store.read() as session:
        found = runs.page(session, paging.Page(limit, cursor), **filters)
        steps = itertools.groupby(runs.steps(session, [row.id for row in found.rows]), key=lambda step: step.run_id)
        by_run = {run_id: list(group) for run_id, group in steps}
        waits = runs.waits_for(session, found.rows)
        over = settlement.settled(session, found.rows, by_run)
    shown = [views.of(row, by_run.get(row.id, []), waits.get(row.id), settled=row.id in over) for row in found.rows]
    return http.Listed(shown, found.next_cursor)


def get(deps: Deps, name: str) -> views.Run:
    """Raises NotFoundError."""
    with deps.store.read() as session:
        row = runs.get(session, name)
        steps = runs.steps(session, [row.id])
        over = settlement.settled(session, [row], {row.id: steps})
        return views.of(row, steps, runs.waits_for(session, [row]).get(row.id), settled=row.id in over)


def plan(deps: Deps, name: str) -> dict[str, Any]:
    """The stored plan. Raises NotFoundError when the run has none: it failed before it was planned."""
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
        return log(deps, executed_by, step, offset)
    archived = steps[step].archived
    if archived is not None:
        return _kept(deps.contents, archived, offset)
    over = steps[step].state in FINISHED
    if steps[step].execution:
        with contextlib.suppress(errors.NotFoundError):
            return deps.engine.logs(identity.execution_id(row.id, steps[step].execution), step, offset)
    # Nothing was written yet, or ever will be; or it is lost.
    lost = over and steps[step].execution and steps[step].started
    return _gone(offset) if lost else engines.LogChunk(b"", offset, complete=over)


def _kept(kept: contents.Contents | None, key: str, offset: int) -> engines.LogChunk:
    if kept is None or key == archive.NOWHERE:
        return _gone(offset)
    try:
        found = b"".join(kept.get(key, offset, _LOG_CHUNK + 1))
    except errors.NotFoundError:
        return _gone(offset)
    data = found[:_LOG_CHUNK]
    return engines.LogChunk(data, offset + len(data), complete=data == found)


def _gone(offset: int) -> engines.LogChunk:
    # Who has read a part of it is told nothing in the middle.
    data = b"" if offset else b"fuseml: the log of this step is kept no longer\n"
    return engines.LogChunk(data, offset + len(data), complete=True)


def cancel(deps: Deps, name: str, reason: str) -> views.Run:
    """Ask for the run to be stopped. Raises NotFoundError, ConflictError when it has finished."""
    with deps.store.write() as session:
        row = runs.get(session, name)
        if row.state in FINISHED:
            raise errors.ConflictError(f"run {name} has finished already: {row.state}")
        announced = cloudevents.enqueue(session, events.RunCancelRequested(run=name, reason=reason or "cancelled by request"))
    cloudevents.relay(deps.store, deps.publisher, announced)
    return get(deps, name)


def answer(deps: Deps, name: str, step: str | None, decision: approval.Decision, *, by: str, comment: str) -> views.Run:
    """Record who approves or rejects a step that waits, and why. Raises NotFoundError, ConflictError when nothing waits for it,
    InvalidError when several steps wait and none is named.
    """
    with deps.store.write() as session:
        announced = cloudevents.enqueue(
            session, lifecycle.record_decision(session, runs.get(session, name), step, decision, by=by, comment=comment)
        )
    cloudevents.relay(deps.store, deps.publisher, announced)
    return get(deps, name)


def request(deps: Deps, wish: events.RunRequested) -> str:
    """Ask for a run; the id of the request, which the run will carry.

    The commit is fixed now: what runs does not depend on when the request is read. Raises NotFoundError, ConflictError, InvalidError,
    UnresolvedError when there is nothing to run.
    """
    asked = wish.model_copy(update={"request": uuid.uuid4().hex})
    with deps.store.read() as session:
        spec = requests.run_spec(session, asked)
        requests.check(session, asked, spec, planner.Placement(deps.zone, deps.namespace))
    if asked.action == "start":
        asked = asked.model_copy(update={"commit": spec.commit})
    with deps.store.write() as session:
        announced = cloudevents.enqueue(session, asked)
    cloudevents.relay(deps.store, deps.publisher, announced)
    return asked.request


def original(deps: Deps, filters: Mapping[str, str | None], status: str | None) -> list[views.OriginalRun]:
    """Runs in the original's shape. An unknown workflow gives an empty list, as there."""
    with deps.store.read() as session:
        rows = runs.page(session, paging.Page(_ORIGINAL_LIMIT), **filters).rows
        urls = {f"{row.project}/{row.name}": row.url for row in codesets.all_codesets(session)}
        documents: dict[tuple[str, int], Workflow] = {}
        shown: list[views.OriginalRun] = []
        for row in rows:
            key = (row.workflow, row.revision)
            if key not in documents:
                stored = workflows.stored_revision(session, *key)
                documents[key] = Workflow.model_validate(stored.document)
            shown.append(views.original(row, documents[key], f"{deps.public_url}/runs/{row.name}", urls))
    return [item for item in shown if not status or item.status == status]
