"""Recovery of pushes whose webhook was lost: they are published as the same events.

Ids of events are derived from their content, so a late webhook is a duplicate. A host with a record of its pushes
(`githosts.GitHost.pushes`) loses none; for other hosts, the newest commit of each branch and tag is recovered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlmodel

from functions.housekeeper.deps import Deps
from fuseml import githosts
from fuseml.domain import errors, events
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, deliveries, outbox


def report_missed_pushes(deps: Deps, tick: events.Event) -> None:
    """Publish the pushes of the git host that no webhook has reported."""
    with deps.store.read() as session:
        rows = [(row, codesets.announced(session, row.project, row.name)) for row in codesets.all_codesets(session)]
    for row, reported in rows:
        try:
            recorded, position = deps.git.pushes(row.project, row.name, row.pushes_seen)
            heads = deps.git.heads(row.project, row.name)
        except errors.NotFoundError:
            continue  # the repository is being created or was just deleted
        moved = [ref for ref, commit in sorted(heads.items()) if reported.get(ref) != commit]
        recorded_commits = {(push.ref, push.commit) for push in recorded}
        # The present commit of a ref was pushed, too, even if the host did not record it.
        newest = [githosts.Push(ref, reported.get(ref), heads[ref], "") for ref in moved if (ref, heads[ref]) not in recorded_commits]
        if moved or position != row.pushes_seen:
            missed = list(_payloads(deps, row, [*recorded, *newest]))
            with deps.store.write() as session:
                pending = _enqueue(session, row, missed, {ref: heads[ref] for ref in moved}, position, tick)
            cloudevents.relay(deps.store, deps.publisher, pending)


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
        codesets.announce(session, row, ref, commit, moment)
    new = [payload for payload in missed if not deliveries.is_known(session, events.event(payload, moment))]
    return cloudevents.enqueue(session, *new, cause=(tick.source, tick.id))


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
