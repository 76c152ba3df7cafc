"""How far jobs have come that look at times: what one has looked at, no other looks at again."""

from __future__ import annotations

from sqlmodel import Session

from fuseml.store.tables import watermark_rows


def move(session: Session, job: str, now: str) -> str | None:
    """Look from the last moment on up to `now`. Returns that last moment; None when there was none, or it is not before `now`."""
    row = session.get(watermark_rows.Watermark, job)
    before = row.moment if row else None
    if before is None or before < now:
        row = row or watermark_rows.Watermark(job=job, moment=now)
        row.moment = now
        session.add(row)
        return before
    return None
