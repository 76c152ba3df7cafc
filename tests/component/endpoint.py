"""An event endpoint and a broker for tests, with behaviour that a test sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlmodel
from flask.testing import FlaskClient

from fuseml.domain import errors, events
from fuseml.runtime import catalog, cloudevents, http
from fuseml.store import codesets, database
from fuseml.store.tables import codeset_rows
from tests import event_keys

NOON = "2026-11-21T12:00:00.000000Z"
REGISTERED = events.event(events.CodesetRegistered(project="demo", codeset="diabetes", url="http://x"), NOON)


class Publisher:
    """Accepts events while it is `up`, except those with ids in `refused`."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self.up, self.refused = True, set[str]()

    def publish(self, event: events.Event) -> None:
        if event.id in self.refused:
            raise errors.PermanentError("the broker refused it")
        if not self.up:
            raise errors.TemporaryError("the broker is away")
        self.events.append(event)


class Function:
    """An event endpoint. Its handler makes a project named by the event, and then returns `payloads` or raises `trouble`.

    The handler of `informed.*` needs `facts`; without them it is a TemporaryError to ask for them.
    """

    def __init__(self, store: database.Database, publisher: cloudevents.Publisher) -> None:
        self.store = store
        self.payloads: Sequence[events.Payload] = ()
        self.trouble: Exception | None = None
        self.trouble_after: Exception | None = None
        self.afters: list[str] = []
        self.facts: str | None = "known"
        api = http.Api("function", "A function", tokens=None)
        handlers: dict[str, cloudevents.Handler | cloudevents.Informed[str]] = {
            REGISTERED.type: self._handle,
            "dev.tekton.event.*": self._handle,
            "informed.*": cloudevents.Informed(self._ask, lambda session, event, _: self._handle(session, event)),
        }
        cloudevents.Receiver(api, store, publisher, event_keys.SIGNER, handlers, self._after)
        self.client: FlaskClient = api.app.test_client()

    def _handle(self, session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
        codesets.create_project(session, event.id, "", NOON)
        if self.trouble is not None:
            raise self.trouble
        return self.payloads

    def _ask(self, event: events.Event) -> str:
        if self.facts is None:
            raise errors.TemporaryError(f"the facts about {event.id} are away")
        return self.facts

    def _after(self, event: events.Event) -> None:
        self.afters.append(event.id)
        if self.trouble_after is not None:
            raise self.trouble_after

    def deliver(self, event: events.Event = REGISTERED) -> Any:
        headers, body = event_keys.encode(event)
        return self.client.post(catalog.EVENTS, headers=headers, data=body)

    def effects(self) -> int:
        return count(self.store, codeset_rows.Project)


def count(store: database.Database, table: type[sqlmodel.SQLModel]) -> int:
    with store.read() as session:
        return session.exec(sqlmodel.select(sqlmodel.func.count()).select_from(table)).one()
