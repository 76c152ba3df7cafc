"""The end of a look at a source: its items are applied, and the result is stored and published, in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import sqlmodel

from functions.sources import applying, reading
from functions.sources.deps import Deps
from fuseml.domain import events, inert_text
from fuseml.domain.sources.refusals import Refusal
from fuseml.runtime import clock
from fuseml.store import sources
from fuseml.version import __version__

_SHOWN_CHANGES = 200
_REASON = 500
# In a stored refusal: the version that has found the fault in the files themselves; another version may read them otherwise.
_JUDGED = "judged"


def is_current(session: sqlmodel.Session, look: reading.Look) -> bool:
    """Whether nothing else was settled since the look began. A look that is no more current may be one at an older commit."""
    row = sources.find(session, look.name)
    return row is not None and row.generation == look.generation


def settle(deps: Deps, session: sqlmodel.Session, row: sources.Source, look: reading.Look, *, adopt: bool) -> Sequence[events.Payload]:
    """Apply a current look. Returns the events to publish: none where a repeated look finds what the last one has found."""
    before = (row.state, row.message, row.commit, row.seen)
    row.generation += 1
    row.checked = clock.now()
    if look.problem:
        row.state, row.message = "unreadable", inert_text.visible(look.problem[:_REASON])
        sources.save(session, row)
        return []
    if not look.commit:
        row.state, row.message, row.refusals = "waiting", "nothing was pushed to it yet", []
        sources.save(session, row)
        return []
    applied = applying.apply(deps, session, row, look.declared, adopt=adopt)
    judged = __version__ if look.declared.refusals else ""
    row.seen = look.commit
    row.refusals = [{**dataclasses.asdict(refusal), _JUDGED: judged} for refusal in applied.refusals]
    if applied.refusals:
        row.state, row.message = "refused", reason(applied.refusals)
        news: list[events.Payload] = [events.SourceRefused(name=row.name, commit=look.commit, reason=row.message)]
    else:
        row.state, row.message, row.commit, row.synced = "synced", "", look.commit, row.checked
        news = [
            events.SourceSynced(
                name=row.name,
                commit=look.commit,
                created=applied.count("created", "adopted"),
                updated=applied.count("updated"),
                deleted=applied.count("deleted", "released"),
            )
        ]
        if applied.changes:
            row.changes = [dataclasses.asdict(change) for change in applied.changes[:_SHOWN_CHANGES]]
    sources.save(session, row)
    is_new = bool(applied.changes) or (row.state, row.message, row.commit, row.seen) != before
    return [*applied.payloads, *(news if is_new else [])]


def is_final(row: sources.Source) -> bool:
    """Whether this version of FuseML has refused the files at `seen` for faults of their own, which only another commit can mend."""
    return row.state == "refused" and bool(row.refusals) and all(item.get(_JUDGED) == __version__ for item in row.refusals)


def reason(refusals: Sequence[Refusal]) -> str:
    """The first refusal, and the number of the others."""
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return f"{str(refusals[0])[: _REASON - 20]}{more}"
