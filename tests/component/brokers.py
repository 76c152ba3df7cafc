"""Knative's broker for tests: the embedded one with its own queue, which receives events over HTTP and delivers them to `pods`."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3
from werkzeug import Request, Response

from fuseml.domain import errors
from fuseml.embedded import broker, chaos, redelivery, triggers
from fuseml.runtime import catalog, cloudevents
from fuseml.store import deliveries
from tests import databases, yaml_files

from . import pods


def production_triggers() -> list[triggers.Trigger]:
    """All of them, also the trigger of the ledger, which the embedded server leaves out."""
    contract = triggers.contract_folder()
    default = redelivery.of_broker(contract / "broker.yaml")
    ledger = yaml_files.document(contract / "triggers" / "events.yaml")
    return [*triggers.load(contract / "triggers", default), triggers._read(ledger, default)]


class Queue:
    """The broker: receives events at its address and delivers them to `pods`. Its queue is on its own disk."""

    def __init__(self, folder: pathlib.Path, trouble: chaos.Chaos) -> None:
        self._store = databases.on_sqlite(folder / "broker.db")
        self.pods = pods.Pods((), 0, {}, folder)
        production = production_triggers()
        self.broker = broker.Broker(
            self._store, production, {trigger.subscriber: self._subscriber(trigger.subscriber) for trigger in production}, chaos=trouble
        )

    def _subscriber(self, service: str) -> broker.Subscriber:
        def deliver(headers: Mapping[str, str], body: bytes) -> broker.Answer:
            try:
                return self.pods.send(service.replace("-", "_"), "POST", catalog.EVENTS, body, headers)
            except urllib3.exceptions.HTTPError as error:
                return broker.Answer(503, {}, type(error).__name__.encode())

        return deliver

    def take(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        try:
            self.broker.publish(cloudevents.decode(dict(request.headers), request.get_data()))
        except errors.TemporaryError as error:
            return Response(error.message, 503)(environ, start_response)
        except errors.PermanentError as error:
            return Response(error.message, 400)(environ, start_response)
        return Response(status=202)(environ, start_response)

    def facts(self) -> dict[str, int]:
        with self._store.read() as session:
            return {state: deliveries.count(session, state) for state in ("pending", "dead")}

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.broker.start()
        try:
            yield
        finally:
            self.broker.stop()
            self._store.close()
