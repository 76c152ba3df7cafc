"""Trainer step (`fuseml.local/mlflow-trainer:*`): runs the codeset's MLproject entry point, and outputs the model that it logged.

Equivalent to `mlflow run --env-manager local`, without importing mlflow: one MLflow run with the project's tags and parameters, the command
in a shell with this environment's Python first on the PATH, and the run closed if the command left it open.

Inputs, all optional: FUSEML_MLFLOW_EXPERIMENT (default `<project>.<codeset>`), FUSEML_MLFLOW_ENTRYPOINT (`main`),
FUSEML_MLFLOW_ENTRYPOINT_ARGS (`name=value name=value`; override FUSEML_<PARAMETER>), FUSEML_MLFLOW_ARTIFACT_PATH (`model`). Requires
MLFLOW_TRACKING_URI. Outputs: `model` and the first declared one (model URI), `metrics` (JSON object), `mlflow-run`, `model-version`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from fuseml.steps import mlproject, model_digest, sdk, tracking

_GRACE = 10  # seconds between SIGTERM and SIGKILL of the command


def main() -> None:
    """Train the codeset in the current folder."""
    signal.signal(signal.SIGTERM, _stopped)
    folder = Path.cwd()
    context = sdk.context()
    entry_point = _project(folder).entry_point(sdk.input("mlflow-entrypoint", "main"))
    values = entry_point.values(_parameters(entry_point))
    command = entry_point.command_line(_resolved(entry_point, values, folder))
    server = tracking.Tracking(os.environ)
    experiment = sdk.input("mlflow-experiment", ".".join(filter(None, (context.project, context.codeset))) or folder.name)
    experiment_id = server.experiment(experiment)
    run_id = server.start_run(experiment_id, context.run or folder.name, _tags(context, entry_point.name), entry_point.logged(values))
    sdk.say(f"MLflow run {run_id} in the experiment {experiment}")
    try:
        _execute(command, folder, {"MLFLOW_RUN_ID": run_id, "MLFLOW_EXPERIMENT_ID": experiment_id, "MLFLOW_TRACKING_URI": server.uri})
    except BaseException as error:
        try:
            _close(server, run_id, "KILLED" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "FAILED")
        except sdk.StepError as second:
            sdk.say(f"cannot close the MLflow run {run_id}: {second}")  # the first failure stays the cause
        raise
    run = _close(server, run_id, "FINISHED")
    _report(server, run_id, run, _lineage(context), _model(server, experiment_id, run_id, run))


def _stopped(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _project(folder: Path) -> mlproject.Project:
    name = mlproject.file_name(file.name for file in folder.iterdir())
    if name is None:
        raise sdk.StepError(f"no MLproject file in {folder}; add one with an entry point 'main'")
    return mlproject.parse(sdk.read_file(folder, name), name)


def _parameters(entry_point: mlproject.EntryPoint) -> dict[str, str]:
    """Parameters from step inputs of their names, overridden by the explicit ones; `values` refuses an unknown one."""
    values = {name: os.environ[sdk.variable(name)] for name in entry_point.parameters if os.environ.get(sdk.variable(name))}
    try:
        explicit = shlex.split(sdk.input("mlflow-entrypoint-args", ""))
    except ValueError as error:
        raise sdk.StepError(f"the input 'mlflow-entrypoint-args' cannot be split into arguments: {error}") from None
    for argument in explicit:
        name, sign, value = argument.partition("=")
        if not sign:
            raise sdk.StepError(
                f"the input 'mlflow-entrypoint-args' must be name=value pairs, separated by spaces; '{argument}' is not one"
            )
        values[name] = value
    return values


def _resolved(entry_point: mlproject.EntryPoint, values: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The values with each `path` as an absolute path; MLflow downloads a remote one."""
    resolved = dict(values)
    for name, parameter in entry_point.parameters.items():
        if parameter.type != "path":
            continue
        if re.match(r"\w+://", values[name]):
            target = folder / ".fuseml" / "inputs" / name
            target.mkdir(parents=True, exist_ok=True)
            download = [
                sys.executable,
                "-I",
                "-m",
                "mlflow",
                "artifacts",
                "download",
                "--artifact-uri",
                values[name],
                "--dst-path",
                str(target),
            ]
            if subprocess.run(download, stdout=subprocess.DEVNULL, check=False).returncode != 0:
                raise sdk.StepError(f"{entry_point.key}.parameters.{name}: cannot download {sdk.redact(values[name])}")
            resolved[name] = str(target / Path(urllib.parse.urlsplit(values[name]).path).name)
            continue
        path = (folder / values[name]).resolve()
        if not path.exists():
            raise sdk.StepError(f"{entry_point.key}.parameters.{name}: no file '{values[name]}' in the codeset")
        resolved[name] = str(path)
    return resolved


def _tags(context: sdk.Context, entry_point: str) -> dict[str, str]:
    source = "/".join(filter(None, (context.project, context.codeset))) or Path.cwd().name
    return {
        "mlflow.runName": context.run or Path.cwd().name,
        "mlflow.source.name": source,
        "mlflow.source.type": "PROJECT",
        "mlflow.project.entryPoint": entry_point,
        "mlflow.source.git.commit": context.commit,
        "fuseml.workflow": context.workflow,
        **_lineage(context),
    }


def _lineage(context: sdk.Context) -> dict[str, str]:
    return {
        "fuseml.run": context.run,
        "fuseml.project": context.project,
        "fuseml.codeset": context.codeset,
        "fuseml.commit": context.commit,
    }


def _execute(command: str, folder: Path, variables: Mapping[str, str]) -> None:
    """Run the command with its output in this step's log. Raises StepError if it fails; forwards a stop to it."""
    # `absolute`, not `resolve`: the interpreter of a virtual environment is a link, and the folder of the link is the right one.
    programs = str(Path(sys.executable).absolute().parent)
    environment = {**os.environ, **variables, "PATH": programs + os.pathsep + os.environ.get("PATH", os.defpath)}
    environment.setdefault("PYTHONUNBUFFERED", "1")
    sdk.say(f"running: {command}")
    started = time.monotonic()
    shell = shutil.which("bash") or "/bin/sh"
    process = subprocess.Popen([shell, "-c", command], cwd=folder, env=environment)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    spent = f"after {time.monotonic() - started:.1f} s"
    if code != 0:
        # The exception above this line is the cause of the step, unlike one above the line for success (`domain/runs/tracebacks.py`).
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise sdk.StepError(f"the training command failed with {cause} {spent}: {command}")
    sdk.say(f"the command exited with code 0 {spent}")


def _close(server: tracking.Tracking, run_id: str, status: str) -> tracking.Run:
    run = server.run(run_id)
    if run.status in ("RUNNING", "SCHEDULED"):
        server.end_run(run_id, status)
    return run


def _model(server: tracking.Tracking, experiment_id: str, run_id: str, run: tracking.Run) -> str | tracking.Version:
    """The model of the run: a registered version, else a logged model, else the artifact folder of older training code."""
    path = sdk.input("mlflow-artifact-path", "model")
    version = server.version_of(run_id)
    if version is not None:
        return version
    model_id = server.logged_model(experiment_id, run_id, path)
    if model_id is not None:
        return f"models:/{model_id}"
    if not server.has_artifact(run_id, path):
        raise sdk.StepError(
            f"the training logged no model: call mlflow.<flavour>.log_model in it, or name its artifact in the input 'mlflow-artifact-path' (now '{path}')"
        )
    return f"{run.artifact_uri}/{path}"


def _report(server: tracking.Tracking, run_id: str, run: tracking.Run, lineage: Mapping[str, str], model: str | tracking.Version) -> None:
    uri = model
    if isinstance(model, tracking.Version):
        server.tag_version(model, {**lineage, tracking.DIGEST_TAG: _digest(model.uri)})
        sdk.output("model-version", model.version)
        uri = model.uri
    sdk.output("mlflow-run", run_id)
    sdk.output("metrics", json.dumps(dict(sorted(run.metrics.items()))))
    for name in {"model", sdk.first_output("model")} - {"model-version", "mlflow-run", "metrics"}:
        sdk.output(name, str(uri))
    sdk.say(f"model: {uri}")


def _digest(uri: str) -> str:
    """The digest of the files of the model, as servers will get them; empty if they cannot be read."""
    try:
        # Imported here: it costs seconds, and only registered models need it.
        import mlflow.artifacts

        with tempfile.TemporaryDirectory() as folder:
            return model_digest.of_folder(Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder)))
    except Exception as error:  # MLflow and its stores raise many types; the model is trained, and is then served without the check
        sdk.say(f"note: no digest of {uri} is recorded, because its files cannot be read: {type(error).__name__}: {error}")
        return ""


if __name__ == "__main__":
    sdk.run(main)
