"""Starts another model server than FuseML's own on one model: MLServer, or MLflow's scoring server.

    python -m fuseml.steps.other_server --server mlserver --model models:/diabetes/3 --name diabetes --port 8080

It downloads the model as FuseML's own does, checks its digest, writes the configuration of the server, and becomes the server: the program must
be in the environment. Raises StepError for a model that cannot be downloaded, and a server that is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

from fuseml.steps import loaded_model, sdk

_RUNTIMES = {
    "mlflow": "mlserver_mlflow.MLflowRuntime",
    "sklearn": "mlserver_sklearn.SKLearnModel",
    "xgboost": "mlserver_xgboost.XGBoostModel",
    "lightgbm": "mlserver_lightgbm.LightGBMModel",
}
"""Format of a model -> the class of MLServer that serves it."""


def main(arguments: list[str] | None = None) -> None:
    """Download the model, and become its server."""
    parser = argparse.ArgumentParser(prog="python -m fuseml.steps.other_server", description="Start another model server on one model.")
    parser.add_argument("--server", required=True, choices=("mlserver", "mlflow"), help="the model server")
    parser.add_argument("--model", required=True, help="model URI, e.g. models:/diabetes/3; MLFLOW_TRACKING_URI is its server")
    parser.add_argument("--format", default="mlflow", choices=tuple(_RUNTIMES), help="the format of its files (default: %(default)s)")
    parser.add_argument("--name", required=True, help="the model's name in /v2/models/<name>")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--patience", type=float, default=60.0, help="seconds in which an unreachable tracking server is tried again (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    runtime = _RUNTIMES[options.format]
    modules = ("mlserver", runtime.partition(".")[0]) if options.server == "mlserver" else ("mlflow",)
    absent = [name.replace("_", "-") for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise sdk.StepError(
            f"the environment of the model has no {' and '.join(absent)}: add it to the codeset's requirements, or name another model server"
        )
    # Out of the environment: the model's code must not use it.
    folder = loaded_model.fetch(options.model, os.environ.pop("FUSEML_MODEL_DIGEST", ""), options.patience)
    os.environ["PATH"] = sdk.search_path()  # MLflow starts a program by its name
    if options.server == "mlflow":
        serve = ["-m", "mlflow", "models", "serve", "--model-uri", str(folder), "--env-manager", "local"]
        _become([*serve, "--host", options.host, "--port", str(options.port)])
    configured = Path(tempfile.mkdtemp(prefix="mlserver-"))
    settings = {
        "host": options.host,
        "http_port": options.port,
        "grpc_port": 0,  # MLServer cannot do without; a free one
        "metrics_endpoint": None,
        # In this process: a worker would load a second copy of the model.
        "parallel_workers": 0,
        "debug": False,
    }
    model = {
        "name": options.name,
        "implementation": runtime,
        "parameters": {"uri": str(folder), "version": loaded_model.version(options.model)},
    }
    (configured / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (configured / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    os.chdir(configured)  # MLServer makes folders in the working folder
    _become(["-c", "from mlserver.cli import main; main()", "start", str(configured)])


def _become(arguments: list[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # As this process was started: a codeset's module must not shadow one of the server.
    flags = [flag for flag, given in (("-I", sys.flags.isolated), ("-P", getattr(sys.flags, "safe_path", False))) if given]
    os.execv(sys.executable, [sys.executable, *flags, *arguments])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    sdk.run(main)
