"""Pushes whose webhook was lost: told again, as the events that the webhooks would have become.

Their ids follow from what they say, so a webhook that is only late is a duplicate. A host that keeps a record of its pushes
(`githosts.GitHost.pushes`) lets none get lost; of any other the newest commit of each branch and tag is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml import githosts
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, deliveries, outbox


def announce_missed_pushes(deps: Deps, tick: events.Event) -> None:
    """What the git host knows and nobody was told."""
    with deps.store.read() as session:
        known = [(row, codesets.commits(session, row.project, row.name)) for row in codesets.all_codesets(session)]
    for row, announced in known:
        try:
            recorded, position = deps.git.pushes(row.project, row.name, row.pushes_seen)
            heads = deps.git.heads(row.project, row.name)
        except errors.NotFoundError:
            continue  # the repository is being made or was just deleted
        moved = [ref for ref, commit in sorted(heads.items()) if announced.get(ref) != commit]
        told = {(push.ref, push.commit) for push in recorded}
        # Where a ref is now was pushed as well, also by means that leave no record.
        newest = [githosts.Push(ref, announced.get(ref), heads[ref], "") for ref in moved if (ref, heads[ref]) not in told]
        if moved or position != row.pushes_seen:
            missed = list(_payloads(deps, row, [*recorded, *newest]))
            with deps.store.write() as session:
                announced_now = _announce(session, row, missed, {ref: heads[ref] for ref in moved}, position, tick)
            cloudevents.relay(deps.store, deps.publisher, announced_now)


def _announce(
    session: sqlmodel.Session,
    known: codesets.Codeset,
    missed: Sequence[events.CodesetPushed],
    moved: dict[str, str],
    position: int,
    tick: events.Event,
) -> list[outbox.PendingEvent]:
    row = codesets.find_codeset(session, known.project, known.name)
    if row is None or row.created != known.created:
        return []  # deleted since
    codesets.record_position(session, row, position)
    moment = clock.now()
    for ref, commit in moved.items():
        codesets.record_commit(session, row, ref, commit, moment)
    fresh = [payload for payload in missed if not deliveries.is_known(session, events.event(payload, moment))]
    return cloudevents.enqueue(session, *fresh, cause=(tick.source, tick.id))


def _payloads(deps: Deps, row: codesets.Codeset, pushes: Sequence[githosts.Push]) -> Iterator[events.CodesetPushed]:
    for push in pushes:
        branch = push.ref.startswith("refs/heads/")
        yield events.CodesetPushed(
            project=row.project,
            codeset=row.name,
            ref=push.ref,
            before=push.before,
            commit=push.commit,
            paths=deps.git.changed_paths(row.project, row.name, push.before, push.commit) if push.before and branch else None,
            pusher=push.pusher,
            registered=row.created,
        )
