"""Sources, and the items that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors
from fuseml.domain.sources import files, ownership
from fuseml.store.tables.source_rows import Source, SourceItem

_BATCH = 100


def get(session: Session, name: str) -> Source:
    """Raises NotFoundError."""
    row = find(session, name)
    if row is None:
        raise errors.NotFoundError(f"there is no source {name[:100]!r}; `fuseml source list` shows those that exist")
    return row


def find(session: Session, name: str) -> Source | None:
    """The source, or None."""
    return session.get(Source, name)


def listed(session: Session) -> Sequence[Source]:
    """All sources, by name."""
    return session.exec(select(Source).order_by(col(Source.name))).all()


def of_codeset(session: Session, project: str, codeset: str) -> Sequence[Source]:
    """The sources in a codeset, by name."""
    query = select(Source).where(Source.project == project, Source.codeset == codeset)
    return session.exec(query.order_by(col(Source.name))).all()


def save(session: Session, row: Source) -> None:
    """Store a new or changed source."""
    session.add(row)
    session.flush()


def remove(session: Session, row: Source) -> None:
    """Remove a source; its items belong to none any more, and stay."""
    session.exec(sqlalchemy.delete(SourceItem).where(col(SourceItem.source) == row.name))
    session.delete(row)
    session.flush()


def items(session: Session, source: str) -> Sequence[SourceItem]:
    """The items of a source, by kind and name."""
    return session.exec(select(SourceItem).where(SourceItem.source == source).order_by(col(SourceItem.kind), col(SourceItem.name))).all()


def owners(session: Session, source: str, declared: Iterable[ownership.Key]) -> Mapping[ownership.Key, SourceItem]:
    """The items of a source, and the declared items of other sources."""
    found = {_key(row): row for row in items(session, source)}
    named: dict[files.Kind, list[str]] = {}
    for kind, name in declared:
        named.setdefault(kind, []).append(name)
    for kind, names in named.items():
        # In batches: databases limit the length of a condition.
        for start in range(0, len(names), _BATCH):
            query = select(SourceItem).where(SourceItem.kind == kind, col(SourceItem.name).in_(names[start : start + _BATCH]))
            found |= {_key(row): row for row in session.exec(query)}
    return found


def _key(row: SourceItem) -> ownership.Key:
    return cast(files.Kind, row.kind), row.name


def owner(session: Session, key: ownership.Key) -> str:
    """The source that an item belongs to; empty for none."""
    row = session.get(SourceItem, key)
    return row.source if row else ""


def own(session: Session, row: Source, key: ownership.Key, *, adopted: bool, fingerprint: str, file: str) -> None:
    """Record that an item belongs to the source, as the source leaves it. An adopted item stays one."""
    stored = session.get(SourceItem, key) or SourceItem(
        kind=key[0], name=key[1], source=row.name, adopted=adopted, fingerprint=fingerprint, file=file
    )
    stored.fingerprint, stored.file = fingerprint, file
    session.add(stored)


def disown(session: Session, key: ownership.Key) -> None:
    """Record that an item belongs to no source any more."""
    stored = session.get(SourceItem, key)
    if stored is not None:
        session.delete(stored)
