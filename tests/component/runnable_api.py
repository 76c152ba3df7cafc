"""The function `runnables` over a database with two projects, and the events that it publishes."""

from __future__ import annotations

import json
import urllib.parse
from typing import Any

import werkzeug.test

from functions.runnables import app as runnables_app
from functions.runnables import deps as runnables_deps
from fuseml.domain import errors, events
from fuseml.runtime import auth, catalog
from fuseml.store import codesets, database, outbox

NOON = "2026-11-21T12:00:00.000000Z"


class Runnables:
    """`published` are the events, in order. While `away` no broker accepts any."""

    def __init__(self, store: database.Database, *, new: bool = True) -> None:
        self.store, self.published, self.away = store, list[events.Event](), False
        tokens = auth.Tokens({auth.digest_of("ada"): auth.Caller("ada", "admin")})
        self.client = runnables_app.create_app(runnables_deps.Deps(store=store, publisher=self, tokens=tokens)).test_client()
        if new:
            store.migrate()
            with store.write() as session:
                for name in ("demo", "other"):
                    codesets.create_project(session, name, "", NOON)

    def publish(self, event: events.Event) -> None:
        if self.away:
            raise errors.TemporaryError("the broker is away")
        self.published.append(event)

    def pending(self) -> int:
        """Events that no broker has accepted."""
        with self.store.read() as session:
            return len(outbox.pending(session, 0, 100))

    def call(self, method: str, target: str, body: object = None, *, status: int = 200) -> Any:
        """The document of an answer with this status."""
        answer = self.answer(method, target, body)
        assert answer.status_code == status, answer.text
        return json.loads(answer.text) if answer.text else None

    def answer(self, method: str, target: str, body: object = None) -> werkzeug.test.TestResponse:
        headers = {"Authorization": "Bearer ada", catalog.CLIENT: "tests"}
        if isinstance(body, str):
            return self.client.open(target, method=method, data=body, headers={**headers, "Content-Type": "application/yaml"})
        return self.client.open(target, method=method, json=body, headers=headers)

    def register(self, name: str, version: str = "1.0.0", *, project: str = "demo", status: int = 201, **fields: object) -> Any:
        document = {"name": name, "version": version, "image": "registry.example.com/step:1", **fields}
        return self.call("POST", f"/runnables?project={project}", document, status=status)

    def listed(self, **filters: str) -> list[str]:
        """The addresses of all pages; of built-in runnables the names."""
        target, found = f"/runnables?{urllib.parse.urlencode(filters)}", list[str]()
        while target:
            answer = self.answer("GET", target)
            assert answer.status_code == 200, answer.text
            found += (item["name"] if item["built_in"] else item["address"] for item in json.loads(answer.text))
            target = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
        return found

    def types(self) -> list[str]:
        """The short types of the published events."""
        return [event.type.removeprefix(events.PREFIX).removesuffix(".v1") for event in self.published]
