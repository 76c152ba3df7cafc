"""Codesets that are copies: each follows its origin when the host there reports a change, and after a while anyway.

The copy moves by pushes to the codeset's own git host, so each move is recorded, judged and published like a person's push, also force pushes and
deletions. A synchronisation that was interrupted is completed by the next one, which only looks at both repositories.
"""

from __future__ import annotations

import logging
import time

from functions.housekeeper.deps import Deps
from fuseml.domain import errors, events, inert_text, origins
from fuseml.githosts.origins import copying
from fuseml.githosts.snapshots import Account
from fuseml.runtime import clock
from fuseml.store import codesets
from fuseml.store import origins as stored
from fuseml.usecases import git_access
from fuseml.usecases import origins as usecase

_log = logging.getLogger("fuseml.housekeeper")

# One synchronisation takes at most so long; a sweep begins no further one after some seconds, because other repairs wait.
_SECONDS_EACH = 40.0
_SECONDS = 12.0
_MOST = 100
_PROBLEM = 500


def follow_reported(deps: Deps, event: events.Event) -> None:
    """Synchronise the codeset of a `codeset.reported`. A fault is recorded, and the sweep tries again."""
    report = events.CodesetReported.model_validate(event.data)
    with deps.store.read() as session:
        row = stored.find(session, report.project, report.codeset)
    if row is not None:
        _follow(deps, row)


def follow_origins(deps: Deps, _tick: events.Event) -> None:
    """Synchronise the codesets that are due."""
    deadline = time.monotonic() + _SECONDS
    with deps.store.read() as session:
        rows = stored.due(session, clock.now(), _MOST)
    for row in rows:
        if time.monotonic() > deadline:
            break
        _follow(deps, row)


def _follow(deps: Deps, row: stored.CodesetOrigin) -> None:
    subject = f"the origin of {row.project}/{row.codeset}"
    begun, problem = clock.now(), ""
    try:
        problem = _synchronise(deps, row)
    except errors.FusemlError as error:
        problem = error.message
    except Exception:
        # The other origins are followed nevertheless.
        _log.exception("%s could not be followed", subject)
        problem = "the synchronisation failed by a defect; the log of the server has its traceback"
    _settle(deps, row, begun, inert_text.visible(problem)[:_PROBLEM])
    if problem:
        deps.conditions.fault(_log, subject, problem)
    else:
        deps.conditions.well(_log, subject)


def _synchronise(deps: Deps, row: stored.CodesetOrigin) -> str:
    """Returns the problem that the synchronisation left; empty without one."""
    with deps.store.read() as session:
        codeset = codesets.codeset(session, row.project, row.codeset)
        account = usecase.account(session, deps.keyring, row, deps.zone)
    password = git_access.password(deps.keyring, codeset)
    # Again each time: the account of the codeset may have been lost with its host.
    username = deps.git.grant_push(row.project, row.codeset, password)
    outcome = copying.copy(
        copying.Place(row.url, Account(account.username, account.password)),
        copying.Place(deps.git.clone_url(row.project, row.codeset), Account(username, password)),
        seconds=_SECONDS_EACH,
    )
    if outcome.refused:
        ref, reason = next(iter(sorted(outcome.refused.items())))
        return f"the codeset's git host refuses {ref}: {reason}" + (
            f" (and {len(outcome.refused) - 1} more)" if len(outcome.refused) > 1 else ""
        )
    return f"the origin has no {outcome.kept} any more; the codeset keeps it, because it is its default branch" if outcome.kept else ""


def _settle(deps: Deps, row: stored.CodesetOrigin, begun: str, problem: str) -> None:
    with deps.store.write() as session:
        present = stored.find(session, row.project, row.codeset)
        if present is None or present.created != row.created:
            return
        present.failures = present.failures + 1 if problem else 0
        present.checked, present.problem = clock.now(), problem
        if not problem:
            present.synced = present.checked
        # A report that came meanwhile has made it due again.
        if present.due <= begun:
            present.due = clock.ahead(origins.pause(present.failures, deps.origin_interval))
        stored.save(session, present)
