"""The search for artifacts, in pages by address.

A page reads an index in the order of addresses and stops when it is full. Which index that is decides the time, and SQLite knows nothing
about how many rows a filter admits. So the query begins with the table of the filter that usually admits the fewest, and finds addresses by
indexes alone: where a filter admits few artifacts, it reads the narrow index `artifact_search`, not the artifacts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy
from sqlmodel import Session, and_, col, or_, select

from fuseml.domain.artifacts import conditions, search
from fuseml.domain.registry import constraint
from fuseml.store import artifacts, paging
from fuseml.store.tables.artifact_rows import Artifact, ArtifactLabel, ArtifactMetric, ArtifactTag
from fuseml.store.tables.run_rows import Run

_WORDS = ("kind", "project", "name", "type", "format")
_ROUNDS = 20
"""The most queries for one page: versions that no index excludes leave pages short."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Filters on where an artifact comes from: `producer` is a run or a workflow; times are RFC 3339, `before` excluded."""

    run: str | None = None
    step: str | None = None
    producer: str | None = None
    since: str | None = None
    before: str | None = None


def page(
    session: Session, page: paging.Page, wanted: search.Search, origin: Origin, admits: Callable[[Artifact], bool] | None = None
) -> paging.Slice[Artifact]:
    """Artifacts by address, those that `admits` is true for. A page may be short although there are more. Raises InvalidError for a wrong cursor."""
    query, order = _addresses(wanted, origin)
    if session.get_bind().dialect.name == "sqlite":
        query = query.where(*_range(wanted, order))
    rows: list[Artifact] = []
    cursor = page.cursor
    for _ in range(_ROUNDS):
        found = paging.fetch(session, query, paging.Page(page.limit - len(rows), cursor), order)
        named = select(Artifact).where(col(Artifact.address).in_([row.address for row in found.rows]))
        found_rows = session.exec(named.order_by(col(Artifact.address)))
        rows += (row for row in found_rows if _has_version(row, wanted.framework) and (admits is None or admits(row)))
        cursor = found.next_cursor
        if cursor is None or len(rows) == page.limit:
            break
    return paging.Slice(rows, cursor)


def passes(session: Session, row: Artifact, wanted: search.Search) -> bool:
    """Whether a stored artifact passes all filters."""
    query, order = _addresses(wanted, Origin())
    return session.exec(query.where(order == row.address)).first() is not None and _has_version(row, wanted.framework)


def shortfall(session: Session, row: Artifact, wanted: search.Search) -> str:
    """The first filter that a stored artifact does not pass, with the reason; empty if it passes all."""
    if passes(session, row, wanted):
        return ""
    part = next(part for part in wanted.parts if not passes(session, row, part))
    metrics = artifacts.metrics_of(session, [row.address]).get(row.address, {})
    return f"{part.filters}: {search.shortfall(part, row.model_dump(), metrics)}"


def _has_version(row: Artifact, framework: search.Framework | None) -> bool:
    # An index excludes most versions; pre-releases and exclusions are left.
    return not (framework and framework.versions) or constraint.satisfies(row.framework_version or "", framework.versions)


def _addresses(wanted: search.Search, origin: Origin) -> tuple[Any, Any]:
    """The query for the addresses, which needs no more columns than the indexes hold, and the column that orders it."""
    order: Any = Artifact.address
    further: list[Any] = []
    joined: Any = None
    for table, admits in _tables(wanted):
        if joined is None:
            joined, order = table, table.address
            further += admits
        else:
            further.append(sqlalchemy.exists().where(table.address == order, *admits))
    of_columns = [*_columns(wanted), *_origin(origin)]
    # SQLModel's own `select` would return bare texts, which have no `address`.
    query: Any = sqlalchemy.select(order)
    if joined is not None and of_columns:
        query = query.join(Artifact, col(Artifact.address) == order)
    return query.where(*further, *of_columns), order


def _range(wanted: search.Search, order: Any) -> list[Any]:
    """The range of addresses that a kind, and a project of it, have: it cuts every index that is in the order of addresses.

    Only where texts compare by bytes: PostgreSQL orders them by language, and knows how many rows a filter admits.
    """
    if not wanted.kind:
        return []
    start = f"{wanted.kind}://{wanted.project}/" if wanted.project else f"{wanted.kind}://"
    return [order >= start, order < start[:-1] + chr(ord("/") + 1)]


def _columns(wanted: search.Search) -> list[Any]:
    filters = [getattr(Artifact, name) == value for name in _WORDS if (value := getattr(wanted, name))]
    if wanted.framework:
        filters += [Artifact.framework == wanted.framework.name, *_versions(wanted.framework)]
    return filters


def _tables(wanted: search.Search) -> list[tuple[Any, list[Any]]]:
    """The filters on further tables, the one first that usually admits the fewest artifacts."""
    found: list[tuple[Any, list[Any]]] = []
    if wanted.tag:
        tag = sqlalchemy.orm.aliased(ArtifactTag)
        found.append((tag, [col(tag.tag) == wanted.tag]))
    for name in wanted.labels:
        label = sqlalchemy.orm.aliased(ArtifactLabel)
        found.append((label, [col(label.label) == name]))
    for condition in wanted.metrics:
        metric = sqlalchemy.orm.aliased(ArtifactMetric)
        found.append(
            (metric, [col(metric.name) == condition.metric, conditions.OPERATORS[condition.operator](metric.value, condition.value)])
        )
    return found


def _versions(framework: search.Framework) -> list[Any]:
    if not framework.versions:
        return []
    order = col(Artifact.framework_order)
    return [or_(sqlalchemy.false(), *(and_(order >= low, order < high) for low, high in constraint.sort_ranges(framework.versions)))]


def _origin(origin: Origin) -> list[Any]:
    filters: list[Any] = []
    if origin.run:
        filters.append(Artifact.run == origin.run)
    if origin.step:
        filters.append(Artifact.step == origin.step)
    if origin.producer:
        producers = select(Run.name).where(or_(Run.name == origin.producer, Run.workflow == origin.producer))
        filters.append(col(Artifact.run).in_(producers))
    if origin.since:
        filters.append(col(Artifact.created) >= origin.since)
    if origin.before:
        filters.append(col(Artifact.created) < origin.before)
    return filters
