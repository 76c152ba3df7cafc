"""High-water marks of time-driven jobs: each interval is processed once."""

from __future__ import annotations

from sqlmodel import Session

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
