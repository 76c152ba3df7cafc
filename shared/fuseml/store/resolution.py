"""Resolution over the whole registry by reading as few records as prove the answer.

`domain.registry.resolution` decides. Here services are read in its order, as far as columns know it, a page at a time, and it is asked again
until it says that nothing behind could change the choice. So the cost hangs on what matches best, not on how much is registered.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col

from fuseml.domain.registry import constraint, extension, matching, resolution, selector
from fuseml.store import extensions
from fuseml.store.tables import extension_rows

_PAGE, _GROWTH = 6, 6
"""Services that are read first for one selector, and how many times more with each next page."""

_NAMED = sqlalchemy.select(extensions.DOCUMENT).where(col(extension_rows.ExtensionRecord.id) == bindparam("id"))

Reach = Literal["internal", "external", "elsewhere"]


def resolve(
    session: Session, selectors: Sequence[selector.Selector], context: selector.Context, *, home: str = "", explain: bool = False
) -> selector.Resolution:
    """`domain.registry.resolution.resolve` over every record there is. Raises UnresolvedError."""
    found = attempt(session, selectors, context, home=home, explain=explain)
    resolution.require_all(found)
    return found


def attempt(
    session: Session,
    selectors: Sequence[selector.Selector],
    context: selector.Context,
    *,
    home: str = "",
    explain: bool = False,
    page: int = _PAGE,
) -> selector.Resolution:
    """`domain.registry.resolution.attempt` over every record there is; an explanation takes in the nearest records only and counts the others."""
    choices = [_choose(session, wanted, context, home, page) for wanted in selectors]
    explanations = [_explanation(session, choice) if explain or choice.binding is None else None for choice in choices]
    return resolution.conclude(choices, explanations)


@dataclass(frozen=True, slots=True)
class _Run:
    """Services in the order of the domain: all that one statement with these arguments finds. None has a better `rank`."""

    rank: matching.Rank
    statement: sqlalchemy.Select[str, str, bytes, str]
    arguments: Mapping[str, object]


def _choose(session: Session, wanted: selector.Selector, context: selector.Context, home: str, page: int) -> resolution.Choice:
    if wanted.extension_id:
        return resolution.choose(wanted, _named(session, wanted.extension_id), context, home=home)
    records: dict[str, extension.Extension] = {}
    choice = resolution.choose(wanted, [], context, home=home)
    for run in _runs(session, wanted, context, home):
        if choice.is_final(resolution.Edge(run.rank, matching.TieBreak("", ""))):
            break
        start, limit = 0, page
        while True:
            rows = session.connection().execute(run.statement, {**run.arguments, "limit": limit, "start": start}).all()
            for row in rows:
                if row.extension_id not in records:
                    records[row.extension_id] = extensions.parsed(row.document)
            choice = resolution.choose(wanted, list(records.values()), context, home=home)
            if len(rows) < limit or choice.is_final(_edge(run, rows[-1])):
                break
            start, limit = start + limit, limit * _GROWTH
    return choice


def _named(session: Session, extension_id: str) -> list[extension.Extension]:
    found = session.connection().execute(_NAMED, {"id": extension_id}).first()
    return [extensions.parsed(found.document)] if found else []


def _edge(run: _Run, last: sqlalchemy.Row[str, str, bytes, str]) -> resolution.Edge:
    return resolution.Edge(run.rank._replace(version=last.version), matching.TieBreak(last.extension_id, last.service_id))


def _runs(session: Session, wanted: selector.Selector, context: selector.Context, home: str) -> Iterator[_Run]:
    """What can match, best first: the consumer's own zone, there what has internal endpoints; then everything else."""
    asked = {name: value for name in extensions.SEARCHED if (value := getattr(wanted, name))}
    ours = context.zone or home
    reaches: list[Reach] = ["internal", "external", "elsewhere"]
    arguments: dict[str, object] = {**asked, "ours": _spellings(ours, home)}
    if wanted.zone:
        reaches = ["internal", "external"] if wanted.zone == ours else ["elsewhere"]
        arguments["zones"] = _spellings(wanted.zone, home)
    ranges = constraint.places(wanted.version) if wanted.version else [None]
    dialect = session.get_bind().dialect.name
    for reach in reaches:
        for versions in ranges:
            newest, beyond = versions or (b"", b"")
            statement = _statement(tuple(asked), reach, bool(wanted.zone), versions is not None, dialect)
            rank = matching.Rank(reach == "elsewhere", reach != "internal", newest)
            yield _Run(rank, statement, {**arguments, "newest": newest, "beyond": beyond} if versions else arguments)


def _spellings(zone: str, home: str) -> list[str]:
    """How records say that they are in a zone: those of the control plane's own need not say it."""
    return [zone, ""] if zone == home else [zone]


@functools.lru_cache(maxsize=256)
def _statement(asked: tuple[str, ...], reach: Reach, zoned: bool, limited: bool, dialect: str) -> sqlalchemy.Select[str, str, bytes, str]:
    service = extension_rows.ExtensionService
    query = sqlalchemy.select(col(service.extension_id), col(service.service_id), col(service.version), extensions.DOCUMENT)
    query = query.join(extension_rows.ExtensionRecord, col(extension_rows.ExtensionRecord.id) == service.extension_id)
    query = query.where(*(extensions.SEARCHED[name] == bindparam(name) for name in asked))
    own = col(service.zone).in_(bindparam("ours", expanding=True))
    match reach:
        case "internal":
            query = query.where(own, col(service.internal).is_(True))
        case "external":
            query = query.where(own, col(service.internal).is_(False))
        case "elsewhere":
            query = query.where(~own, col(service.external).is_(True))
    if zoned:
        query = query.where(col(service.zone).in_(bindparam("zones", expanding=True)))
    if limited:
        query = query.where(col(service.version) >= bindparam("newest"), col(service.version) < bindparam("beyond"))
    ids = [col(service.extension_id), col(service.service_id)]
    # The domain orders ids by their characters, whatever the database's language is.
    ordered = [column.collate("C") for column in ids] if dialect == "postgresql" else ids
    return query.order_by(col(service.version), *ordered).limit(bindparam("limit")).offset(bindparam("start"))


def _explanation(session: Session, choice: resolution.Choice) -> selector.Explanation:
    """With the records that were read, and those that are nearest to what is wanted."""
    rules = choice.rules
    records = {record.id: record for record in choice.records}
    near, total = _near(session, rules.wanted, rules.home, differing=0 if choice.binding else 1)
    documents = sqlalchemy.select(col(extension_rows.ExtensionRecord.id), extensions.DOCUMENT).where(
        col(extension_rows.ExtensionRecord.id).in_(near)
    )
    for row in session.connection().execute(documents):
        records.setdefault(row.id, extensions.parsed(row.document))
    explained = resolution.choose(rules.wanted, list(records.values()), rules.context, home=rules.home)
    return explained.explanation(unseen=max(0, total - len(records)))


def _near(session: Session, wanted: selector.Selector, home: str, *, differing: int) -> tuple[Sequence[str], int]:
    """Records that are what is asked for in all but `differing` respects, versions aside, the nearest first; and how many there are."""
    record, service = extension_rows.ExtensionRecord, extension_rows.ExtensionService
    # What has no services has no row in `service`, but an id and a product.
    columns = {**extensions.SEARCHED, "extension_id": record.id, "product": record.product}
    asked = [col(column) == value for name, column in columns.items() if (value := getattr(wanted, name))]
    if wanted.zone:
        asked.append(col(record.zone).in_(_spellings(wanted.zone, home)))
    equal = [sqlalchemy.case((condition, 1), else_=0) for condition in asked]
    hits = sqlalchemy.func.max(sum(equal, sqlalchemy.literal(0)))
    query = (
        sqlalchemy.select(col(record.id), sqlalchemy.func.count().over().label("total"))
        .outerjoin(service, col(service.extension_id) == col(record.id))
        .group_by(col(record.id))
        .having(hits >= len(asked) - differing)
        .order_by(hits.desc(), col(record.id))
        .limit(resolution.MAX_EXPLAINED)
    )
    rows = session.connection().execute(query).all()
    return [row.id for row in rows], rows[0].total if rows else 0
