"""The moving addresses of applications' models, and the versions that they named last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlmodel
from sqlmodel import Session, col, select

from fuseml.store.tables.application_rows import Application, ModelAddress


def note(session: Session, row: Application, requested: str, *, follow: bool) -> None:
    """Note the address from which the model of a registration was resolved. The next sweep compares it."""
    before = session.get(ModelAddress, row.name)
    known = before is not None and _is_of(before, row) and before.requested == requested
    address = before or ModelAddress(application=row.name, created="", revision=0, requested="", follow=False)
    address.created, address.revision, address.requested, address.follow = row.created, row.revision, requested, follow
    if not known:
        address.latest, address.problem = None, ""
    address.checked, address.number = "", address.number + 1
    session.add(address)


def forget(session: Session, application: str) -> None:
    """Remove the address: the application is deleted, or its model has an exact one."""
    session.exec(sqlmodel.delete(ModelAddress).where(col(ModelAddress.application) == application))


def forget_stray(session: Session, application: str) -> None:
    """Remove the address of a registration that the previous release has replaced or deleted, if it is one."""
    row = session.get(Application, application)
    address = session.get(ModelAddress, application)
    if address is not None and (row is None or not _is_of(address, row)):
        session.delete(address)


def find(session: Session, row: Application) -> ModelAddress | None:
    """The address of the present registration; None for one with an exact address."""
    address = session.get(ModelAddress, row.name)
    return address if address is not None and _is_of(address, row) else None


def of(session: Session, rows: Sequence[Application]) -> Mapping[str, ModelAddress]:
    """By application: the addresses of these registrations."""
    found = {
        address.application: address
        for address in session.exec(select(ModelAddress).where(col(ModelAddress.application).in_([row.name for row in rows])))
    }
    return {row.name: found[row.name] for row in rows if row.name in found and _is_of(found[row.name], row)}


def due(session: Session, before: str, limit: int) -> Sequence[ModelAddress]:
    """The addresses whose last comparison was at `before` or earlier, the oldest first."""
    table = ModelAddress
    return session.exec(
        select(table).where(table.checked <= before).order_by(col(table.checked), col(table.application)).limit(limit)
    ).all()


def all_addresses(session: Session) -> Sequence[ModelAddress]:
    """All addresses, by application."""
    return session.exec(select(ModelAddress).order_by(col(ModelAddress.application))).all()


def compared(session: Session, address: ModelAddress, number: int, *, latest: str | None, problem: str, now: str) -> bool:
    """Store a comparison that began with the row at `number`. False, without effect, if another one was stored meanwhile: it is newer."""
    if address.number != number:
        return False
    address.latest, address.problem, address.checked, address.number = latest or address.latest, problem, now, number + 1
    session.add(address)
    return True


def moved(session: Session, address: ModelAddress, row: Application) -> None:
    """The application has followed its address to a new revision."""
    address.revision = row.revision
    session.add(address)


def _is_of(address: ModelAddress, row: Application) -> bool:
    # The previous release replaces and deletes applications without this table.
    return (address.created, address.revision) == (row.created, row.revision)
