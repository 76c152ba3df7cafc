"""Ray: a job of the Jobs API of a cluster (the port of its dashboard). Record: docs/tools/ray.md.

The code of the codeset is uploaded as the job's working directory. A job is the driver of a Ray program: its resources are those of the
driver, and Ray distributes the tasks of the program itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from fuseml.steps import sdk
from fuseml.workloads import code, quantities, starting, whole_logs
from fuseml.workloads.merging import merged
from fuseml.workloads.port import Job, Position, Resources, State, Status

_START = ".fuseml/job.sh"
_STATES: Mapping[str, State] = {
    "PENDING": "queued",
    "RUNNING": "running",
    "STOPPED": "cancelled",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
}


_REFUSAL = re.compile(r"^(?:ValueError|TypeError): (.*)$", re.MULTILINE)
"""The end of the traceback with which Ray answers an invalid job."""


class Ray:
    """The Ray cluster whose dashboard is at `url`. Variables: RAY_AUTH_TOKEN, of a cluster with token authentication."""

    takes_code = True

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._token = variables.get("RAY_AUTH_TOKEN") or None

    def check(self, job: Job) -> None:
        if job.image:
            raise sdk.StepError(
                "Ray runs jobs in the environment of its cluster: leave out the input 'image'; 'options' are fields of its runtime_env"
            )
        if job.nodes != 1:
            raise sdk.StepError("a Ray program distributes itself over the cluster: leave out the input 'nodes'")
        _amounts(job.resources)

    def submit(self, job: Job) -> None:
        if self.observe(job.name).state != "absent":
            return
        found = [*(code.files(job.code) if job.code else ()), code.File(_START, starting.SCRIPT.encode(), is_executable=True)]
        packed = code.archive(found)
        package = f"fuseml_{hashlib.sha256(packed).hexdigest()[:32]}.zip"
        self._upload(package, packed)
        environment = {"working_dir": f"gcs://{package}", "env_vars": {**job.variables, **job.secrets}}
        document: dict[str, Any] = {
            "submission_id": job.name,
            "entrypoint": starting.file_command(_START, job.command),
            "runtime_env": merged(environment, job.options),
            "metadata": dict(job.labels),
            **_amounts(job.resources),
        }
        try:
            self._call("POST", "/api/jobs/", document)
        except sdk.HttpError as error:
            # Ray reports an existing id as an internal error. Another start of this step may have submitted it meanwhile.
            if self.observe(job.name).state != "absent":
                return
            refusal = _REFUSAL.search(str(error.answer))
            if refusal:
                raise sdk.StepError(f"Ray refuses the job: {refusal[1].strip()[:500]}") from error
            raise

    def observe(self, name: str) -> Status:
        try:
            found = self._call("GET", f"/api/jobs/{name}")
        except sdk.HttpError as error:
            if error.status == 404:
                return Status("absent")
            raise
        message = str(found.get("message") or "")
        state = _STATES.get(str(found.get("status")))
        if state is None:
            raise sdk.StepError(f"the job {name} of Ray has the unknown status {found.get('status')!r}")
        return Status(state, _cause(message) if state == "failed" else "", message if state == "queued" else "")

    def logs(self, name: str, position: Position) -> tuple[str, Position]:
        # The API gives the whole log each time; only its websocket follows one.
        content = whole_logs.read(f"{self._url}/api/jobs/{name}/logs", self._token)
        if content is None:
            return "", position
        text, start = str(self._checked(whole_logs.parsed(content)).get("logs") or ""), int(position.get("characters", 0))
        return text[start:], {"characters": max(start, len(text))}

    def cancel(self, name: str) -> None:
        try:
            self._call("POST", f"/api/jobs/{name}/stop")
        except sdk.HttpError as error:
            if error.status != 404:
                raise

    def outputs(self, name: str) -> Mapping[str, str]:
        del name
        return {}

    def _upload(self, package: str, packed: bytes) -> None:
        address = f"{self._url}/api/packages/gcs/{package}"
        try:
            sdk.http("GET", address, token=self._token)
            return
        except sdk.HttpError as error:
            if error.status != 404:
                raise
        sdk.say(f"uploading the codeset to Ray, {len(packed)} bytes")
        sdk.http("PUT", address, content=packed, token=self._token, timeout=300)

    def _call(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        return self._checked(sdk.http(method, self._url + path, body, token=self._token))

    def _checked(self, answer: object) -> Mapping[str, Any]:
        if not isinstance(answer, dict):
            raise sdk.StepError(f"{sdk.redact(self._url)} does not answer like the dashboard of Ray; check the endpoint of the record")
        return answer


def _amounts(resources: Resources) -> dict[str, float]:
    """The fields for the resources of the driver. Raises StepError."""
    found: dict[str, float] = {}
    if resources.cpu:
        found["entrypoint_num_cpus"] = quantities.number("cpu", resources.cpu)
    if resources.memory:
        found["entrypoint_memory"] = int(quantities.number("memory", resources.memory))
    if resources.gpu:
        found["entrypoint_num_gpus"] = quantities.number("gpu", resources.gpu)
    return found


def _cause(message: str) -> str:
    """The message without the log that Ray appends to it."""
    first, _, _ = message.partition(", last available logs")
    lines = [line.strip() for line in first.splitlines() if line.strip()]
    if len(lines) > 2:  # a setup that failed: its first line, and the exception at the end of a traceback
        lines = [lines[0], lines[-1]]
    return ": ".join(lines)[:1000]
