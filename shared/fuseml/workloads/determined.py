"""Determined AI: an experiment of one trial. Record: docs/tools/determined.md.

An experiment has an id of the master, so the name makes it unique: one that has the name is taken instead of a new one.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from fuseml.steps import sdk
from fuseml.workloads import code, quantities, starting, whole_logs
from fuseml.workloads.merging import merged
from fuseml.workloads.port import Job, Position, State, Status

_START = ".fuseml/job.sh"
_REGULAR = ord("0")
"""The type of a regular file in the archives of tar, which the API uses."""
_MOST = 95 << 20
"""Bytes of a model definition that a master takes."""
_STATES: Mapping[str, State] = {
    "QUEUED": "queued",
    "PULLING": "queued",
    "STARTING": "queued",
    "PAUSED": "queued",
    "ACTIVE": "running",
    "RUNNING": "running",
    "STOPPING_COMPLETED": "running",
    "STOPPING_CANCELED": "running",
    "STOPPING_KILLED": "running",
    "STOPPING_ERROR": "running",
    "COMPLETED": "succeeded",
    "CANCELED": "cancelled",
    "ERROR": "failed",
    "DELETED": "absent",
    "DELETING": "absent",
    "DELETE_FAILED": "absent",
}


class Determined:
    """The master at `url`. Variables: DET_USER_TOKEN, or DET_USER and DET_PASS."""

    takes_code = True

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._token = variables.get("DET_USER_TOKEN", "")
        self._account = (variables.get("DET_USER", ""), variables.get("DET_PASS", ""))

    def check(self, job: Job) -> None:
        if job.nodes != 1:
            raise sdk.StepError("Determined distributes a trial by its slots: leave out the input 'nodes', and give 'gpu'")
        if job.resources.cpu or job.resources.memory:
            raise sdk.StepError(
                "Determined takes slots, not amounts: leave out the inputs 'cpu' and 'memory'; 'options' are fields of its configuration"
            )
        _slots(job)

    def submit(self, job: Job) -> None:
        if self._find(job.name) is not None:
            return
        found = [*(code.files(job.code) if job.code else ()), code.File(_START, starting.SCRIPT.encode(), is_executable=True)]
        if sum(len(file.content) for file in found) > _MOST:
            raise sdk.StepError(
                f"Determined takes at most {_MOST >> 20} MiB of code; keep data and models outside of the codeset, as artifacts"
            )
        environment: dict[str, Any] = {
            "environment_variables": [f"{name}={value}" for name, value in {**job.variables, **job.secrets}.items()]
        }
        if job.image:
            environment["image"] = job.image
        configuration = {
            "name": job.name,
            "labels": [f"{name}:{value}" for name, value in job.labels.items() if value],
            "entrypoint": ["/bin/sh", _START, job.command],
            "environment": environment,
            "searcher": {"name": "single", "metric": "loss", "smaller_is_better": True},
            "resources": {"slots_per_trial": _slots(job)},
            "max_restarts": 0,
        }
        body = {
            "activate": True,
            "config": json.dumps(merged(configuration, job.options)),  # JSON is YAML
            "modelDefinition": [_file(file) for file in found],
        }
        try:
            self._call("POST", "/experiments", body)
        except sdk.HttpError as error:
            if error.status == 400:
                raise sdk.StepError(str(error)) from error
            raise

    def observe(self, name: str) -> Status:
        found = self._find(name)
        if found is None:
            return Status("absent")
        word = str(found.get("state")).removeprefix("STATE_")
        state = _STATES.get(word)
        if state is None:
            raise sdk.StepError(f"the experiment {found.get('id')} of Determined has the unknown state {word[:50]!r}")
        cause = (
            f"the experiment {found.get('id')} of Determined is in the state {word}; its log has the reason" if state == "failed" else ""
        )
        return Status(state, cause, word.lower() if state == "queued" else "")

    def logs(self, name: str, position: Position) -> tuple[str, Position]:
        # The API counts no lines: the whole log of a trial is read each time.
        places, texts = dict(position), list[str]()
        for trial in self._trials(name):
            key = str(trial["id"])
            entries = list(self._entries(key))
            texts += (_line(entry) for entry in entries[places.get(key, 0) :])
            places[key] = max(places.get(key, 0), len(entries))
        return "".join(texts), places

    def cancel(self, name: str) -> None:
        found = self._find(name)
        if found is not None and _STATES.get(str(found.get("state")).removeprefix("STATE_")) in ("queued", "running"):
            # A cancellation would only ask the program, which need not know Determined.
            self._call("POST", f"/experiments/{found['id']}/kill")

    def outputs(self, name: str) -> Mapping[str, str]:
        """The best checkpoint, and the metric of the searcher, of a program that reports them to Determined."""
        outputs: dict[str, str] = {}
        for trial in self._trials(name):
            checkpoint = (trial.get("bestCheckpoint") or {}).get("uuid")
            if checkpoint:
                outputs["checkpoint"] = str(checkpoint)
            if trial.get("searcherMetricValue") is not None:
                outputs["metrics"] = json.dumps({"searcher_metric": trial["searcherMetricValue"]})
        return outputs

    def _find(self, name: str) -> Mapping[str, Any] | None:
        query = urllib.parse.urlencode({"name": name, "limit": 100})
        found = self._call("GET", f"/experiments?{query}").get("experiments") or ()
        return next((item for item in found if item.get("name") == name), None)  # the API finds parts of names too

    def _trials(self, name: str) -> list[Mapping[str, Any]]:
        found = self._find(name)
        trials = self._call("GET", f"/experiments/{found['id']}/trials").get("trials") if found else None
        return sorted(trials or (), key=lambda trial: int(trial["id"]))

    def _entries(self, trial: str) -> Iterator[Mapping[str, Any]]:
        query = urllib.parse.urlencode({"limit": 0, "follow": "false", "orderBy": "ORDER_BY_ASC"})
        content = whole_logs.read(f"{self._url}/api/v1/trials/{trial}/logs?{query}", self._login())
        for line in (content or b"").splitlines():
            document = self._checked(whole_logs.parsed(line))
            if isinstance(document.get("error"), dict):
                raise sdk.HttpError(f"the log of the trial {trial}: {str(document['error'].get('message'))[:300]}", 503)
            yield self._checked(document.get("result"))

    def _call(self, method: str, path: str, body: object = None) -> Mapping[str, Any]:
        return self._checked(sdk.http(method, f"{self._url}/api/v1{path}", body, token=self._login(), timeout=120))

    def _checked(self, answer: object) -> Mapping[str, Any]:
        if not isinstance(answer, dict):
            raise sdk.StepError(f"{sdk.redact(self._url)} does not answer like a master of Determined; check the endpoint of the record")
        return answer

    def _login(self) -> str:
        """The token of the account."""
        if not self._token:
            user, password = self._account
            if not user:
                raise sdk.StepError("DET_USER_TOKEN or DET_USER is not set: give the service credentials with one of them")
            answer = sdk.http("POST", f"{self._url}/api/v1/auth/login", {"username": user, "password": password})
            self._token = str(answer.get("token") or "") if isinstance(answer, dict) else ""
        return self._token


def _slots(job: Job) -> int:
    """The slots of the trial. Raises StepError."""
    slots = quantities.number("gpu", job.resources.gpu or "0")
    if not slots.is_integer():
        raise sdk.StepError(f"the input 'gpu' must be a whole number of Determined's slots, not '{job.resources.gpu}'")
    return int(slots)


def _file(file: code.File) -> dict[str, Any]:
    content = base64.b64encode(file.content).decode()
    return {"path": file.path, "type": _REGULAR, "content": content, "mode": file.mode, "uid": 0, "gid": 0, "mtime": "0"}


def _line(entry: Mapping[str, Any]) -> str:
    text = str(entry["log"] if entry.get("log") is not None else entry.get("message", "")).rstrip("\n")
    rank = entry.get("rankId") or 0
    return f"[{rank}] {text}\n" if rank else f"{text}\n"
