"""Publication of pushes whose webhook was lost, once each: a late webhook is then a duplicate (domain.pushes).

A host with a record of its pushes (`githosts.GitHost.pushes`) loses none. Of any other host, and of refs that moved by a way without a record,
a push is published for each branch and tag that is at another commit than the known pushes lead to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml import githosts
from fuseml.domain import errors, events, pushes
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, deliveries, moves


def publish_missed_pushes(deps: Deps, tick: events.Event) -> None:
    """Publish the pushes of the git host whose webhook was lost."""
    with deps.store.read() as session:
        newest = moves.newest(session)
        registered = [(row, codesets.commits(session, row.project, row.name)) for row in codesets.all_codesets(session)]
    for row, known in registered:
        try:
            # The heads first: each of their moves is then in the record.
            heads = deps.git.heads(row.project, row.name)
            position = _publish_record(deps, row, tick)
        except errors.NotFoundError:
            continue  # the repository is being created or was just deleted
        moved = [ref for ref in sorted(heads.keys() | known.keys()) if heads.get(ref) != known.get(ref)]
        if moved and position is not None:
            _publish_unrecorded(deps, row, {ref: heads.get(ref) for ref in moved}, newest, tick)


def _publish_record(deps: Deps, codeset: codesets.Codeset, tick: events.Event) -> int | None:
    """Publish the missed pushes of the host's record. Returns the position after it; None for a codeset that is deleted since."""
    position = codeset.pushes_seen
    while True:
        recorded, reached = deps.git.pushes(codeset.project, codeset.name, position)
        if reached == position:
            return position
        payloads = [_payload(deps, codeset, push) for push in recorded]
        with deps.store.write() as session:
            row = _still_registered(session, codeset)
            if row is None:
                return None
            moment = clock.now()
            codesets.record_position(session, row, reached)
            missed = [push for payload in payloads for push in _missed(session, row, payload, moment)]
            enqueued = cloudevents.enqueue(session, *missed, cause=(tick.source, tick.id))
        cloudevents.relay(deps.store, deps.publisher, enqueued)
        position = reached


def _missed(
    session: sqlmodel.Session, codeset: codesets.Codeset, payload: events.CodesetPushed, moment: str
) -> Sequence[events.CodesetPushed]:
    if payload.push:
        return moves.take(session, codeset, payload, "", moment).published
    # Without an id: of Gitea's feed, or a line of a former release, whose events are known by their commit.
    if deliveries.is_known(session, events.event(payload, moment)):
        return ()
    found = moves.find(session, codeset, payload, moment)
    return (found,) if found is not None else ()


def _publish_unrecorded(deps: Deps, codeset: codesets.Codeset, seen: Mapping[str, str | None], newest: int, tick: events.Event) -> None:
    """Publish a push of each ref that is where no known push has led."""
    with deps.store.write() as session:
        row = _still_registered(session, codeset)
        if row is None:
            return
        # A ref with a newer move is left to the next tick: the head was seen before it.
        quiet = [ref for ref in seen if not moves.has_moved(session, row, ref, newest)]
        moment = clock.now()
        observed = [moves.observe(session, row, ref, seen[ref], moment) for ref in quiet]
        enqueued = cloudevents.enqueue(session, *(push for push in observed if push), cause=(tick.source, tick.id))
    cloudevents.relay(deps.store, deps.publisher, enqueued)


def _still_registered(session: sqlmodel.Session, codeset: codesets.Codeset) -> codesets.Codeset | None:
    row = codesets.find_codeset(session, codeset.project, codeset.name)
    return row if row is not None and row.created == codeset.created else None


def _payload(deps: Deps, codeset: codesets.Codeset, push: githosts.Push) -> events.CodesetPushed:
    changed = deps.git.changed_paths(codeset.project, codeset.name, push.before, push.commit) if push.before else None
    return events.CodesetPushed(
        project=codeset.project,
        codeset=codeset.name,
        ref=push.ref,
        before=push.before,
        commit=push.commit,
        paths=pushes.bounded(changed),
        pusher=push.pusher,
        registered=codeset.created,
        push=push.delivery,
    )
