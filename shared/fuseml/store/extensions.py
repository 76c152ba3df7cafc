"""Extension records: one document each, with the columns beside it that selectors narrow by."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import errors, extension, plan, selector
from fuseml.store import paging, tables


def get(session: Session, extension_id: str) -> extension.Extension:
    """Raises NotFoundError. Credentials values are sealed."""
    return extension.Extension.model_validate(_row(session, extension_id).document)


def _row(session: Session, extension_id: str) -> tables.ExtensionRecord:
    row = session.get(tables.ExtensionRecord, extension_id)
    if row is None:
        raise errors.NotFoundError(f"an extension with the given ID could not be found: {extension_id}")
    return row


def add(session: Session, record: extension.Extension, now: str) -> None:
    """Raises ConflictError when the id is taken."""
    if session.get(tables.ExtensionRecord, record.id):
        raise errors.ConflictError(f"an extension with the same ID already exists: {record.id}")
    session.add(
        tables.ExtensionRecord(
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
    session.exec(sqlalchemy.delete(tables.ExtensionService).where(col(tables.ExtensionService.extension_id) == record.id))
    _index(session, record)


def _index(session: Session, record: extension.Extension) -> None:
    session.add_all(
        tables.ExtensionService(extension_id=record.id, service_id=service.id, resource=service.resource, category=service.category)
        for service in record.services
    )
    session.flush()


def remove(session: Session, extension_id: str) -> extension.Extension:
    """Returns what was removed. Raises NotFoundError."""
    row = _row(session, extension_id)
    session.exec(sqlalchemy.delete(tables.ExtensionService).where(col(tables.ExtensionService.extension_id) == extension_id))
    session.delete(row)
    return extension.Extension.model_validate(row.document)


def find(session: Session, wanted: selector.Selector, page: paging.Page) -> paging.Slice[tables.ExtensionRecord]:
    """Records that may satisfy the selector, by id. Narrows by equality only: `domain.selector` decides."""
    query = select(tables.ExtensionRecord)
    if wanted.extension_id:
        query = query.where(tables.ExtensionRecord.id == wanted.extension_id)
    if wanted.product:
        query = query.where(tables.ExtensionRecord.product == wanted.product)
    if wanted.zone:
        query = query.where(tables.ExtensionRecord.zone == wanted.zone)
    service = select(tables.ExtensionService.extension_id)
    asked = False
    for column, value in (
        (tables.ExtensionService.service_id, wanted.service_id),
        (tables.ExtensionService.resource, wanted.service_resource),
        (tables.ExtensionService.category, wanted.service_category),
    ):
        if value:
            service, asked = service.where(column == value), True
    if asked:
        query = query.where(col(tables.ExtensionRecord.id).in_(service))
    return paging.fetch(session, query, page, tables.ExtensionRecord.id)


def candidates(session: Session, selectors: Sequence[selector.Selector]) -> list[extension.Extension]:
    """Every record that any of the selectors might mean, once each."""
    found: dict[str, extension.Extension] = {}
    everything = paging.Page(limit=1_000_000)
    for wanted in selectors:
        for row in find(session, wanted, everything).rows:
            if row.id not in found:
                found[row.id] = extension.Extension.model_validate(row.document)
    return list(found.values())


def sealed_secret(session: Session, part: plan.SecretPart) -> str:
    """The sealed value of one key of one set of credentials. Raises NotFoundError when it is not there any more."""
    record = get(session, part.extension)
    for service in record.services:
        for credentials in service.credentials:
            if (service.id, credentials.id) == (part.service, part.credentials) and part.key in credentials.configuration:
                return credentials.configuration[part.key]
    raise errors.NotFoundError(f"the credentials {part.ref} are not in the registry any more")
