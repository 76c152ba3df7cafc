"""Evaluator step (`ghcr.io/fuseml/evaluator`): measures a model on labelled rows, and decides whether it passes.

Inputs: FUSEML_MODEL (model URI, or `model://PROJECT/NAME/VERSION`), FUSEML_DATA (a place, as of the scorer), FUSEML_LABEL (the column with the
true values), and at least one of FUSEML_THRESHOLDS (`accuracy >= 0.9, log_loss < 0.3`) and FUSEML_COMPARE_WITH (an application of this codeset,
whose served model the new one is compared with on the same rows). Optional: FUSEML_DATA_FORMAT, FUSEML_TASK (classification or regression; default
by the thresholds, else by the labels), FUSEML_POSITIVE (the positive class of two, default the greater), FUSEML_COMPARE_METRICS (default those of
the thresholds, else accuracy or rmse), FUSEML_TOLERANCE (by how much the model may be worse than the served one, default 0), FUSEML_ON_FAILURE
(`fail`, the default, or `ask`: the step succeeds, and an approval of a later step asks), FUSEML_CHUNK_ROWS, FUSEML_MLFLOW_EXPERIMENT.

FUSEML_COMPARE_WITH needs FUSEML_API_URL and FUSEML_API_TOKEN, of an extension with the product fuseml; with MLFLOW_TRACKING_URI the metrics become
an MLflow run. Outputs: `passed` (true or false), `summary` (one line), `metrics` (JSON object), `compared-with` (the served model, or empty).
"""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml.steps import sdk, tracking
from fuseml.steps.scoring import datasets, evaluation, metrics, places, predictions, thresholds

_LONGEST_SUMMARY = 400
_DIGITS = 9


@dataclass(frozen=True)
class Request:
    """The inputs of the step."""

    model: str
    data: str
    format: str
    label: str
    required: Sequence[thresholds.Threshold]
    compare_with: str
    compared: Sequence[str]
    tolerance: float
    task: str
    positive: str
    asks: bool
    rows: int


def main() -> None:
    """Evaluate the model."""
    request = _request()
    candidate = evaluation.subject(predictions.uri_of(request.model), "", request.label)
    served = _served(request)
    subjects = [candidate, *([served] if served else [])]
    try:
        with places.reading(request.data, Path.cwd()) as source:
            labels = evaluation.labels(datasets.chunks(source, request.format, request.rows), request.label, subjects)
    except sdk.StepError as error:
        raise sdk.StepError(f"{sdk.redact(request.data)}: {error}") from error
    task = request.task or evaluation.task_of(labels)
    found = evaluation.measured(task, labels, subjects, request.positive)
    _check_known(found[0], request)
    clauses = thresholds.unmet(found[0], request.required)
    if served:
        names = request.compared or [item.metric for item in request.required] or ["accuracy" if task == metrics.CLASSIFICATION else "rmse"]
        _check_compared(names, found)
        clauses += thresholds.worse(found[0], found[1], list(dict.fromkeys(names)), request.tolerance)
    _print_table(request, subjects, found, len(labels))
    _report(request, candidate.uri, served.uri if served else "", found[0], clauses)


def _request() -> Request:
    data, required = sdk.input("data"), thresholds.parse(sdk.input("thresholds", " "))
    compare_with, on_failure = sdk.input("compare-with", ""), sdk.input("on-failure", "fail")
    if not required and not compare_with:
        raise sdk.StepError("there is nothing to decide by: give the input 'thresholds' or 'compare-with'")
    if on_failure not in ("fail", "ask"):
        raise sdk.StepError(f"the input 'on-failure' must be fail or ask, not '{on_failure}'")
    compared = [name.strip() for name in sdk.input("compare-metrics", "").split(",") if name.strip()]
    unknown = next((name for name in compared if name not in metrics.METRICS), None)
    if unknown:
        raise sdk.StepError(f"the input 'compare-metrics' names '{unknown}'; the metrics are {', '.join(metrics.METRICS)}")
    rows = sdk.input("chunk-rows", "10000")
    if not rows.isdecimal() or len(rows) > _DIGITS or int(rows) < 1:
        raise sdk.StepError(f"the input 'chunk-rows' must be a positive number, not '{rows}'")
    return Request(
        model=sdk.input("model"),
        data=data,
        format=datasets.format_of(data, sdk.input("data-format", ""), "data"),
        label=sdk.input("label"),
        required=required,
        compare_with=compare_with,
        compared=compared,
        tolerance=_tolerance(sdk.input("tolerance", "0")),
        task=_task(sdk.input("task", ""), [*(item.metric for item in required), *compared]),
        positive=sdk.input("positive", ""),
        asks=on_failure == "ask",
        rows=int(rows),
    )


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise sdk.StepError(f"the input 'tolerance' must be a number of at least 0 in the unit of the metric, not '{text}'")
    return value


def _task(given: str, names: Sequence[str]) -> str:
    """The task by the input, else by the metrics; empty if the labels decide."""
    if given not in ("", metrics.CLASSIFICATION, metrics.REGRESSION):
        raise sdk.StepError(f"the input 'task' must be classification or regression, not '{given}'")
    tasks = {name: metrics.METRICS[name].task for name in names}
    other = next((name for name in names if tasks[name] != (given or tasks[names[0]])), None)
    if other:
        raise sdk.StepError(
            f"'{other}' is a metric of {tasks[other]}, and {given or f'{names[0]!r} one of {tasks[names[0]]}'}: name metrics of one task"
        )
    return given or (tasks[names[0]] if names else "")


def _served(request: Request) -> evaluation.Subject | None:
    """The served model of the application; None if none is served yet."""
    if not request.compare_with:
        return None
    api, token = os.environ.get("FUSEML_API_URL", "").rstrip("/"), os.environ.get("FUSEML_API_TOKEN") or None
    if not api:
        raise sdk.StepError(
            "'compare-with' needs FUSEML_API_URL: give the step an extension with the product fuseml and the service serving"
        )
    try:
        record = sdk.http("GET", f"{api}/applications/{urllib.parse.quote(request.compare_with, safe='')}", token=token)
    except sdk.HttpError as error:
        # To a step, an unknown application and one of another project are alike.
        if error.status not in (403, 404):
            raise
        sdk.say(f"no application '{request.compare_with}' of this codeset is served yet, so there is nothing to compare with ({error})")
        return None
    document = record if isinstance(record, dict) else {}
    uri = _most_used(document)
    if not uri:
        raise sdk.StepError(f"the application '{request.compare_with}' is registered without a model, so nothing can be compared with it")
    digest = str(document.get("digest") or "") if uri == document.get("model") else ""
    return evaluation.subject(uri, digest, request.label)


def _most_used(application: Mapping[str, Any]) -> str:
    """The model that gets most requests of an application."""
    shares = [share for share in application.get("traffic") or [] if isinstance(share, dict) and share.get("model")]
    most = max(shares, key=lambda share: share.get("percent") or 0, default={})
    return str(most.get("model") or application.get("model") or "")


def _check_known(found: Mapping[str, float], request: Request) -> None:
    for name in [item.metric for item in request.required] + list(request.compared):
        if name not in found:
            raise sdk.StepError(
                f"the metric '{name}' cannot be computed for this model and dataset: it needs {metrics.METRICS[name].needs}"
            )


def _check_compared(names: Sequence[str], found: Sequence[Mapping[str, float]]) -> None:
    missing = next((name for name in names if name not in found[1]), None)
    if missing:
        raise sdk.StepError(f"the metric '{missing}' cannot be computed for the served model: name others in the input 'compare-metrics'")


def _print_table(request: Request, subjects: Sequence[evaluation.Subject], found: Sequence[Mapping[str, float]], rows: int) -> None:
    limits: dict[str, list[str]] = {}
    for item in request.required:
        limits.setdefault(item.metric, []).append(str(item))
    lines = [["metric", subjects[0].uri, *(f"served: {subject.uri}" for subject in subjects[1:]), "required"]]
    for name in found[0]:
        values = [f"{measured[name]:.6g}" if name in measured else "-" for measured in found]
        lines.append([name, *values, " and ".join(limits.get(name, []))])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    sdk.say(f"{rows} rows of {sdk.redact(request.data)}:")
    for line in lines:
        sdk.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())  # noqa: B905 (Python 3.8)


def _report(request: Request, uri: str, served: str, found: Mapping[str, float], clauses: Sequence[str]) -> None:
    summary = "; ".join(clauses) if clauses else ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    summary = summary if len(summary) <= _LONGEST_SUMMARY else summary[: _LONGEST_SUMMARY - 3] + "..."
    _log_run(request, uri, served, found, not clauses)
    outputs = {
        "passed": "false" if clauses else "true",
        "summary": summary,
        "metrics": json.dumps(dict(sorted(found.items()))),
        "compared-with": served,
    }
    for name, value in outputs.items():
        sdk.output(name, value)
    if clauses and not request.asks:
        raise sdk.StepError(f"{uri} does not pass: {'; '.join(clauses)}")
    sdk.say(f"{uri} {f'does not pass, an approval decides: {summary}' if clauses else 'passes'}")


def _log_run(request: Request, uri: str, served: str, found: Mapping[str, float], passed: bool) -> None:
    """Record the metrics as an MLflow run, if the step has a tracking server."""
    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        sdk.say("note: the metrics are in this log and in the outputs only: the step has no tracking server")
        return
    context, server = sdk.context(), tracking.Tracking(os.environ)
    experiment = sdk.input("mlflow-experiment", ".".join(filter(None, (context.project, context.codeset))) or "evaluations")
    tags = {
        "fuseml.run": context.run,
        "fuseml.project": context.project,
        "fuseml.codeset": context.codeset,
        "fuseml.commit": context.commit,
        "fuseml.workflow": context.workflow,
        "fuseml.evaluation": "passed" if passed else "failed",
    }
    parameters = {"model": uri, "data": sdk.redact(request.data), "compared-with": served or "nothing"}
    name = f"{context.run or 'by hand'} {context.step or 'evaluator'}"
    run_id = server.start_run(server.experiment(experiment), name, tags, parameters)
    server.log_metrics(run_id, found)
    server.end_run(run_id, "FINISHED")
    sdk.say(f"MLflow run {run_id} in the experiment {experiment}")


if __name__ == "__main__":
    sdk.run(main)
