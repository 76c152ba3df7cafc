"""Trainer step (`ghcr.io/fuseml/trainer`): trains by a job of the tool that its binding of the category `training` has found.

Inputs: FUSEML_COMMAND (a command of the shell); optional FUSEML_IMAGE, FUSEML_PARAMETERS (one NAME=VALUE a line; FUSEML_<NAME> in the job),
FUSEML_NODES, and for each node FUSEML_CPU, FUSEML_MEMORY, FUSEML_GPU; FUSEML_FORWARD (names of more variables of this step for the job),
FUSEML_OPTIONS (a JSON object: fields of the tool's own document), FUSEML_PATIENCE (seconds for which the tool may be away, default 300);
FUSEML_MODEL, FUSEML_METRIC, FUSEML_MLFLOW_EXPERIMENT as of the MLflow trainer. From the binding: FUSEML_TRAINING (the resource of the service),
FUSEML_TRAINING_URL, and the variables of the tool. Outputs: the files that the command writes to $FUSEML_ENV_RESULTS, what the tool keeps,
`job` (its name in the tool), and with an MLflow server those of the MLflow trainer.

The name of the job is made of run, step and inputs: a step that starts again continues its job, and takes the results of one that has
succeeded meanwhile. A job that failed or was cancelled is followed by a new one, as a retry of the step demands. The job is cancelled when
the step ends before it, unless the step is killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fuseml import workloads
from fuseml.steps import sdk, workload
from fuseml.workloads import following, recording
from fuseml.workloads.port import LONGEST_NAME, Job, Resources

_FORWARDED = ("MLFLOW_", "AWS_", "AZURE_STORAGE_")
_MOST_ATTEMPTS = 100
_MOST_NODES = 1000


class _StoppedError(BaseException):
    """The engine stops the step."""


def main() -> None:
    """Run the job to its end."""
    signal.signal(signal.SIGTERM, _stop)
    context, folder = sdk.context(), Path.cwd()
    resource = os.environ.get("FUSEML_TRAINING", "")
    if not resource:
        raise sdk.StepError("FUSEML_TRAINING is not set: give the workflow step an extension with the service category training")
    tool = workloads.connect(resource, _setting("FUSEML_TRAINING_URL"), os.environ)
    parameters = workload.parsed(sdk.input("parameters", ""))
    job = _requested(context, folder, parameters, takes_code=tool.takes_code)
    tool.check(job)
    follower = following.Follower(tool, _seconds(sdk.input("patience", "300")))
    record: recording.Recording | None = None
    is_over, fate = True, "was not submitted"
    try:
        for number in range(1, _MOST_ATTEMPTS + 1):
            job = replace(job, name=f"{_prefix(context, job)}-{number}")
            state = follower.state(job.name)
            if state not in ("failed", "cancelled"):
                break
            sdk.say(f"the job {job.name} of a former attempt has {state if state == 'failed' else 'been cancelled'}")
        # A job that a former start of the step began goes on, and ends with this one.
        is_over, fate = state not in ("queued", "running"), "was not submitted" if state == "absent" else "had ended"
        record = recording.begin(job.name, context, folder, resource, os.environ)
        variables, secrets = _environment(context, parameters)
        secrets.update(record.variables() if record else {})
        is_over = False
        if state != "succeeded":
            # Also one that exists: the start of the step that began it may not have completed it.
            follower.submit(replace(job, variables=variables, secrets=secrets))
        sdk.say(f"job {job.name}: submitted to {resource}" if state == "absent" else f"job {job.name}: {state}, continued")
        status = follower.follow(job.name)
        is_over, fate = True, "had ended"
        if status.state != "succeeded":
            how = "been cancelled" if status.state == "cancelled" else "failed"
            raise sdk.StepError(
                f"the training command failed as a job of {resource}: {job.name} has {how}{': ' if status.cause else ''}{status.cause}"
            )
        outputs = {**follower.outputs(job.name), **follower.printed, "job": job.name}
    except BaseException as error:
        is_stopped = isinstance(error, _StoppedError)
        if not is_over:
            fate = follower.cancel(job.name)
        if record is not None:
            _close(record, "KILLED" if is_stopped else "FAILED", parameters)
        if is_stopped:
            sdk.fail(f"the step was stopped, and its job {job.name} {fate}")
        if not is_over:
            sdk.say(f"the job {job.name} {fate}")
        raise
    # The training is over: a stop now would only lose its record, which takes a moment.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if record is not None:
        record.report(parameters, has_model="model" in outputs)
    for name, value in outputs.items():
        sdk.output(name, value)
    sdk.say(f"job {job.name}: succeeded, with the outputs {', '.join(sorted(outputs))}")


def _requested(context: sdk.Context, folder: Path, parameters: Mapping[str, str], *, takes_code: bool) -> Job:
    """The job of the inputs, without its name and its environment."""
    resources = Resources(sdk.input("cpu", ""), sdk.input("memory", ""), sdk.input("gpu", ""))
    labels = {"project": context.project, "run": context.run, "step": context.step, "codeset": context.codeset, "commit": context.commit}
    return Job(
        name="",
        command=sdk.input("command"),
        image=sdk.input("image", ""),
        code=folder if takes_code and context.codeset else None,
        variables=dict(parameters),
        nodes=_count(sdk.input("nodes", "1")),
        resources=resources,
        labels=labels,
        options=_options(sdk.input("options", "")),
    )


def _prefix(context: sdk.Context, job: Job) -> str:
    """The same for each start of a step of a run. Other installations have runs of the same name: the digest keeps their jobs apart."""
    facts = [*vars(context).values(), job.command, job.image, sorted(job.variables.items()), job.nodes, [*vars(job.resources).values()]]
    digest = hashlib.sha256(json.dumps([*facts, job.options], sort_keys=True).encode()).hexdigest()[:12]
    words = re.sub(r"[^a-z0-9]+", "-", f"{context.run}-{context.step}".lower()).strip("-")
    words = re.sub(r"^(?![a-z])", "job-", words)[: LONGEST_NAME - len(digest) - len(f"--{_MOST_ATTEMPTS}")].rstrip("-")
    return f"{words}-{digest}"


def _environment(context: sdk.Context, parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The variables of the job, and those that may be secrets: of the services that the step has beside the tool."""
    named = re.split(r"[\s,]+", sdk.input("forward", "").strip())
    missing = [name for name in named if name and name not in os.environ]
    if missing:
        raise sdk.StepError(f"the input 'forward' names {missing[0]!r}, which is no variable of this step")
    own = {"RUN": context.run, "STEP": context.step, "PROJECT": context.project, "CODESET": context.codeset, "COMMIT": context.commit}
    variables = {f"FUSEML_ENV_{name}": value for name, value in own.items() if value}
    if context.workflow:
        variables["FUSEML_ENV_WORKFLOW_NAME"] = context.workflow
    variables.update({sdk.variable(name): value for name, value in parameters.items()})
    secrets = {name: value for name, value in os.environ.items() if name.startswith(_FORWARDED) or name in named}
    return {"PYTHONUNBUFFERED": "1", **variables}, secrets


def _close(record: recording.Recording, status: str, parameters: Mapping[str, str]) -> None:
    try:
        record.close(status, parameters)
    except sdk.StepError as error:
        sdk.say(f"cannot close the MLflow run {record.run_id}: {error}")  # the first failure stays the cause


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _StoppedError


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise sdk.StepError(f"{name} is not set: the service of the category training has no endpoint")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_NODES):
        raise sdk.StepError(f"the input 'nodes' must be a number from 1 to {_MOST_NODES}, not '{text[:50]}'")
    return int(text)


def _seconds(text: str) -> float:
    seconds = -1.0
    with contextlib.suppress(ValueError):
        seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise sdk.StepError(f"the input 'patience' must be a number of seconds, not '{text[:50]}'")
    return seconds


def _options(text: str) -> dict[str, object]:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise sdk.StepError(f"the input 'options' is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise sdk.StepError("the input 'options' must be a JSON object")
    return found


if __name__ == "__main__":
    sdk.run(main)
