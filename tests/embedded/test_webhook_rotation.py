"""Webhook secrets of a running server are replaced, and so are the keys that seal them: every push and every model is still told."""

from __future__ import annotations

import pathlib
import sqlite3
import time

import urllib3

from tests.embedded import server as embedded


def test_pushes_and_models_are_told_before_and_after_every_rotation(tmp_path: pathlib.Path) -> None:
    with embedded.running(tmp_path / "home") as server:
        registered = server.post("/codesets?project=p&name=code")
        checkout = embedded.Checkout(tmp_path / "code", registered["codeset"]["url"], registered["username"], registered["password"])

        def mlflow() -> str:
            return str(server.get("/readyz")["components"]["mlflow"].get("url", ""))

        embedded.wait_for(lambda: server.get("/readyz")["components"]["mlflow"]["status"] == "ready", 180, "MLflow to be ready")

        def push(number: int) -> None:
            commit = checkout.push(f"number {number}")
            embedded.wait_for(lambda: _ids(server, f"codeset.pushed:p/code:refs/heads/main@{commit}") == 1, 30, "the push to be told")

        def register(number: int) -> None:
            api = f"{mlflow()}/api/2.0/mlflow"
            if number == 1:
                urllib3.request("POST", f"{api}/registered-models/create", json={"name": "m"})
            made = urllib3.request("POST", f"{api}/model-versions/create", json={"name": "m", "source": "s3://b/m"})
            assert made.status == 200, made.data
            embedded.wait_for(lambda: _ids(server, f"model.registered:m/{number}:registered") == 1, 30, "the model to be told")

        push(1)
        register(1)
        # Without an endpoint: what is told below, webhooks told.
        server.post("/extensions", {"id": "mlflow", "services": [{"id": "tracking", "resource": "mlflow-tracking"}]})
        first = server.post("/extensions/mlflow/webhook?rotate=true")
        server.post("/codesets/p/code/webhook")
        push(2)
        register(2)
        server.post("/extensions/secrets/rotate")
        push(3)
        register(3)
        # The embedded MLflow was told of the new secret by now.
        time.sleep(7)
        register(4)
        assert len(first["secret"]) == 64
        assert first["secret"] not in str(server.get("/extensions/mlflow"))


def _ids(server: embedded.Server, prefix: str) -> int:
    """How many events of the ledger have an id that begins so."""
    with sqlite3.connect(server.home / "fuseml.db") as database:
        rows = database.execute("SELECT id FROM ledger_event").fetchall()
    return sum(id.startswith(prefix) for (id,) in rows)
