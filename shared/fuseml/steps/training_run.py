"""The run of MLflow that a training is recorded in: its start for the code, its end, and the outputs of the step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from fuseml.steps import logged_models, mlproject, sdk, served_models, source_code, tracking


def lineage(context: sdk.Context) -> dict[str, str]:
    """The tags that lead from a run, a model or a version to the code."""
    return {
        "fuseml.run": context.run,
        "fuseml.project": context.project,
        "fuseml.codeset": context.codeset,
        "fuseml.commit": context.commit,
    }


def variables(server: tracking.Tracking, context: sdk.Context, folder: Path, experiment_id: str, run_id: str) -> dict[str, str]:
    """MLflow's variables for the command. Every run that it starts gets the tags of this training, in whichever experiment."""
    tags = {tracking.TRAINING_TAG: run_id, "mlflow.source.git.commit": context.commit, **lineage(context)}
    try:
        given = mlproject.mapping(json.loads(os.environ.get("MLFLOW_RUN_CONTEXT", "") or "{}"), "MLFLOW_RUN_CONTEXT")
    except ValueError as error:
        raise sdk.StepError(f"MLFLOW_RUN_CONTEXT is not JSON: {error}; correct the variable in the step's env") from None
    variables = {
        "MLFLOW_EXPERIMENT_ID": experiment_id,
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_RUN_CONTEXT": json.dumps({**given, **{name: value for name, value in tags.items() if value}}),
    }
    elsewhere = source_code.find(folder, "set_experiment")
    if elsewhere:
        # MLflow refuses to continue a run of another experiment than the one that the code sets.
        sdk.say(f"note: {elsewhere} sets an experiment, so the code starts runs of its own")
    else:
        variables["MLFLOW_RUN_ID"] = run_id
    return variables


def close(server: tracking.Tracking, run_id: str, status: str, values: Mapping[str, str]) -> tracking.Run:
    """End the run, and log the values that the code did not log itself: in its own form, the code may log an undeclared `1` as `1.0`."""
    run = server.run(run_id)
    if run.status in ("RUNNING", "SCHEDULED"):
        server.end_run(run_id, status)
    server.log_parameters(run_id, {name: value for name, value in values.items() if name not in run.parameters})
    return run


def model(server: tracking.Tracking, run: tracking.Run, folder: Path, by: logged_models.Metric | None) -> tuple[logged_models.Model, str]:
    """The model of the training, and its name in the inputs if it is named; an artifact folder of older training code as a last resort."""
    models = logged_models.of_training(server, run)
    named, path = sdk.input("model", ""), sdk.input("mlflow-artifact-path", "")
    if not named and any(path in model.names for model in models):
        named = path
    if not models:
        path = path or "model"
        if not server.has_artifact(run.id, path):
            raise sdk.StepError(_none_logged(server, folder, path))
        models = [logged_models.Model(path, run.id, f"{run.artifact_uri}/{path}", metrics=run.numbers)]
    return logged_models.choose(models, named, by), named


def _none_logged(server: tracking.Tracking, folder: Path, path: str) -> str:
    elsewhere = source_code.find(folder, "set_tracking_uri")
    if elsewhere:
        return f"the training logged no model to {sdk.redact(server.uri)}: {elsewhere} sets another tracking server; remove that call"
    return (
        "the training logged no model: call mlflow.<flavour>.log_model in it, name its artifact in the input 'mlflow-artifact-path' "
        f"(now '{path}'), or set the input 'model' to '{logged_models.NONE}'"
    )


def report_run(run: tracking.Run) -> None:
    """Write the run as the outputs `mlflow-run`, `metrics` and `artifacts`."""
    sdk.output("mlflow-run", run.id)
    sdk.output("metrics", json.dumps(dict(sorted(run.metrics.items()))))
    sdk.output("artifacts", run.artifact_uri)


def report(server: tracking.Tracking, context: sdk.Context, found: tuple[logged_models.Model, str]) -> None:
    """Tag the model, and write it with its run as the outputs. `found` is the result of `model`."""
    model, named = found
    version = logged_models.version_of(model, named)
    uri = version.uri if version else model.uri
    if version:
        server.tag_version(version, {**lineage(context), tracking.DIGEST_TAG: _digest(server, version)})
        sdk.output("model-version", version.version)
    report_run(server.run(model.run_id))
    for name in {"model", sdk.first_output("model")} - {"model-version", "mlflow-run", "metrics", "artifacts"}:
        sdk.output(name, uri)
    sdk.say(f"model: {uri}")


def _digest(server: tracking.Tracking, version: tracking.Version) -> str:
    """The digest of the files of the model, as servers will get them; empty if they cannot be read."""
    try:
        return served_models.digest(server, version)
    except Exception as error:  # MLflow and its stores raise many types; the model is trained, and is then served without the check
        sdk.say(f"note: no digest of {version.uri} is recorded, because its files cannot be read: {type(error).__name__}: {error}")
        return ""
