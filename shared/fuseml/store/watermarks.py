"""High-water marks of time-driven jobs: each interval is processed once. Beside moments, positions in what other systems record."""

from __future__ import annotations

from collections.abc import Iterable

import sqlmodel
from sqlmodel import Session, col

from fuseml.store.tables import watermark_rows


def get(session: Session, job: str) -> str | None:
    """The job's watermark, or None."""
    row = session.get(watermark_rows.Watermark, job)
    return row.moment if row else None


def move(session: Session, job: str, now: str) -> str | None:
    """Move the job's watermark to `now`. Returns the former one; None when there was none, or when it is not before `now`."""
    row = session.get(watermark_rows.Watermark, job)
    before = row.moment if row else None
    if before is None or before < now:
        row = row or watermark_rows.Watermark(job=job, moment=now)
        row.moment = now
        session.add(row)
        return before
    return None


def positions(session: Session, prefix: str) -> dict[str, str]:
    """Job -> position, of the jobs whose names begin with `prefix`."""
    row = watermark_rows.Watermark
    query = sqlmodel.select(row).where(col(row.job).startswith(prefix, autoescape=True))
    return {found.job: found.moment for found in session.exec(query)}


def put(session: Session, job: str, position: str, former: str | None) -> bool:
    """Store the position of a job in place of the `former` one. False, without effect, where another one was stored meanwhile."""
    row = session.get(watermark_rows.Watermark, job)
    if (row.moment if row else None) != former:
        return False
    row = row or watermark_rows.Watermark(job=job, moment=position)
    row.moment = position
    session.add(row)
    return True


def forget(session: Session, jobs: Iterable[str]) -> None:
    """Remove the watermarks of jobs that have ended for good."""
    for job in jobs:
        row = session.get(watermark_rows.Watermark, job)
        if row is not None:
            session.delete(row)
