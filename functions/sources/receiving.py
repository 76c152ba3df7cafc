"""Events: a push to a codeset with sources, and the tick that looks at every source again after a while.

An event says only that it is time: a source is always brought to its newest commit. Events may therefore be repeated, late or out of order, and
the tick makes up for lost ones. Of two looks at once one is settled, and the other begins anew.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from typing import Literal

import sqlmodel

from functions.sources import reading, service, settling
from functions.sources.deps import Deps
from fuseml.domain import errors, events
from fuseml.runtime import clock
from fuseml.store import decisions, sources

_log = logging.getLogger("fuseml.sources")

# A tick begins no further look after so many seconds; a look at a repository elsewhere is cut off after some.
_SECONDS = 12.0
_SECONDS_EACH = 8.0


def look_at_push(deps: Deps, event: events.Event) -> Sequence[reading.Look]:
    """Read the sources on the pushed branch. Raises TemporaryError while the git host is away: the event then comes again."""
    push = events.CodesetPushed.model_validate(event.data)
    with deps.store.read() as session:
        rows = [row for row in sources.of_codeset(session, push.project, push.codeset) if reading.ref_of(session, row) == push.ref]
    looks = [reading.look(deps, row) for row in rows]
    away = next((look for look in looks if look.temporary), None)
    if away is not None:
        raise errors.TemporaryError(away.problem)
    return looks


def settle_push(deps: Deps, session: sqlmodel.Session, event: events.Event, looks: Sequence[reading.Look]) -> Sequence[events.Payload]:
    """Apply the looks; each result is a decision on the event. Raises TemporaryError where a source was settled meanwhile."""
    payloads: list[events.Payload] = []
    for look in looks:
        row = sources.find(session, look.name)
        if row is None:
            continue
        if not settling.is_current(session, look):
            raise errors.TemporaryError(f"the source {look.name} was reconciled meanwhile")
        payloads += settling.settle(deps, session, row, look, adopt=False)
        outcome = f"is at {row.commit[:12]}" if row.state == "synced" else f"was not applied: {row.message}"
        reason = f"the source {row.name} {outcome}"
        kind: Literal["applied", "refused"] = "applied" if row.state == "synced" else "refused"
        decisions.record(session, event, reason, clock.now(), commit=look.commit or None, outcome=kind)
    return payloads


def on_tick(deps: Deps, event: events.Event) -> None:
    """Look at the sources that are due. A tick from any sender is only a hint: it makes no source due."""
    if event.type != events.TICK:
        return
    earliest = clock.ago(deps.interval)
    with deps.store.read() as session:
        due = [row for row in sources.listed(session) if row.checked <= earliest]
    # In another order each time: time does not always run out for the same ones.
    random.shuffle(due)
    deadline = time.monotonic() + _SECONDS
    for row in due:
        if time.monotonic() > deadline:
            break
        _visit(deps, row, event)


def _visit(deps: Deps, row: sources.Source, event: events.Event) -> None:
    subject = f"the source {row.name}"
    try:
        if _is_done(deps, row):
            with deps.store.write() as session:
                stored = sources.find(session, row.name)
                if stored is not None and stored.generation == row.generation:
                    stored.checked = clock.now()
                    sources.save(session, stored)
        else:
            row = service.reconcile(deps, row.name, cause=(event.source, event.id), seconds=_SECONDS_EACH)
    except errors.NotFoundError as error:
        # The source was removed meanwhile.
        _log.info("%s: %s", subject, error.message)
        return
    except errors.FusemlError as error:
        deps.conditions.fault(_log, subject, error.message)
        return
    except Exception:
        # The other sources are looked at nevertheless.
        _log.exception("%s could not be looked at", subject)
        return
    if row.state == "unreadable":
        deps.conditions.fault(_log, subject, row.message)
    else:
        deps.conditions.well(_log, subject)


def _is_done(deps: Deps, row: sources.Source) -> bool:
    """Whether the newest commit is the one that was applied, or refused for faults of its files."""
    if row.state != "synced" and not settling.is_final(row):
        return False
    try:
        return reading.head(deps, row, seconds=_SECONDS_EACH) == row.seen
    except errors.FusemlError:
        # The look fails as well, and then the fault is its result.
        return False
