"""Commit statuses: each run on a commit shows its state at the commit's git host.

The events of a run only say that it is time: the status is read from the stored run. It waits in the database until the host has it, so that a
host that is away delays nothing and loses nothing; after some attempts it is given up, with the cause.
"""

from __future__ import annotations

import logging
import time

from functions.housekeeper.deps import Deps
from fuseml.domain import commit_statuses, errors, events, inert_text
from fuseml.runtime import clock
from fuseml.store import codesets, origins, runs
from fuseml.store import commit_statuses as stored
from fuseml.usecases import origins as usecase

_log = logging.getLogger("fuseml.housekeeper")

# More than a host may take for one status.
_CLAIM = 60
_SECONDS = 12.0
_MOST = 100
_KEPT_DAYS = 30
_PROBLEM = 300
RUN_EVENTS = (events.RunCreated.TYPE, events.RunStarted.TYPE, events.RunFinished.TYPE)


def report_run(deps: Deps, event: events.Event) -> None:
    """Note the present status of an event's run, and send it. Raises the errors of the note only: the event then comes again."""
    key = _note(deps, str(event.data.get("run") or event.subject or ""))
    if key is not None:
        _send(deps, key)


def send_statuses(deps: Deps, _tick: events.Event) -> None:
    """Send the statuses that are due, and forget old ones."""
    deadline = time.monotonic() + _SECONDS
    with deps.store.read() as session:
        waiting = [stored.key(row) for row in stored.due(session, clock.now(), _MOST)]
    for key in waiting:
        if time.monotonic() > deadline:
            break
        _send(deps, key)
    with deps.store.write() as session:
        stored.forget(session, clock.ago(_KEPT_DAYS * 86_400))


def _note(deps: Deps, name: str) -> stored.Key | None:
    """The key of the run's status, if it is to be sent."""
    with deps.store.read() as session:
        run = runs.find_named(session, name)
        if run is None or run.codeset is None or run.commit is None or codesets.find_codeset(session, run.project, run.codeset) is None:
            return None
        origin = origins.find(session, run.project, run.codeset)
        is_shown = deps.git.shows_statuses if origin is None else origin.host != "git"
        if not is_shown:
            return None
        status = commit_statuses.of_run(run.project, run.workflow, run.name, run.state, run.cause, deps.public_url)
    row = stored.CommitStatus(
        project=run.project,
        codeset=run.codeset,
        commit=run.commit,
        context=status.context,
        run=run.name,
        sequence=run.sequence,
        state=status.state,
        description=status.description,
        target_url=status.target_url,
        due=clock.now(),
        updated=clock.now(),
    )
    key = stored.key(row)
    with deps.store.write() as session:
        return key if stored.put(session, row) else None


def _send(deps: Deps, key: stored.Key) -> None:
    """Send a status, unless another process does; and the newer one that came meanwhile."""
    while True:
        with deps.store.write() as session:
            row = stored.claim(session, key, clock.now(), clock.ahead(_CLAIM))
        if row is None:
            return
        problem, due = _attempt(deps, row)
        with deps.store.write() as session:
            stored.settle(session, key, row, problem=problem, due=due)
            present = stored.find(session, key)
            is_newer = present is not None and not present.sent and (present.sequence, present.state) != (row.sequence, row.state)
        if not is_newer:
            return


def _attempt(deps: Deps, row: stored.CommitStatus) -> tuple[str, str | None]:
    """The problem of the attempt, and the time of the next one; both are empty for a status that its host has."""
    subject = f"the commit statuses of {row.project}/{row.codeset}"
    state: commit_statuses.State = row.state  # type: ignore[assignment]  # a column of text
    status = commit_statuses.Status(row.context, state, row.description, row.target_url)
    try:
        _deliver(deps, row, status)
    except Exception as error:
        if not isinstance(error, errors.FusemlError):
            # A defect must not keep the event, or the other statuses, for ever.
            _log.exception("%s could not be sent", subject)
            error = errors.TemporaryError(f"the status could not be sent ({type(error).__name__})")
        # A host's answer to the status itself stays the same.
        pause = None if isinstance(error, errors.InvalidError) else commit_statuses.pause(row.attempts + 1)
        problem = inert_text.visible(error.message)[:_PROBLEM]
        deps.conditions.fault(_log, subject, problem if pause else f"{problem}; it is given up")
        return problem, clock.ahead(pause) if pause else None
    deps.conditions.well(_log, subject)
    return "", None


def _deliver(deps: Deps, row: stored.CommitStatus, status: commit_statuses.Status) -> None:
    with deps.store.read() as session:
        origin = origins.find(session, row.project, row.codeset)
        account = usecase.account(session, deps.keyring, origin, deps.zone) if origin is not None else None
    if origin is None or account is None:
        deps.git.set_status(row.project, row.codeset, row.commit, status)
        return
    host = deps.origin_hosts(usecase.of_row(origin), account.password)
    if host is None:
        raise errors.InvalidError(f"the host of {origin.url} shows no commit statuses")
    if not account.password:
        raise errors.PermanentError(f"the git host of {origin.url} is not registered with a token, so that it takes no commit status")
    host.set_status(row.commit, status)
