"""Deliveries of the hosts of origins: a genuine one makes the synchronisation due, and is published as `codeset.reported`."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, Literal

import sqlmodel

from functions.gitea_ingress.deps import Deps
from fuseml.domain import errors, events, inert_text
from fuseml.runtime import clock, cloudevents
from fuseml.store import codesets, decisions, webhooks
from fuseml.store import origins as stored
from fuseml.webhooks import gitea, origins, signatures

_INGRESS = "git"
_REFUSAL = "no webhook secret fits: the codeset has no origin, or the proof of the delivery is wrong"
_CHUNK = 1 << 16
_IN_MEMORY = 1 << 20
_POSITION = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_REASON = 300
_EVENT = 60


def receive(deps: Deps, project: str, codeset: str, headers: Mapping[str, str], stream: IO[bytes]) -> tuple[str | None, str | None]:
    """Returns (event id, None), or (None, the reason why the delivery was ignored).

    Raises UnauthenticatedError alike for a delivery without a valid proof and for a codeset without an origin, so that a stranger cannot find
    out which codesets there are.
    """
    if not origins.is_proved(headers):
        raise gitea.unsigned()
    with deps.store.read() as session:
        row = stored.find(session, project, codeset)
        sealed = webhooks.of_origin(session, row, clock.now()) if row else []
    if row is None:
        raise errors.UnauthenticatedError(_REFUSAL)
    report = origins.read(row.host, headers)
    try:
        with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
            _read(stream, body)
            secrets = [deps.keyring.unseal(each) for each in sealed]
            signatures.verify_any(secrets, lambda secret: origins.verify(row.host, secret, headers, _parts(body), deps.now()))
    except errors.UnauthenticatedError as error:
        with deps.store.write() as session:
            present = stored.find(session, project, codeset)
            if present is not None:
                stored.record_refusal(session, present, error.message[:_REASON], clock.now())
            _decline(session, row, report, "refused", error.message)
        raise errors.UnauthenticatedError(_REFUSAL) from error
    return _take(deps, row, report)


def _take(deps: Deps, row: stored.CodesetOrigin, report: origins.Report) -> tuple[str | None, str | None]:
    # The headers are not signed by every host: a long or odd text must not reach the id of an event, or a screen.
    name = inert_text.visible(report.event)[:_EVENT]
    position = report.delivery
    if not _POSITION.fullmatch(position):
        position = hashlib.sha256(f"{position}@{clock.now()}".encode("utf-8", "replace")).hexdigest()[:32]
    payload = events.CodesetReported(project=row.project, codeset=row.codeset, delivery=position, change=report.change)
    now = clock.now()
    with deps.store.write() as session:
        present = stored.find(session, row.project, row.codeset)
        if present is None:
            return None, "the codeset was deleted meanwhile"
        stored.record_delivery(session, present, report.change or name, now)
        if not report.change:
            reason = f"the event {name!r} of the git host: only changes of code are followed"
            _decline(session, row, report, "ignored", reason)
            return None, reason
        stored.request(session, row.project, row.codeset, now)
        enqueued = cloudevents.enqueue(session, payload, cause=(f"/webhooks/{_INGRESS}", position))
    cloudevents.relay(deps.store, deps.publisher, enqueued)
    return events.event(payload, now).id, None


def _read(stream: IO[bytes], body: IO[bytes]) -> None:
    size = 0
    while size < gitea.MAX_BODY and (part := stream.read(min(_CHUNK, gitea.MAX_BODY - size))):
        body.write(part)
        size += len(part)


def _parts(body: IO[bytes]) -> Iterator[bytes]:
    body.seek(0)
    return iter(lambda: body.read(_CHUNK), b"")


def _decline(
    session: sqlmodel.Session, row: stored.CodesetOrigin, report: origins.Report, outcome: Literal["refused", "ignored"], reason: str
) -> None:
    decisions.decline(
        session,
        clock.now(),
        ingress=_INGRESS,
        subject=f"{row.project}/{row.codeset}",
        registered=codesets.find_codeset(session, row.project, row.codeset) is not None,
        delivery=report.delivery,
        outcome=outcome,
        reason=reason,
        commit=None,
    )
