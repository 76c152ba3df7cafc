"""The two event endpoints: one records every event, the other the deliveries that a broker gave up.

Neither validates the event: one that no consumer understands must not get lost. Recording is idempotent by itself, so it needs no
record of handled events.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import urllib.parse
from collections.abc import Callable

import flask
import sqlmodel

from fuseml.domain import events
from fuseml.runtime import catalog, clock, cloudevents, http
from fuseml.store import database, deliveries, ledger

# Extensions of a dead letter on Knative: address, status and truncated Base64 body of the response (infra/platform-facts.md 3.2).
_DESTINATION, _CODE, _DATA = "knativeerrordest", "knativeerrorcode", "knativeerrordata"


def register(api: http.Api, store: database.Database) -> None:
    """Add both endpoints. Failures have the statuses of `http`; a broker retries 500 and 503."""

    def endpoint(record: Callable[[sqlmodel.Session, events.Event], None]) -> Callable[[], flask.Response]:
        def view() -> flask.Response:
            event = cloudevents.decode(dict(flask.request.headers), flask.request.get_data())
            with store.write() as session:
                record(session, event)
            return flask.Response(status=204)

        return view

    api.internal(catalog.EVENTS, "event", endpoint(_record), methods=["POST"])
    api.internal(catalog.DEAD_LETTERS, "dead_letter", endpoint(_record_dead_letter), methods=["POST"])


def _record(session: sqlmodel.Session, event: events.Event) -> None:
    deliveries.accept(session, event, [], clock.now(), 0)


def _record_dead_letter(session: sqlmodel.Session, event: events.Event) -> None:
    extensions = dict(event.extensions)
    destination, code, data = (extensions.pop(name, "") for name in (_DESTINATION, _CODE, _DATA))
    cause = ": ".join(part for part in (f"status {code}" if code else "", _text(data)) if part)
    original = dataclasses.replace(event, extensions=extensions)
    ledger.record_dead_letter(session, original, consumer(destination), cause or "no cause reported", clock.now())


def consumer(destination: str) -> str:
    """Name of the consumer at an address: Knative's broker reports its filter's path `/triggers/NAMESPACE/NAME/UID`, others the service's host."""
    parts = urllib.parse.urlsplit(destination)
    trigger = re.match(r"/triggers/[^/]+/([^/]+)", parts.path)
    return trigger[1] if trigger else (parts.hostname or "unknown").partition(".")[0]


def _text(data: str) -> str:
    try:
        # A truncated text may end within a group of four.
        return base64.b64decode(data[: len(data) // 4 * 4], validate=True).decode(errors="replace").strip()
    except binascii.Error:
        return data
