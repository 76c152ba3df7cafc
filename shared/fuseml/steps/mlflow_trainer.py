"""Trainer step (`fuseml.local/mlflow-trainer:*`): runs the codeset's training, and outputs the model that it logged.

For an MLproject it is equivalent to `mlflow run --env-manager local`, without importing mlflow: one MLflow run with the project's tags and
parameters, the command in a shell with this environment's Python first on the PATH, and the run closed if the command left it open. `training`
chooses the program, `logged_models` the model.

Inputs, all optional: FUSEML_ENTRYPOINT (an entry point, file or command), FUSEML_PARAMETERS (`name=value name=value`), FUSEML_<PARAMETER> for
a declared one, FUSEML_MODEL (a name, or `none`), FUSEML_METRIC (`max:r2`), FUSEML_DATA (DVC
files to fetch, or `pull` for all), FUSEML_MLFLOW_EXPERIMENT (default `<project>.<codeset>`). The names
of the original: FUSEML_MLFLOW_ENTRYPOINT, FUSEML_MLFLOW_ENTRYPOINT_ARGS (override the others), FUSEML_MLFLOW_ARTIFACT_PATH (`model`). Requires
MLFLOW_TRACKING_URI. Outputs: `model` and the first declared one (model URI), `metrics` (JSON object), `mlflow-run`, `model-version`,
`artifacts` (URI of the run's artifacts).
"""

from __future__ import annotations

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

from fuseml.steps import data, logged_models, mlproject, notebook, pipeline, sdk, tracking, training, training_run

_GRACE = 10  # seconds between SIGTERM and SIGKILL of the command


def main() -> None:
    """Train the codeset in the current folder."""
    signal.signal(signal.SIGTERM, _stopped)
    folder = Path.cwd()
    context = sdk.context()
    chosen = training.choose(folder, training.named_entry_point())
    sdk.say(f"training: {chosen.kind} {chosen.entry_point.name}, because {chosen.reason}")
    point = chosen.entry_point
    values = point.values(_parameters(point))
    for note in _notes(chosen, folder, values):
        sdk.say(f"note: {note}")
    data.fetch(folder)
    by = logged_models.metric(sdk.input("metric", ""))
    command = point.command_line(_resolved(point, values, folder))
    server = tracking.Tracking(os.environ)
    experiment = sdk.input("mlflow-experiment", ".".join(filter(None, (context.project, context.codeset))) or folder.name)
    experiment_id = server.experiment(experiment)
    run_id = server.start_run(experiment_id, context.run or folder.name, _tags(context, point.name), point.logged(values))
    sdk.say(f"MLflow run {run_id} in the experiment {experiment}")
    try:
        _train(chosen, command, folder, values, training_run.variables(server, context, folder, experiment_id, run_id), run_id)
    except BaseException as error:
        try:
            training_run.close(server, run_id, "KILLED" if isinstance(error, (SystemExit, KeyboardInterrupt)) else "FAILED", values)
        except sdk.StepError as second:
            sdk.say(f"cannot close the MLflow run {run_id}: {second}")  # the first failure stays the cause
        raise
    run = training_run.close(server, run_id, "FINISHED", values)
    if sdk.input("model", "") == logged_models.NONE:
        training_run.report_run(run)
    else:
        training_run.report(server, context, training_run.model(server, run, folder, by))


def _stopped(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def _parameters(entry_point: mlproject.EntryPoint) -> dict[str, str]:
    """Parameters from step inputs of their names, overridden by those in `parameters`, and these by the original's `mlflow-entrypoint-args`."""
    values = {name: os.environ[sdk.variable(name)] for name in entry_point.parameters if os.environ.get(sdk.variable(name))}
    for name in ("parameters", "mlflow-entrypoint-args"):
        values.update(_pairs(name))
    return values


def _pairs(input_name: str) -> dict[str, str]:
    try:
        arguments = shlex.split(sdk.input(input_name, ""))
    except ValueError as error:
        raise sdk.StepError(f"the input '{input_name}' cannot be split into arguments: {error}") from None
    pairs: dict[str, str] = {}
    for argument in arguments:
        name, sign, value = argument.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z0-9_][\w.-]*", name):
            raise sdk.StepError(f"the input '{input_name}' must be name=value pairs, separated by spaces; '{argument}' is not one")
        pairs[name] = value
    return pairs


def _notes(chosen: training.Training, folder: Path, values: Mapping[str, str]) -> list[str]:
    """Notes about values that may not reach the code as meant."""
    if chosen.kind == training.NOTEBOOK:
        return notebook.notes(sdk.read_file(folder, chosen.file), values)
    point = chosen.entry_point
    return [
        f"{point.key} does not declare '{name}', so the command gets --{name}; did you mean '{declared}'?"
        for name, declared in point.suspects(values).items()
    ]


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
        **training_run.lineage(context),
    }


def _train(
    chosen: training.Training, command: str, folder: Path, values: Mapping[str, str], variables: Mapping[str, str], run_id: str
) -> None:
    """Run the training. Raises StepError if it fails."""
    if chosen.kind == training.PIPELINE:
        home = (folder / chosen.file).parent
        pipeline.set_parameters(home, values)
        _execute(command, folder, {**variables, **pipeline.prepare(home)})
        return
    if chosen.kind != training.NOTEBOOK:
        _execute(command, folder, variables)
        return
    with tempfile.TemporaryDirectory() as place:
        executed = Path(place, Path(chosen.file).name)
        try:
            _execute(command, folder, {**variables, notebook.EXECUTED: str(executed)})
        finally:
            notebook.keep(executed, run_id)


def _execute(command: str, folder: Path, variables: Mapping[str, str]) -> None:
    """Run the command with its output in this step's log. Raises StepError if it fails; forwards a stop to it."""
    environment = {**os.environ, **variables, "PATH": sdk.search_path()}
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


if __name__ == "__main__":
    sdk.run(main)
