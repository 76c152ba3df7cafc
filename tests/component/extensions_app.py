"""The application of the registry with its own database, for tests over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import flask
from werkzeug.serving import make_server

from functions.extensions.app import create_app
from functions.extensions.deps import Deps
from fuseml.domain.workflows import Workflow
from fuseml.runtime import auth, clock, secrets
from fuseml.store import database, workflows
from tests import databases
from tests.component import endpoint


class Registry:
    """The application with its database; `published` records its events."""

    def __init__(self, folder: Path, store: database.Database | None = None) -> None:
        self.store = store or databases.on_sqlite(folder / "registry.db")
        self.published = endpoint.Publisher()
        self.keyring = secrets.Keyring([secrets.new_key()])
        self.app: flask.Flask = create_app(
            Deps(store=self.store, publisher=self.published, keyring=self.keyring, tokens=auth.Tokens({}, anonymous=True))
        )
        self.client = self.app.test_client()

    def add_workflow(self, name: str, *selectors: Mapping[str, Any], assigned: str | None = "code://demo/code") -> None:
        """Store a workflow of one step, `trainer`, assigned to a pattern unless that is None."""
        self.add_steps(name, {"name": "trainer", "image": "trainer:1", "extensions": list(selectors)}, assigned=assigned)

    def add_steps(self, name: str, *steps: Mapping[str, Any], assigned: str | None = "code://demo/code") -> None:
        """Store a workflow of these steps."""
        document = Workflow.model_validate({"name": name, "steps": list(steps)})
        with self.store.write() as session:
            workflows.add(session, name, document.model_dump(mode="json", by_alias=True, exclude_defaults=True), clock.now())
            if assigned:
                workflows.assign(session, f"{name}:{assigned}", name, assigned, clock.now())


@contextmanager
def serve(app: flask.Flask) -> Iterator[str]:
    """Serve the application on a free local port; yields its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
