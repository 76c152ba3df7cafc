"""Publication of pushes whose webhook was lost, as the same events.

Their ids are derived from their data, so a late webhook is a duplicate. A host with a record of its pushes (`githosts.GitHost.pushes`) loses
none; for any other host the newest commit of each branch and tag is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml import githosts
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, deliveries, outbox


def publish_missed_pushes(deps: Deps, tick: events.Event) -> None:
    """Publish the pushes of the git host whose webhook was lost."""
    with deps.store.read() as session:
        registered = [(row, codesets.commits(session, row.project, row.name)) for row in codesets.all_codesets(session)]
    for row, published in registered:
        try:
            recorded, position = deps.git.pushes(row.project, row.name, row.pushes_seen)
            heads = deps.git.heads(row.project, row.name)
        except errors.NotFoundError:
            continue  # the repository is being created or was just deleted
        moved = [ref for ref, commit in sorted(heads.items()) if published.get(ref) != commit]
        reported = {(push.ref, push.commit) for push in recorded}
        # The current commit of a ref is published too: it may have come by a way without a record.
        newest = [githosts.Push(ref, published.get(ref), heads[ref], "") for ref in moved if (ref, heads[ref]) not in reported]
        if moved or position != row.pushes_seen:
            missed = list(_payloads(deps, row, [*recorded, *newest]))
            with deps.store.write() as session:
                enqueued = _enqueue(session, row, missed, {ref: heads[ref] for ref in moved}, position, tick)
            cloudevents.relay(deps.store, deps.publisher, enqueued)


def _enqueue(
    session: sqlmodel.Session,
    codeset: codesets.Codeset,
    missed: Sequence[events.CodesetPushed],
    moved: dict[str, str],
    position: int,
    tick: events.Event,
) -> list[outbox.PendingEvent]:
    row = codesets.find_codeset(session, codeset.project, codeset.name)
    if row is None or row.created != codeset.created:
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
