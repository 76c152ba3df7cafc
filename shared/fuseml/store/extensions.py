"""Extension records: one document each, with the columns beside it that selectors narrow by."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors, plans
from fuseml.domain.registry import extension, registry, selector, versions
from fuseml.store import paging
from fuseml.store.tables import extension_rows

SEARCHED: Mapping[str, Any] = {
    "extension_id": extension_rows.ExtensionService.extension_id,
    "service_id": extension_rows.ExtensionService.service_id,
    "product": extension_rows.ExtensionService.product,
    "service_resource": extension_rows.ExtensionService.resource,
    "service_category": extension_rows.ExtensionService.category,
}
"""The columns that hold what a selector's fields must equal."""

DOCUMENT = sqlalchemy.cast(extension_rows.ExtensionRecord.document, sqlalchemy.Text).label("document")
"""A record's document as the text that it is stored as."""

_CACHED_CHARACTERS = 64 << 10
_PORTION = 100


def get(session: Session, extension_id: str) -> extension.Extension:
    """Raises NotFoundError. Credentials values are sealed."""
    return extension.Extension.model_validate(_row(session, extension_id).document)


def is_known(session: Session, extension_id: str) -> bool:
    """Whether there is such a record."""
    return session.get(extension_rows.ExtensionRecord, extension_id) is not None


def _row(session: Session, extension_id: str) -> extension_rows.ExtensionRecord:
    row = session.get(extension_rows.ExtensionRecord, extension_id)
    if row is None:
        raise errors.NotFoundError(f"an extension with the given ID could not be found: {extension_id}")
    return row


def add(session: Session, record: extension.Extension, now: str) -> None:
    """Raises ConflictError when the id is taken."""
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
    """Store a changed record."""
    row = _row(session, record.id)
    row.product, row.zone, row.document, row.revision, row.updated = (
        record.product,
        record.zone,
        record.model_dump(mode="json"),
        record.revision,
        now,
    )
    session.add(row)
    session.exec(sqlalchemy.delete(extension_rows.ExtensionService).where(col(extension_rows.ExtensionService.extension_id) == record.id))
    _index(session, record)


def _index(session: Session, record: extension.Extension) -> None:
    place = versions.sort_key(record.version)
    for service in record.services:
        reaches = {endpoint.type for endpoint in service.endpoints}
        session.add(
            extension_rows.ExtensionService(
                extension_id=record.id,
                service_id=service.id,
                resource=service.resource,
                category=service.category,
                product=record.product,
                zone=record.zone,
                internal="internal" in reaches,
                external="external" in reaches,
                version=place,
            )
        )
    session.flush()


def remove(session: Session, extension_id: str) -> extension.Extension:
    """Returns what was removed. Raises NotFoundError."""
    row = _row(session, extension_id)
    session.exec(
        sqlalchemy.delete(extension_rows.ExtensionService).where(col(extension_rows.ExtensionService.extension_id) == extension_id)
    )
    session.delete(row)
    return extension.Extension.model_validate(row.document)


def find(session: Session, wanted: selector.Selector, page: paging.Page) -> paging.Slice[extension_rows.ExtensionRecord]:
    """Records that may satisfy the selector, by id. Narrows by equality only: `domain.registry.selector` decides."""
    query = select(extension_rows.ExtensionRecord)
    if wanted.extension_id:
        query = query.where(extension_rows.ExtensionRecord.id == wanted.extension_id)
    if wanted.product:
        query = query.where(extension_rows.ExtensionRecord.product == wanted.product)
    if wanted.zone:
        query = query.where(extension_rows.ExtensionRecord.zone == wanted.zone)
    service = select(extension_rows.ExtensionService.extension_id)
    asked = False
    for column, value in (
        (extension_rows.ExtensionService.service_id, wanted.service_id),
        (extension_rows.ExtensionService.resource, wanted.service_resource),
        (extension_rows.ExtensionService.category, wanted.service_category),
    ):
        if value:
            service, asked = service.where(column == value), True
    if asked:
        query = query.where(col(extension_rows.ExtensionRecord.id).in_(service))
    return paging.fetch(session, query, page, extension_rows.ExtensionRecord.id)


def candidates(session: Session, selectors: Sequence[selector.Selector]) -> list[extension.Extension]:
    """Every record that any of the selectors might mean, once each. Narrows by equality only: `domain.registry.selector` decides."""
    found: dict[str, extension.Extension] = {}
    service = extension_rows.ExtensionService
    # In portions: a database bounds how long a condition may be.
    for portion in (selectors[start : start + _PORTION] for start in range(0, len(selectors), _PORTION)):
        asked = (
            sqlalchemy.and_(sqlalchemy.true(), *(column == value for name, column in SEARCHED.items() if (value := getattr(wanted, name))))
            for wanted in portion
        )
        query = sqlalchemy.select(col(extension_rows.ExtensionRecord.id), DOCUMENT).where(
            col(extension_rows.ExtensionRecord.id).in_(select(service.extension_id).where(sqlalchemy.or_(*asked)))
        )
        for row in session.connection().execute(query):
            found.setdefault(row.id, parsed(row.document))
    return list(found.values())


def parsed(document: str) -> extension.Extension:
    """The record that a stored document (`DOCUMENT`) holds; the ones that were asked for last are kept."""
    return _cached(document) if len(document) <= _CACHED_CHARACTERS else extension.Extension.model_validate_json(document)


@functools.lru_cache(maxsize=1024)
def _cached(document: str) -> extension.Extension:
    # By its whole text: what another process stores, or a health check, is another text, so nothing here can be out of date.
    return extension.Extension.model_validate_json(document)


def with_resource(session: Session, resource: str) -> list[extension.Extension]:
    """Every record with a service of that resource, by id."""
    service = select(extension_rows.ExtensionService.extension_id).where(extension_rows.ExtensionService.resource == resource)
    query = select(extension_rows.ExtensionRecord.document).where(col(extension_rows.ExtensionRecord.id).in_(service))
    return [
        extension.Extension.model_validate(document) for document in session.exec(query.order_by(col(extension_rows.ExtensionRecord.id)))
    ]


def sealed_secret(session: Session, part: plans.SecretPart) -> str:
    """The sealed value of one key of one set of credentials. Raises NotFoundError when it is not there any more."""
    record = get(session, part.extension)
    for service in record.services:
        for credentials in service.credentials:
            if (service.id, credentials.id) == (part.service, part.credentials) and part.key in credentials.configuration:
                return credentials.configuration[part.key]
    raise errors.NotFoundError(f"the credentials {part.ref} are not in the registry any more")


def reseal(session: Session, change: Callable[[str, str], str], after: str, limit: int) -> Sequence[str]:
    """Pass every sealed value of the next records behind `after` through `change(record id, value)`. Returns the ids that were read.

    No change of the records: neither revision nor `updated` move.
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
    """Records that may have an endpoint at one of the addresses. Narrows by text only: the caller compares."""
    text = sqlalchemy.cast(extension_rows.ExtensionRecord.document, sqlalchemy.Text)
    query = select(extension_rows.ExtensionRecord.document).where(sqlalchemy.or_(*(text.icontains(url, autoescape=True) for url in urls)))
    return [extension.Extension.model_validate(document) for document in session.exec(query)]


def unseen_since(session: Session, moment: str) -> Iterator[extension.Extension]:
    """Records of which an endpoint or credentials were last probed before `moment`, never, or before their last change."""
    # Most records are not due, and reading a document as it is costs a fraction of making a record of it.
    for document in session.exec(select(extension_rows.ExtensionRecord.document).execution_options(yield_per=500)):
        if any(_seen(part) < moment for service in document["services"] for part in (*service["endpoints"], *service["credentials"])):
            yield extension.Extension.model_validate(document)


def _seen(part: Mapping[str, Any]) -> str:
    health = part["status"].get("health")
    return str(health["seen"]) if health and health["seen"] > (part["status"]["updated"] or "") else ""


def store_health(session: Session, probed: extension.Extension) -> None:
    """Note what the parts of `probed` say of their health; no change of the record, so neither revision nor `updated` move.

    The record may have been edited since it was read for probing: parts that are gone or changed keep what they have now.
    """
    row = session.get(extension_rows.ExtensionRecord, probed.id)
    if row is None:
        return
    record = extension.Extension.model_validate(row.document)
    for service in probed.services:
        for collection in service.parts:
            for part in getattr(service, collection):
                record = _observed(record, ("services", service.id, collection, part.address), part)
    row.document = record.model_dump(mode="json")
    session.add(row)


def _observed(record: extension.Extension, path: registry.Path, probed: extension.Endpoint | extension.Credentials) -> extension.Extension:
    try:
        stored = registry.find(record, path)
    except errors.NotFoundError:
        return record
    assert not isinstance(stored, extension.Service)
    health, known = probed.status.health, stored.status.health
    changed = stored != probed.model_copy(update={"status": stored.status})
    if health is None or changed or (known is not None and known.seen >= health.seen):
        return record
    return registry.observe(record, path, healthy=health.state == "healthy", now=health.seen, cause=health.cause)
