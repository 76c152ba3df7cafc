"""Resolution over the stored registry, with as few records as prove the result.

`domain.registry.resolution` chooses. This module reads services in its order of rank, as far as the index columns have it, page by page
until the choice is final. The cost depends on the best matches, not on the size of the registry.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import sqlalchemy
from sqlalchemy import bindparam
from sqlmodel import Session, col

from fuseml.domain.registry import constraint, extension, matching, resolution
from fuseml.domain.registry.selector import Binding, Context, Explanation, Resolution, Selector
from fuseml.store import extensions
from fuseml.store.tables import extension_rows

_PAGE, _GROWTH = 6, 6
"""Services in the first page of a selector, and the growth factor of the following pages."""

_NAMED = sqlalchemy.select(extensions.DOCUMENT).where(col(extension_rows.ExtensionRecord.id) == bindparam("id"))

Reach = Literal["internal", "external", "elsewhere"]


class _Services(NamedTuple):
    """The services that a consumer reaches by such an endpoint, all of them unhealthy or not, and by no better one."""

    reach: Reach
    unhealthy: bool


_HEALTHY = (_Services("internal", False), _Services("external", False), _Services("elsewhere", False))
_UNHEALTHY = (_Services("internal", True), _Services("external", True), _Services("elsewhere", True))
_ORDER: Mapping[bool | None, Sequence[_Services]] = {
    None: (*_HEALTHY, *_UNHEALTHY),
    True: _HEALTHY,
    False: [services for pair in zip(_HEALTHY, _UNHEALTHY, strict=True) for services in pair],
}
"""The services in the order of their rank (`domain.registry.matching.Rank`), by `Selector.healthy`."""


def resolve(session: Session, selectors: Sequence[Selector], context: Context, *, home: str = "", explain: bool = False) -> Resolution:
    """`domain.registry.resolution.resolve` over all stored records. Raises UnresolvedError."""
    result = attempt(session, selectors, context, home=home, explain=explain)
    resolution.require_all(result)
    return result


def attempt(
    session: Session,
    selectors: Sequence[Selector],
    context: Context,
    *,
    home: str = "",
    explain: bool = False,
    page: int = _PAGE,
) -> Resolution:
    """`domain.registry.resolution.attempt` over all stored records. Explanations list the nearest records and count the others."""
    choices = [_choose(session, selector, context, home, page) for selector in selectors]
    explanations = [_explanation(session, choice) if explain or choice.binding is None else None for choice in choices]
    return resolution.conclude(choices, explanations)


def ranked(session: Session, selectors: Sequence[Selector], context: Context, *, home: str = "") -> list[Binding]:
    """The bindings of the selectors that match something, the best match of all first."""
    choices = [choice for selector in selectors if (choice := _choose(session, selector, context, home, _PAGE)).binding]
    choices.sort(key=lambda choice: (choice.matches[0].rank, choice.matches[0].tie_break))
    return [choice.binding for choice in choices if choice.binding]


def resources(session: Session, category: str) -> list[str]:
    """The resources of the registered services of a category."""
    service = extension_rows.ExtensionService
    query = sqlalchemy.select(col(service.resource)).where(col(service.category) == category).distinct()
    return sorted(session.connection().execute(query).scalars())


@dataclass(frozen=True, slots=True)
class _Segment:
    """A segment of the services in rank order: the rows of a statement with these arguments. None has a better rank than `rank`."""

    rank: matching.Rank
    statement: sqlalchemy.Select[str, str, bytes, str]
    arguments: Mapping[str, object]


def _choose(session: Session, selector: Selector, context: Context, home: str, page: int) -> resolution.Choice:
    return resolution.preferred(selector, lambda wanted: _exactly(session, wanted, context, home, page))


def _exactly(session: Session, selector: Selector, context: Context, home: str, page: int) -> resolution.Choice:
    if selector.extension_id:
        return resolution.choose(selector, _by_id(session, selector.extension_id), context, home=home)
    records: dict[str, extension.Extension] = {}
    choice = resolution.choose(selector, [], context, home=home)
    for segment in _segments(session, selector, context, home):
        if choice.is_final(resolution.Edge(segment.rank, matching.TieBreak("", ""))):
            break
        start, limit = 0, page
        while True:
            rows = session.connection().execute(segment.statement, {**segment.arguments, "limit": limit, "start": start}).all()
            for row in rows:
                if row.extension_id not in records:
                    records[row.extension_id] = extensions.parse(row.document)
            choice = resolution.choose(selector, list(records.values()), context, home=home)
            if len(rows) < limit or choice.is_final(_edge(segment, rows[-1])):
                break
            start, limit = start + limit, limit * _GROWTH
    return choice


def _by_id(session: Session, extension_id: str) -> list[extension.Extension]:
    row = session.connection().execute(_NAMED, {"id": extension_id}).first()
    return [extensions.parse(row.document)] if row else []


def _edge(segment: _Segment, last: sqlalchemy.Row[str, str, bytes, str]) -> resolution.Edge:
    return resolution.Edge(segment.rank._replace(version=last.version), matching.TieBreak(last.extension_id, last.service_id))


def _segments(session: Session, selector: Selector, context: Context, home: str) -> Iterator[_Segment]:
    """The segments that may hold matches, the best rank first."""
    criteria = {name: value for name in extensions.SEARCHED if (value := getattr(selector, name))}
    ours = context.zone or home
    order = _ORDER[selector.healthy]
    arguments: dict[str, object] = {**criteria, "ours": _spellings(ours, home)}
    if selector.zone:
        order = [services for services in order if (services.reach == "elsewhere") == (selector.zone != ours)]
        arguments["zones"] = _spellings(selector.zone, home)
    ranges = constraint.sort_ranges(selector.version) if selector.version else [None]
    dialect = session.get_bind().dialect.name
    for services in order:
        for versions in ranges:
            newest, beyond = versions or (b"", b"")
            statement = _statement(tuple(criteria), services, bool(selector.zone), versions is not None, dialect)
            rank = matching.Rank(
                services.unhealthy and selector.healthy is None, services.reach == "elsewhere", services.reach != "internal", newest
            )
            yield _Segment(rank, statement, {**arguments, "newest": newest, "beyond": beyond} if versions else arguments)


def _spellings(zone: str, home: str) -> list[str]:
    """The spellings of a zone in records: the control plane's own zone may be empty."""
    return [zone, ""] if zone == home else [zone]


@functools.lru_cache(maxsize=256)
def _statement(
    criteria: tuple[str, ...], services: _Services, zoned: bool, limited: bool, dialect: str
) -> sqlalchemy.Select[str, str, bytes, str]:
    service = extension_rows.ExtensionService
    query = sqlalchemy.select(col(service.extension_id), col(service.service_id), col(service.version), extensions.DOCUMENT)
    query = query.join(extension_rows.ExtensionRecord, col(extension_rows.ExtensionRecord.id) == service.extension_id)
    query = query.where(*(extensions.SEARCHED[name] == bindparam(name) for name in criteria))
    own = col(service.zone).in_(bindparam("ours", expanding=True))
    match services:
        case "internal", False:
            query = query.where(own, col(service.internal).is_(True))
        case "internal", True:
            query = query.where(own, col(service.internal).is_(False), col(service.unhealthy_internal).is_(True))
        case "external", False:
            query = query.where(own, col(service.internal).is_(False), col(service.external).is_(True))
        case "external", True:
            query = query.where(own, col(service.internal).is_(False), col(service.unhealthy_external).is_(True))
        case "elsewhere", False:
            query = query.where(~own, col(service.external).is_(True))
        case "elsewhere", True:
            query = query.where(~own, col(service.external).is_(False), col(service.unhealthy_external).is_(True))
    if zoned:
        query = query.where(col(service.zone).in_(bindparam("zones", expanding=True)))
    if limited:
        query = query.where(col(service.version) >= bindparam("newest"), col(service.version) < bindparam("beyond"))
    ids = [col(service.extension_id), col(service.service_id)]
    # The domain orders ids by code points; PostgreSQL would use the collation of the database.
    ordered = [column.collate("C") for column in ids] if dialect == "postgresql" else ids
    return query.order_by(col(service.version), *ordered).limit(bindparam("limit")).offset(bindparam("start"))


def _explanation(session: Session, choice: resolution.Choice) -> Explanation:
    """The explanation from the records that the choice has read and the nearest other records."""
    rules = choice.rules
    records = {record.id: record for record in choice.records}
    near, total = _near(session, rules.selector, rules.home, differing=0 if choice.binding else 1)
    documents = sqlalchemy.select(col(extension_rows.ExtensionRecord.id), extensions.DOCUMENT).where(
        col(extension_rows.ExtensionRecord.id).in_(near)
    )
    for row in session.connection().execute(documents):
        records.setdefault(row.id, extensions.parse(row.document))
    complete = resolution.choose(rules.selector, list(records.values()), rules.context, home=rules.home)
    return complete.explanation(unseen=max(0, total - len(records)))


def _near(session: Session, selector: Selector, home: str, *, differing: int) -> tuple[Sequence[str], int]:
    """Ids of records that satisfy all but `differing` of the selector's criteria, versions aside, the nearest first; and their total number."""
    record, service = extension_rows.ExtensionRecord, extension_rows.ExtensionService
    # Extensions without services have no row in `service`, but an id and a product.
    columns = {**extensions.SEARCHED, "extension_id": record.id, "product": record.product}
    criteria = [col(column) == value for name, column in columns.items() if (value := getattr(selector, name))]
    if selector.zone:
        criteria.append(col(record.zone).in_(_spellings(selector.zone, home)))
    equal = [sqlalchemy.case((condition, 1), else_=0) for condition in criteria]
    hits = sqlalchemy.func.max(sum(equal, sqlalchemy.literal(0)))
    query = (
        sqlalchemy.select(col(record.id), sqlalchemy.func.count().over().label("total"))
        .outerjoin(service, col(service.extension_id) == col(record.id))
        .group_by(col(record.id))
        .having(hits >= len(criteria) - differing)
        .order_by(hits.desc(), col(record.id))
        .limit(resolution.MAX_EXPLAINED)
    )
    rows = session.connection().execute(query).all()
    return [row.id for row in rows], rows[0].total if rows else 0
