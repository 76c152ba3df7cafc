"""The two event endpoints: one records every event, the other the deliveries that a broker gave up.

Neither validates the data of an event: one that no consumer understands must not get lost. An event of FuseML's types without a valid
signature is refused at the first, so that it becomes a dead letter, and recorded as a dead letter under a source of its own. Recording is
idempotent by itself, so it needs no record of handled events.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import logging
import re
import urllib.parse

import flask
import sqlmodel

from fuseml.domain import errors, events, signature
from fuseml.runtime import catalog, clock, cloudevents, http, signing
from fuseml.runtime.telemetry import handling, metrics
from fuseml.store import database, deliveries, ledger

UNPROVEN_BOUND = 1_000
"""The number of dead letters without a valid signature that the ledger keeps: everyone in the cluster can send them."""

_log = logging.getLogger("fuseml.events")
# Extensions of a dead letter on Knative: address, status and truncated Base64 body of the response (infra/platform-facts.md 3.2).
_DESTINATION, _CODE, _DATA = "knativeerrordest", "knativeerrorcode", "knativeerrordata"


def register(api: http.Api, store: database.Database, signer: signing.Signer) -> None:
    """Add both endpoints. Failures have the statuses of `http`; a broker retries 500 and 503."""

    def record() -> flask.Response:
        event = _decode()
        try:
            signer.check(event)
        except errors.UnauthenticatedError as error:
            _count(event, "unsigned")
            # Not its status for clients, 401: the answer is for brokers.
            raise errors.PermanentError(error.message) from error
        with store.write() as session:
            deliveries.accept(session, signature.detach(event), [], clock.now(), 0)
        return flask.Response(status=204)

    def record_dead_letter() -> flask.Response:
        event = _decode()
        try:
            signer.check(event)
        except errors.UnauthenticatedError:
            _count(event, "unsigned")
            event = signature.unproven(event)
        with store.write() as session:
            if (
                event.source.startswith(signature.UNPROVEN)
                and ledger.count_of(session, signature.UNPROVEN, UNPROVEN_BOUND) >= UNPROVEN_BOUND
            ):
                _log.warning(
                    "the dead letter %s %s is not recorded: %d without a valid signature are", event.type, event.id, UNPROVEN_BOUND
                )
            else:
                _record_dead_letter(session, event)
        return flask.Response(status=204)

    api.internal(catalog.EVENTS, "event", record, methods=["POST"])
    api.internal(catalog.DEAD_LETTERS, "dead_letter", record_dead_letter, methods=["POST"])


def _decode() -> events.Event:
    return cloudevents.decode(dict(flask.request.headers), flask.request.get_data())


def _count(event: events.Event, outcome: handling.Outcome) -> None:
    metrics.EVENTS.count("events", handling.label(event.type), outcome)


def _record_dead_letter(session: sqlmodel.Session, event: events.Event) -> None:
    extensions = dict(signature.detach(event).extensions)
    destination, code, data = (extensions.pop(name, "") for name in (_DESTINATION, _CODE, _DATA))
    cause = ": ".join(part for part in (f"status {code}" if code else "", _text(data)) if part)
    original = dataclasses.replace(event, extensions=extensions)
    ledger.record_dead_letter(session, original, consumer(destination), cause or "no cause reported", clock.now())


def consumer(destination: str) -> str:
    """Name of the consumer at an address: Knative's broker reports its filter's path `/triggers/NAMESPACE/NAME/UID`, others the service's
    host.
    """
    parts = urllib.parse.urlsplit(destination)
    trigger = re.match(r"/triggers/[^/]+/([^/]+)", parts.path)
    return trigger[1] if trigger else (parts.hostname or "unknown").partition(".")[0]


def _text(data: str) -> str:
    try:
        # A truncated text may end within a group of four.
        return base64.b64decode(data[: len(data) // 4 * 4], validate=True).decode(errors="replace").strip()
    except binascii.Error:
        return data
