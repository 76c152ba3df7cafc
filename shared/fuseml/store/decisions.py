"""Decisions: the reason for which an event started a run, or none; and declined webhook deliveries. Later the reasons cannot be derived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import sqlalchemy
from sqlmodel import Session, col, select

from fuseml.domain import events
from fuseml.store.tables.decision_rows import Decision, DeclinedDelivery

PER_BUCKET = 100
"""Declined deliveries that are kept of each registered subject, and of all unregistered ones together: unknown senders cannot fill the disk."""

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
    outcome: Literal["", "applied", "refused"] = "",
) -> None:
    """Record a decision on an event, in its transaction: the reason for which `run` (a name) was started, or for which none was.

    `outcome` says that a source was applied, or that it was not; such a decision is about no run.
    """
    row = Decision(source=event.source, event=event.id, workflow=workflow, run=run, reason=reason, outcome=outcome, commit=commit, made=now)
    session.add(row)


def of_event(session: Session, source: str, id: str) -> Sequence[Decision]:
    """The decisions on the event, oldest first."""
    query = select(Decision).where(Decision.source == source, Decision.event == id)
    return session.exec(query.order_by(col(Decision.sequence))).all()


def of_commit(session: Session, prefix: str) -> Sequence[Decision]:
    """The decisions about commits that begin with these hex digits, oldest first."""
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
    """Record a webhook delivery that became no event. Long texts are cut; of a bucket, only the newest `PER_BUCKET` rows are kept."""
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
    """Delete the decisions and declined deliveries from before a time."""
    session.exec(sqlalchemy.delete(Decision).where(col(Decision.made) < before))
    session.exec(sqlalchemy.delete(DeclinedDelivery).where(col(DeclinedDelivery.received) < before))
