"""Why something started and why nothing did: recorded when it was decided, because later nobody can tell any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import events
from fuseml.store.tables.decision_rows import Decision, DeclinedDelivery

PER_BUCKET = 100
"""Declined deliveries that are kept of one registered subject, and of all that are not registered together: a stranger fills no disk."""

_LONGEST = 500


def record(
    session: Session,
    event: events.Event,
    reason: str,
    now: str,
    *,
    workflow: str | None = None,
    run: str | None = None,
    commit: str | None = None,
) -> None:
    """Remember what was decided on an event, in its transaction: `run` (a name) and why it was started, or why none was."""
    session.add(Decision(source=event.source, event=event.id, workflow=workflow, run=run, reason=reason, commit=commit, made=now))


def of_event(session: Session, source: str, id: str) -> Sequence[Decision]:
    """What was decided on the event, in that order."""
    query = select(Decision).where(Decision.source == source, Decision.event == id)
    return session.exec(query.order_by(col(Decision.sequence))).all()


def of_commit(session: Session, prefix: str) -> Sequence[Decision]:
    """What was decided about commits that begin with these hex digits, in that order."""
    query = select(Decision).where(col(Decision.commit).startswith(prefix))
    return session.exec(query.order_by(col(Decision.sequence))).all()


def decline(
    session: Session,
    now: str,
    *,
    ingress: str,
    subject: str,
    registered: bool,
    delivery: str,
    outcome: Literal["refused", "ignored", "duplicate"],
    reason: str,
    commit: str | None = None,
) -> None:
    """Remember a webhook delivery that became no event. Texts are cut, and the oldest rows of the bucket give way (`PER_BUCKET`)."""
    bucket = subject if registered else ""
    row = DeclinedDelivery(
        ingress=ingress,
        subject=subject[:_LONGEST],
        bucket=bucket[:_LONGEST],
        delivery=delivery[:_LONGEST],
        outcome=outcome,
        reason=reason[:_LONGEST],
        commit=commit,
        received=now,
    )
    session.add(row)
    session.flush()
    same = col(DeclinedDelivery.bucket) == row.bucket
    kept = select(DeclinedDelivery.sequence).where(same).order_by(col(DeclinedDelivery.sequence).desc()).limit(PER_BUCKET)
    session.exec(sqlalchemy.delete(DeclinedDelivery).where(same, col(DeclinedDelivery.sequence).not_in(kept)))


def declined(
    session: Session, *, commit: str | None = None, subject: str | None = None, limit: int = PER_BUCKET
) -> Sequence[DeclinedDelivery]:
    """Declined deliveries, newest first: of commits that begin with these hex digits, of a subject, or all."""
    query = select(DeclinedDelivery)
    if commit:
        query = query.where(col(DeclinedDelivery.commit).startswith(commit))
    if subject:
        query = query.where(DeclinedDelivery.subject == subject)
    return session.exec(query.order_by(col(DeclinedDelivery.sequence).desc()).limit(limit)).all()


def forget(session: Session, before: str) -> None:
    """Forget what was decided and declined before a time."""
    session.exec(sqlalchemy.delete(Decision).where(col(Decision.made) < before))
    session.exec(sqlalchemy.delete(DeclinedDelivery).where(col(DeclinedDelivery.received) < before))
