"""The function `pipelines` over a database with two projects, and the events that it publishes."""

from __future__ import annotations

import json
from typing import Any

from functions.pipelines import app as pipelines_app
from functions.pipelines import deps as pipelines_deps
from fuseml.domain import errors, events
from fuseml.domain.runnables import descriptor
from fuseml.runtime import auth, secrets
from fuseml.store import codesets, database, workflows
from fuseml.store.tables import codeset_rows
from fuseml.usecases import runnables

NOON = "2026-11-21T12:00:00.000000Z"


class Pipelines:
    """`published` are the events, in order. While `away` no broker accepts any."""

    def __init__(self, store: database.Database) -> None:
        self.store, self.published, self.away = store, list[events.Event](), False
        self.keyring = secrets.Keyring([secrets.new_key()])
        tokens = auth.Tokens({auth.digest_of("the-token"): auth.Caller("ada", "admin")})
        deps = pipelines_deps.Deps(store=store, publisher=self, keyring=self.keyring, tokens=tokens)
        self.client = pipelines_app.create_app(deps).test_client()
        with store.write() as session:
            for name in ("demo", "other"):
                codesets.create_project(session, name, "", NOON)
            row = codeset_rows.Codeset(
                project="demo", name="diabetes", url="http://git/demo/diabetes.git", webhook_secret="x", created=NOON
            )
            codesets.add_codeset(session, row)

    def publish(self, event: events.Event) -> None:
        if self.away:
            raise errors.TemporaryError("the broker is away")
        self.published.append(event)

    def types(self) -> list[str]:
        """The short types of the published events."""
        return [event.type.removeprefix(events.PREFIX).removesuffix(".v1") for event in self.published]

    def call(self, method: str, target: str, body: object = None, *, status: int = 200) -> Any:
        """The document of an answer with this status."""
        answer = self.client.open(target, method=method, json=body, headers={"Authorization": "Bearer the-token"})
        assert answer.status_code == status, answer.text
        return json.loads(answer.text) if answer.text else None

    def add(self, template: str, name: str, *, project: str = "demo", status: int = 201, **inputs: str) -> Any:
        body = {"template": template, "name": name, "project": project, "inputs": inputs}
        return self.call("POST", "/pipelines", body, status=status)

    def compose(self, *named: str, status: int = 200, **more: object) -> Any:
        return self.call("POST", "/pipelines/compose", {"name": "train", "runnables": named, **more}, status=status)

    def register(self, project: str, **fields: object) -> None:
        runnable = descriptor.Runnable.model_validate({"version": "1.0.0", "image": "registry.example.com/step:1", **fields})
        with self.store.write() as session:
            runnables.register(session, project, runnable, by="ada")

    def state(self) -> tuple[list[str], list[tuple[str, str]], list[str]]:
        """The workflows, the assignments and the events."""
        with self.store.read() as session:
            rows = list(workflows.assignments(session))
            names = [name for name in ("w", "train", "serve") if not workflows.is_deleted(session, name)]
        return names, [(row.workflow, row.pattern) for row in rows], self.types()
