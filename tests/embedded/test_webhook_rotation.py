"""Rotation of webhook secrets and sealing keys of a running server: no push and no model gets lost."""

from __future__ import annotations

import pathlib
import sqlite3

import urllib3

from tests.embedded import servers
from tests.waiting import wait_until


def test_pushes_and_models_are_published_before_and_after_every_rotation(tmp_path: pathlib.Path) -> None:
    with servers.running(tmp_path / "home") as server:
        registered = server.post("/codesets?project=p&name=code")
        checkout = servers.Checkout(tmp_path / "code", registered["codeset"]["url"], registered["username"], registered["password"])

        own = {"Authorization": f"Bearer {server.token}"}

        def mlflow() -> str:
            return str(server.get("/readyz")["components"]["mlflow"].get("url", ""))

        def webhooks() -> set[str]:
            listed = urllib3.request("GET", f"{mlflow()}/api/2.0/mlflow/webhooks", headers=own).json()
            return {webhook["webhook_id"] for webhook in listed.get("webhooks", [])}

        server.tracking_ready()

        def push(number: int) -> None:
            commit = checkout.push(f"number {number}")
            wait_until(lambda: _ids(server, f"codeset.pushed:p/code:refs/heads/main@{commit}") == 1, "the event of the push")

        def register(number: int) -> None:
            api = f"{mlflow()}/api/2.0/mlflow"
            if number == 1:
                urllib3.request("POST", f"{api}/registered-models/create", json={"name": "m"}, headers=own)
            made = urllib3.request("POST", f"{api}/model-versions/create", json={"name": "m", "source": "s3://b/m"}, headers=own)
            assert made.status == 200, made.data
            wait_until(lambda: _ids(server, f"model.registered:m/{number}:registered") == 1, "the event of the model")

        push(1)
        register(1)
        # Without an endpoint: the events below come from webhooks.
        server.post("/extensions", {"id": "mlflow", "services": [{"id": "tracking", "resource": "mlflow-tracking"}]})
        before = webhooks()
        first = server.post("/extensions/mlflow/webhook?rotate=true")
        server.post("/codesets/p/code/webhook")
        push(2)
        register(2)
        server.post("/extensions/secrets/rotate")
        push(3)
        register(3)
        wait_until(lambda: webhooks() and not webhooks() & before, "the embedded MLflow to sign with the new secret")
        register(4)
        assert len(first["secret"]) == 64
        assert first["secret"] not in str(server.get("/extensions/mlflow"))


def _ids(server: servers.Server, prefix: str) -> int:
    """The number of events of the ledger whose id has the prefix."""
    with sqlite3.connect(server.home / "fuseml.db") as database:
        rows = database.execute("SELECT id FROM ledger_event").fetchall()
    return sum(id.startswith(prefix) for (id,) in rows)
