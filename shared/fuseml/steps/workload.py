"""Workload step (`ghcr.io/fuseml/workload`): runs a job at the workload agent that its selector bound, and takes the job's outputs.

Inputs: FUSEML_PARAMETERS (the parameters of the job, one NAME=VALUE a line), FUSEML_PATIENCE (seconds for which the agent may be away,
default 300). From its fuseml-workload extension: FUSEML_AGENT_URL and FUSEML_AGENT_TOKEN. Outputs: those of the job.

The id of the job is made of run, step and parameters: a step that starts again continues its job, and takes the outputs of one that has
succeeded meanwhile. A job that failed or was cancelled is followed by a new one, as a retry of the step demands. The job is cancelled when
the step ends before it, unless the step is killed.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fuseml.steps import sdk

_ROOT = "/workload/v1/jobs"
_ENDS = ("succeeded", "failed", "cancelled")
_PAUSE = 0.5
_CANCELLING = 20.0
_MOST_ATTEMPTS = 100
T = TypeVar("T")


class _StoppedError(BaseException):
    """The engine stops the step."""


def main() -> None:
    """Run the job to its end."""
    signal.signal(signal.SIGTERM, _stop)
    parameters = parsed(sdk.input("parameters", ""))
    agent = Agent(_setting("FUSEML_AGENT_URL"), _setting("FUSEML_AGENT_TOKEN"), _seconds(sdk.input("patience", "300")))
    context = sdk.context()
    job = {"parameters": dict(parameters), "project": context.project, "run": context.run}
    prefix = job_id(context, parameters)
    id, state = "", ""
    try:
        for number in range(1, _MOST_ATTEMPTS + 1):
            id = f"{prefix}.{number}"
            state = agent.start(id, job)
            if state not in ("failed", "cancelled"):
                break
            sdk.say(f"the job {id} of a former attempt has {state if state == 'failed' else 'been cancelled'}")
        sdk.say(f"job {id}: {state}")
        status = agent.follow(id)
        state = str(status["state"])
        if state != "succeeded":
            raise sdk.StepError(
                f"the job {id} has {'been cancelled' if state == 'cancelled' else 'failed'}: {status.get('cause') or 'no cause'}"
            )
        outputs = agent.outputs(id)
    except _StoppedError:
        sdk.fail(f"the step was stopped, and its job {id} {agent.cancel(id)}")
    except BaseException:
        if id and state not in _ENDS:
            sdk.say(f"the job {id} {agent.cancel(id)}")
        raise
    for name, value in outputs.items():
        sdk.output(name, value)
    sdk.say(f"job {id}: succeeded, with the outputs {', '.join(outputs) or 'none'}")


def parsed(text: str) -> dict[str, str]:
    """Name -> value of lines NAME=VALUE. Raises StepError with the number of another line."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name, sign, value = line.partition("=")
        if line.strip() and not (sign and name.strip()):
            raise sdk.StepError(f"line {number} of the input 'parameters' is not NAME=VALUE: {line[:100]!r}")
        if line.strip():
            found[name.strip()] = value.strip()
    return found


def job_id(context: sdk.Context, parameters: Mapping[str, str]) -> str:
    """The same for each start of a step of a run. Other installations have runs of the same name: the digest keeps their jobs apart."""
    facts = [context.project, context.codeset, context.commit, context.workflow, sorted(parameters.items())]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-")[:60] or "none" for part in (context.run, context.step)) + f".{digest}"


@dataclass(frozen=True)
class Agent:
    """The agent at `url`, which may be away for `patience` seconds."""

    url: str
    token: str
    patience: float

    def start(self, id: str, job: Mapping[str, object]) -> str:
        """The state of the job after its start. Raises StepError."""
        return str(self._patiently(lambda: self._status(sdk.http("PUT", self._address(id), job, token=self.token)))["state"])

    def follow(self, id: str) -> Mapping[str, object]:
        """Print the log of the job until its end; its status then. Raises StepError."""
        offset, decoder = 0, codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            # The state first: what is written before the end is printed.
            status = self._patiently(lambda: self._status(sdk.http("GET", self._address(id), token=self.token)))
            while data := self._patiently(functools.partial(self._log, id, offset)):
                offset += len(data)
                sys.stdout.write(decoder.decode(data))
            sys.stdout.flush()
            if status["state"] in _ENDS:
                return status
            time.sleep(_PAUSE)

    def outputs(self, id: str) -> dict[str, str]:
        """The outputs of a succeeded job. Raises StepError."""
        answer = self._patiently(lambda: sdk.http("GET", f"{self._address(id)}/outputs", token=self.token))
        found = answer.get("outputs") if isinstance(answer, dict) else None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise sdk.StepError("the answer of the agent holds no outputs; is it a workload agent?")
        return found

    def cancel(self, id: str) -> str:
        """Cancel the job; its fate for a message."""
        if not id:
            return "was not started"
        deadline = time.monotonic() + _CANCELLING
        with contextlib.suppress(sdk.StepError):
            status = self._status(sdk.http("POST", f"{self._address(id)}/cancel", token=self.token))
            while status["state"] not in _ENDS and time.monotonic() < deadline:
                time.sleep(_PAUSE)
                status = self._status(sdk.http("GET", self._address(id), token=self.token, patient=False))
            return f"is {status['state']}" if status["state"] in _ENDS else "is being cancelled"
        return "could not be cancelled: the agent does not answer"

    def _address(self, id: str) -> str:
        return f"{self.url}{_ROOT}/{id}"

    def _log(self, id: str, offset: int) -> bytes:
        answer = sdk.http("GET", f"{self._address(id)}/logs?offset={offset}", token=self.token, raw=True)
        return answer if isinstance(answer, bytes) else b""

    def _status(self, answer: object) -> Mapping[str, object]:
        if not isinstance(answer, dict) or answer.get("state") not in ("queued", "running", *_ENDS):
            raise sdk.StepError("the answer of the agent is no state of a job; is it a workload agent?")
        return answer

    def _patiently(self, call: Callable[[], T]) -> T:
        """The result of a call, which is repeated while the agent is away. Every operation of the protocol may be repeated."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return call()
            except sdk.HttpError as error:
                is_away = error.status in (0, 429) or error.status >= 500
                if not is_away or time.monotonic() > deadline:
                    raise
                sdk.say(f"waiting for the agent: {error}")
                time.sleep(2.0)


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _StoppedError


def _setting(name: str) -> str:
    value = os.environ.get(name, "").rstrip("/")
    if not value:
        raise sdk.StepError(f"{name} is not set: give the workflow step an extension with the service resource fuseml-workload")
    return value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise sdk.StepError(f"the input 'patience' must be a number of seconds, not '{text}'")
    return seconds


if __name__ == "__main__":
    sdk.run(main)
