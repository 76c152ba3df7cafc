"""Queries of extension records: one document each, with index columns for the fields of selectors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors, plans
from fuseml.domain.registry import extension, health, matching, registry, versions
from fuseml.domain.registry.selector import Selector
from fuseml.store import paging
from fuseml.store.tables import extension_rows

SEARCHED: Mapping[str, Any] = {
    "extension_id": extension_rows.ExtensionService.extension_id,
    "service_id": extension_rows.ExtensionService.service_id,
    "product": extension_rows.ExtensionService.product,
    "service_resource": extension_rows.ExtensionService.resource,
    "service_category": extension_rows.ExtensionService.category,
}
"""The index columns of a selector's fields."""

DOCUMENT = sqlalchemy.cast(extension_rows.ExtensionRecord.document, sqlalchemy.Text).label("document")
"""A record's document as its stored text."""

_CACHED_CHARACTERS = 64 << 10
_BATCH = 100
# Failed health checks in a row. A tool that was starting during one is not dead.
_DEAD = 2


def get(session: Session, extension_id: str) -> extension.Extension:
    """The record, with sealed credentials values. Raises NotFoundError."""
    return of_row(_row(session, extension_id))


def of_row(row: extension_rows.ExtensionRecord) -> extension.Extension:
    """The record of a row, with the time of its last check."""
    return health.confirmed(extension.Extension.model_validate(row.document), row.checked)


def is_known(session: Session, extension_id: str) -> bool:
    """Whether the record exists."""
    return session.get(extension_rows.ExtensionRecord, extension_id) is not None


def _row(session: Session, extension_id: str) -> extension_rows.ExtensionRecord:
    row = session.get(extension_rows.ExtensionRecord, extension_id)
    if row is None:
        raise errors.NotFoundError(f"an extension with the given ID could not be found: {extension_id}")
    return row


def add(session: Session, record: extension.Extension, now: str) -> None:
    """Store a new record. Raises ConflictError when the id is taken."""
    if session.get(extension_rows.ExtensionRecord, record.id):
        raise errors.ConflictError(f"an extension with the same ID already exists: {record.id}")
    session.add(
        extension_rows.ExtensionRecord(
            id=record.id,
            product=record.product,
            zone=record.zone,
            document=record.model_dump(mode="json"),
            revision=record.revision,
            created=now,
            updated=now,
        )
    )
    session.flush()
    _index(session, record)


def replace(session: Session, record: extension.Extension, now: str) -> None:
    """Store a changed record. Raises NotFoundError."""
    row = _row(session, record.id)
    row.product, row.zone, row.document, row.revision, row.updated = (
        record.product,
        record.zone,
        record.model_dump(mode="json"),
        record.revision,
        now,
    )
    row.check_due, row.check_failures = "", 0
    session.add(row)
    _reindex(session, record)


def _reindex(session: Session, record: extension.Extension) -> None:
    session.exec(sqlalchemy.delete(extension_rows.ExtensionService).where(col(extension_rows.ExtensionService.extension_id) == record.id))
    _index(session, record)


def _index(session: Session, record: extension.Extension) -> None:
    sort_key = versions.sort_key(record.version)
    for service in record.services:
        unhealthy = _unhealthy_types(service)
        types = {endpoint.type for endpoint in service.endpoints} - unhealthy
        session.add(
            extension_rows.ExtensionService(
                extension_id=record.id,
                service_id=service.id,
                resource=service.resource,
                category=service.category,
                product=record.product,
                zone=record.zone,
                internal="internal" in types,
                external="external" in types,
                unhealthy_internal="internal" in unhealthy,
                unhealthy_external="external" in unhealthy,
                version=sort_key,
            )
        )
    session.flush()


def _unhealthy_types(service: extension.Service) -> set[Literal["internal", "external"]]:
    """The types of endpoints of which all are known to be unhealthy."""
    healths = [(endpoint.type, matching.is_unhealthy(endpoint)) for endpoint in service.endpoints]
    return {type for type, unhealthy in healths if unhealthy} - {type for type, unhealthy in healths if not unhealthy}


def remove(session: Session, extension_id: str) -> extension.Extension:
    """Remove a record and return it. Raises NotFoundError."""
    row = _row(session, extension_id)
    session.exec(
        sqlalchemy.delete(extension_rows.ExtensionService).where(col(extension_rows.ExtensionService.extension_id) == extension_id)
    )
    session.delete(row)
    return extension.Extension.model_validate(row.document)


def find(session: Session, selector: Selector, page: paging.Page) -> paging.Slice[extension_rows.ExtensionRecord]:
    """A page of records that may match the selector, by id. Filters by equality only: `domain.registry.matching` decides."""
    query = select(extension_rows.ExtensionRecord)
    if selector.extension_id:
        query = query.where(extension_rows.ExtensionRecord.id == selector.extension_id)
    if selector.product:
        query = query.where(extension_rows.ExtensionRecord.product == selector.product)
    if selector.zone:
        query = query.where(extension_rows.ExtensionRecord.zone == selector.zone)
    service = select(extension_rows.ExtensionService.extension_id)
    by_service = False
    for column, value in (
        (extension_rows.ExtensionService.service_id, selector.service_id),
        (extension_rows.ExtensionService.resource, selector.service_resource),
        (extension_rows.ExtensionService.category, selector.service_category),
    ):
        if value:
            service, by_service = service.where(column == value), True
    if by_service:
        query = query.where(col(extension_rows.ExtensionRecord.id).in_(service))
    return paging.fetch(session, query, page, extension_rows.ExtensionRecord.id)


def candidates(session: Session, selectors: Sequence[Selector]) -> list[extension.Extension]:
    """Every record that may match one of the selectors, without duplicates. Filters by equality only: `domain.registry.matching` decides."""
    records: dict[str, extension.Extension] = {}
    service = extension_rows.ExtensionService
    selectors = [*selectors, *(other for selector in selectors if (other := selector.otherwise))]
    # In batches: databases limit the length of a condition.
    for batch in (selectors[start : start + _BATCH] for start in range(0, len(selectors), _BATCH)):
        conditions = (
            sqlalchemy.and_(
                sqlalchemy.true(), *(column == value for name, column in SEARCHED.items() if (value := getattr(selector, name)))
            )
            for selector in batch
        )
        query = sqlalchemy.select(col(extension_rows.ExtensionRecord.id), DOCUMENT).where(
            col(extension_rows.ExtensionRecord.id).in_(select(service.extension_id).where(sqlalchemy.or_(*conditions)))
        )
        for row in session.connection().execute(query):
            records.setdefault(row.id, parse(row.document))
    return list(records.values())


def parse(document: str) -> extension.Extension:
    """The record of a stored document (`DOCUMENT`); the latest records are cached."""
    return _cached(document) if len(document) <= _CACHED_CHARACTERS else extension.Extension.model_validate_json(document)


@functools.lru_cache(maxsize=1024)
def _cached(document: str) -> extension.Extension:
    # The key is the whole text: a change by another process or a health check is another text, so no entry is ever stale.
    return extension.Extension.model_validate_json(document)


def of_ids(session: Session, ids: Collection[str]) -> list[extension.Extension]:
    """Those of the records that exist, with sealed credentials values."""
    identifier = col(extension_rows.ExtensionRecord.id)
    queries = (sqlalchemy.select(DOCUMENT).where(identifier.in_(batch)) for batch in paging.batches(ids))
    # The connection itself flushes nothing.
    session.flush()
    return [parse(row.document) for query in queries for row in session.connection().execute(query)]


def with_resource(session: Session, resource: str) -> list[extension.Extension]:
    """Every record with a service of the resource, by id."""
    service = select(extension_rows.ExtensionService.extension_id).where(extension_rows.ExtensionService.resource == resource)
    query = select(extension_rows.ExtensionRecord.document).where(col(extension_rows.ExtensionRecord.id).in_(service))
    return [
        extension.Extension.model_validate(document) for document in session.exec(query.order_by(col(extension_rows.ExtensionRecord.id)))
    ]


def answering(session: Session, resource: str) -> Sequence[str]:
    """The ids of records with a service of the resource, but those of which nothing was healthy in several health checks in a row."""
    row, service = extension_rows.ExtensionRecord, extension_rows.ExtensionService
    of_resource = select(service.extension_id).where(service.resource == resource)
    return session.exec(select(row.id).where(col(row.id).in_(of_resource), col(row.check_failures) < _DEAD).order_by(col(row.id))).all()


def sealed_secret(session: Session, part: plans.SecretPart) -> str:
    """The sealed value of one credentials key. Raises NotFoundError if it no longer exists."""
    record = get(session, part.extension)
    for service in record.services:
        for credentials in service.credentials:
            if (service.id, credentials.id) == (part.service, part.credentials) and part.key in credentials.configuration:
                return credentials.configuration[part.key]
    raise errors.NotFoundError(f"the credentials {part.ref} no longer exist in the registry")


def reseal(session: Session, change: Callable[[str, str], str], after: str, limit: int) -> Sequence[str]:
    """Pass every sealed value of the next `limit` records after the id `after` through `change(record id, value)`. Returns their ids.

    Revision and `updated` stay.
    """
    query = (
        select(extension_rows.ExtensionRecord)
        .where(col(extension_rows.ExtensionRecord.id) > after)
        .order_by(col(extension_rows.ExtensionRecord.id))
        .limit(limit)
    )
    rows = session.exec(query).all()
    for row in rows:
        record = extension.Extension.model_validate(row.document)
        row.document = extension.map_secrets(record, functools.partial(change, row.id)).model_dump(mode="json")
        session.add(row)
    return [row.id for row in rows]


def at_addresses(session: Session, urls: Sequence[str]) -> list[extension.Extension]:
    """Records that may have an endpoint at one of the URLs. Filters by text only: the caller compares."""
    text = sqlalchemy.cast(extension_rows.ExtensionRecord.document, sqlalchemy.Text)
    query = select(extension_rows.ExtensionRecord.document).where(sqlalchemy.or_(*(text.icontains(url, autoescape=True) for url in urls)))
    return [extension.Extension.model_validate(document) for document in session.exec(query)]


def store_health(session: Session, probed: extension.Extension) -> None:
    """Store the health of the parts of `probed`; revision and `updated` stay.

    The record may have changed since the probe read it: parts that were changed or removed are skipped.
    """
    row = session.get(extension_rows.ExtensionRecord, probed.id)
    if row is None:
        return
    stored = record = of_row(row)
    for service in probed.services:
        for collection in service.parts:
            for part in getattr(service, collection):
                record = _observed(record, ("services", service.id, collection, part.address), part)
    row.document = record.model_dump(mode="json")
    session.add(row)
    if [_unhealthy_types(service) for service in record.services] != [_unhealthy_types(service) for service in stored.services]:
        _reindex(session, record)


def _observed(record: extension.Extension, path: registry.Path, probed: extension.Endpoint | extension.Credentials) -> extension.Extension:
    try:
        stored = registry.find(record, path)
    except errors.NotFoundError:
        return record
    assert not isinstance(stored, extension.Service)
    result, previous = probed.status.health, stored.status.health
    changed = stored != probed.model_copy(update={"status": stored.status})
    if result is None or changed or (previous is not None and previous.seen >= result.seen):
        return record
    return registry.observe(record, path, healthy=result.state == "healthy", now=result.seen, cause=result.cause)
