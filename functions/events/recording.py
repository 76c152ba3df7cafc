"""The two event endpoints: every event goes to `/`, what a broker has given up to `/dead-letters`.

Both write down what they get and check nothing of it: an event that no consumer understands is just what must not get lost. Writing
is idempotent by itself, so no record of handled events is kept here.
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
from fuseml.runtime import clock, cloudevents, http
from fuseml.store import database, deliveries, ledger

DEAD_LETTERS = "/dead-letters"

# What Knative adds to a dead letter: the address, the status, the answer's body in Base64, cut (infra/platform-facts.md 3.2).
_DESTINATION, _CODE, _DATA = "knativeerrordest", "knativeerrorcode", "knativeerrordata"


def register(api: http.Api, store: database.Database) -> None:
    """Take events at `/` and `/dead-letters`. Failures have the statuses of `http`, of which a broker repeats 503 and 500."""

    def taking(record: Callable[[sqlmodel.Session, events.Event], None]) -> Callable[[], flask.Response]:
        def view() -> flask.Response:
            event = cloudevents.decode(dict(flask.request.headers), flask.request.get_data())
            with store.write() as session:
                record(session, event)
            return flask.Response(status=204)

        return view

    api.app.add_url_rule("/", "event", taking(_record), methods=["POST"])
    api.app.add_url_rule(DEAD_LETTERS, "dead_letter", taking(_record_dead_letter), methods=["POST"])


def _record(session: sqlmodel.Session, event: events.Event) -> None:
    deliveries.accept(session, event, [], clock.now(), 0)


def _record_dead_letter(session: sqlmodel.Session, event: events.Event) -> None:
    told = event.extensions
    original = dataclasses.replace(event, extensions={name: told[name] for name in told if name not in (_DESTINATION, _CODE, _DATA)})
    code, answer = told.get(_CODE, ""), _text(told.get(_DATA, ""))
    cause = ": ".join(part for part in (f"status {code}" if code else "", answer) if part)
    ledger.record_dead_letter(session, original, consumer(told.get(_DESTINATION, "")), cause or "no cause was told", clock.now())


def consumer(destination: str) -> str:
    """Whose address this is: Knative's broker names its filter's path `/triggers/NAMESPACE/NAME/UID`, other brokers the service's host."""
    parts = urllib.parse.urlsplit(destination)
    trigger = re.match(r"/triggers/[^/]+/([^/]+)", parts.path)
    return trigger[1] if trigger else (parts.hostname or "unknown").partition(".")[0]


def _text(data: str) -> str:
    try:
        # What was cut to a length may end within a group of four.
        return base64.b64decode(data[: len(data) // 4 * 4], validate=True).decode(errors="replace").strip()
    except binascii.Error:
        return data
