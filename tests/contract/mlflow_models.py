"""An MLflow server of this machine that pods on a cluster reach, with two versions of a model."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import commands, waiting

_HOST = os.environ.get("FUSEML_TEST_HOST", "host.local")


@contextlib.contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """The address, as pods see it, of an MLflow server with two versions of the model `tiny`."""
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "0.0.0.0", "--port", str(port), "--workers", "1", "--allowed-hosts", "*"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(command, env={**bare, "MLFLOW_DISABLE_TELEMETRY": "true"}, stdout=log, stderr=log, start_new_session=True)
    try:
        here = f"http://127.0.0.1:{port}"
        waiting.wait_until_ready(server, lambda: waiting.answers(f"{here}/health"), "MLflow", (folder / "mlflow.log").read_text)
        commands.python(_TRAIN, here, environment=bare)
        yield f"http://{_HOST}:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(waiting.PATIENCE)


# Each version is known by the constant that it predicts.
_TRAIN = """
import mlflow, numpy, sys
from sklearn.dummy import DummyRegressor
mlflow.set_tracking_uri(sys.argv[1])
x = numpy.array([[0.0], [1.0]])
for answer in (1.0, 2.0):
    with mlflow.start_run():
        model = DummyRegressor(strategy="constant", constant=answer).fit(x, [0.0, 1.0])
        mlflow.sklearn.log_model(model, name="model", registered_model_name="tiny", input_example=x)
"""
