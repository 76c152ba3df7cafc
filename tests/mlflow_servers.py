"""Real MLflow servers for tests, and models that are logged by the REST API: importing `mlflow` costs seconds."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3

from fuseml.embedded import tracking_app
from tests.waiting import PATIENCE, answers, wait_until_ready

_SERVE = """
import sys
from fuseml.steps import loading
with loading.kept():
    import uvicorn
    from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores
    initialize_backend_stores()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
"""
"""What the two processes of `mlflow server` do, one after the other, in one process: half of the time."""

_POOL = urllib3.PoolManager(retries=False)


@contextlib.contextmanager
def server(home: Path) -> Iterator[str]:
    """The URL of a server on SQLite and a folder of its own, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    options = tracking_app.options(f"sqlite:///{home}/mlflow.db", home / "artifacts", "")
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(port)],
            env={**bare, **options, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(process, lambda: answers(f"{url}/health"), "MLflow", (home / "log").read_text)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def call(url: str, method: str, path: str, data: Mapping[str, object]) -> Any:
    """The answer of the REST API."""
    answer = _POOL.request(method, f"{url}/api/2.0/mlflow/{path}", json=dict(data), timeout=PATIENCE)
    assert answer.status == 200, answer.data
    return json.loads(answer.data)


def log(url: str, files: Mapping[str, bytes], *, tags: Mapping[str, str] | None = None) -> str:
    """The id of a new logged model with these files, of a new run with these tags."""
    pairs = [{"key": key, "value": value} for key, value in (tags or {}).items()]
    run = call(url, "POST", "runs/create", {"experiment_id": "0", "tags": pairs})["run"]["info"]["run_id"]
    info = call(url, "POST", "logged-models", {"experiment_id": "0", "name": "model", "source_run_id": run})["model"]["info"]
    folder = info["artifact_uri"].removeprefix("mlflow-artifacts:").strip("/")
    for path, data in files.items():
        place = f"{url}/api/2.0/mlflow-artifacts/artifacts/{folder}/{urllib.parse.quote(path)}"
        assert _POOL.request("PUT", place, body=data, timeout=PATIENCE).status == 200
    call(url, "PATCH", f"logged-models/{info['model_id']}", {"model_id": info["model_id"], "status": "LOGGED_MODEL_READY"})
    return str(info["model_id"])
