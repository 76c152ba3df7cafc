"""Make everything equal to what a source declares, inside one transaction: all of it, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds import KINDS
from fuseml.domain import errors, events
from fuseml.domain.sources import files, ownership
from fuseml.domain.sources.refusals import Refusal, cut
from fuseml.store import sources

_EMBEDDED_RECORD: ownership.Key = ("extension", "fuseml")

Effect = Literal["created", "updated", "deleted", "adopted", "released"]


@dataclass(frozen=True, slots=True)
class Change:
    """The change of an item. `by_hand`: it was changed or deleted by hand since the source has made it, and the change undoes that."""

    kind: str
    name: str
    effect: Effect
    file: str
    fields: Sequence[str] = ()
    by_hand: bool = False


@dataclass
class Applied:
    """The changes with their events or, with a refusal, what speaks against all of them."""

    changes: list[Change] = field(default_factory=list)
    payloads: list[events.Payload] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def count(self, *effects: Effect) -> int:
        """The number of changes with one of the effects."""
        return sum(change.effect in effects for change in self.changes)


class _Undone(Exception):
    """Leaves a savepoint."""


def apply(
    deps: Deps, session: sqlmodel.Session, row: sources.Source, declared: files.Declared, *, adopt: bool, keep: bool = True
) -> Applied:
    """Apply what the source declares. With a refusal, and without `keep`, nothing of it stays."""
    if declared.refusals:
        return Applied(refusals=list(declared.refusals))
    applied = Applied()
    with contextlib.suppress(_Undone), session.begin_nested():
        _execute(deps, session, row, {(item.kind, item.name): item for item in declared.items}, applied, adopt=adopt)
        session.flush()
        if applied.refusals or not keep:
            raise _Undone
    applied.refusals = cut(applied.refusals)
    if applied.refusals:
        applied.changes, applied.payloads = [], []
    return applied


def _execute(
    deps: Deps,
    session: sqlmodel.Session,
    row: sources.Source,
    items: Mapping[ownership.Key, files.Item],
    applied: Applied,
    *,
    adopt: bool,
) -> None:
    rows = sources.owners(session, row.name, items)
    prints = _prints(session, {*items, *rows})
    decision = ownership.decide(
        row.name,
        items.keys(),
        prints.keys(),
        {key: ownership.Owner(item.source, item.adopted) for key, item in rows.items()},
        reserved=_reserved(session),
        adopt=adopt,
    )
    for key, reason in decision.refusals.items():
        applied.refusals += items[key].refuse(errors.ConflictError(reason))
    for step in decision.steps:
        owner = rows.get(step.key)
        by_hand = owner is not None and owner.fingerprint != prints.get(step.key)
        file = items[step.key].file if step.key in items else owner.file if owner else ""
        try:
            change = _step(deps, session, row, step, items.get(step.key), applied, before=prints.get(step.key), by_hand=by_hand, file=file)
        except errors.PermanentError as error:
            applied.refusals += items[step.key].refuse(error) if step.key in items else [Refusal(file, error.message)]
            continue
        if change is not None:
            applied.changes.append(change)


def _reserved(session: sqlmodel.Session) -> set[ownership.Key]:
    """The server's own record, and those with the addresses and accounts of sources."""
    return {_EMBEDDED_RECORD, *(("extension", item.name) for item in sources.listed(session) if not item.codeset)}


def _step(
    deps: Deps,
    session: sqlmodel.Session,
    row: sources.Source,
    step: ownership.Step,
    item: files.Item | None,
    applied: Applied,
    *,
    before: str | None,
    by_hand: bool,
    file: str,
) -> Change | None:
    (kind, name), operations = step.key, KINDS[step.key[0]]
    if item is not None:
        put = operations.put(deps, session, item.value)
        applied.payloads += put.payloads
        left = before if put.effect == "unchanged" else operations.fingerprints(session, [name]).get(name)
        sources.own(session, row, step.key, adopted=step.action == "adopt", fingerprint=left or "", file=file)
        effect: Effect | None = "adopted" if step.action == "adopt" else put.effect if put.effect != "unchanged" else None
        return Change(kind, name, effect, file, put.fields, by_hand) if effect else None
    sources.disown(session, step.key)
    if step.action == "delete":
        applied.payloads += operations.remove(deps, session, name)
        return Change(kind, name, "deleted", file, by_hand=by_hand)
    return Change(kind, name, "released", file) if step.action == "release" else None


def drifted(session: sqlmodel.Session, row: sources.Source) -> list[sources.SourceItem]:
    """The items that were changed or deleted by hand since the source has made them."""
    items = {(_kind(item), item.name): item for item in sources.items(session, row.name)}
    prints = _prints(session, items)
    return [item for key, item in items.items() if prints.get(key) != item.fingerprint]


def _prints(session: sqlmodel.Session, keys: Collection[ownership.Key]) -> Mapping[ownership.Key, str]:
    """The fingerprints of the items that exist."""
    names = {kind: [name for other, name in keys if other == kind] for kind in files.KINDS}
    return {(kind, name): found for kind in names for name, found in KINDS[kind].fingerprints(session, names[kind]).items()}


def _kind(item: sources.SourceItem) -> files.Kind:
    kinds: Mapping[str, files.Kind] = {kind: kind for kind in files.KINDS}
    return kinds[item.kind]
