"""The state of an application, as the step that has registered it reads it: from the API, or from the application itself."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from fuseml.steps import sdk

_PAUSE = 0.5
_REPORT_EVERY = 5.0


def wait_for(probe: ClientProbe | ApiProbe, name: str, model: str, timeout: float) -> None:
    """Return once the application serves exactly this model. Raises StepError after `timeout` seconds, or at once for a permanent
    problem."""
    started = reported = time.monotonic()
    while True:
        problem = probe.problem(model)
        waited = time.monotonic() - started
        if problem is None:
            return
        if waited > timeout:
            raise sdk.StepError(f"the application '{name}' does not serve {model} after {timeout:.0f} s: {problem}")
        if time.monotonic() - reported >= _REPORT_EVERY:
            reported = time.monotonic()
            sdk.say(f"waiting for {name}, {waited:.0f} s: {problem}")
        time.sleep(_PAUSE)


@dataclass(frozen=True)
class ApiProbe:
    """Reads the state of an application from the API, because a step cannot always reach the application."""

    url: str
    name: str
    revision: int
    token: str | None = None

    def prediction_url(self) -> str:
        """The URL of predictions; empty until the application is served."""
        return str(self._record().get("url") or "")

    def problem(self, model: str) -> str | None:
        """The reason why the model is not served yet; None when it is. Raises StepError for a permanent problem."""
        try:
            record = self.registration()
        except sdk.HttpError as error:
            answer = error.answer if isinstance(error.answer, dict) else {}
            if answer.get("temporary") is False:
                raise
            return str(error)
        if record.get("status") == "failed":
            raise sdk.StepError(f"the application '{self.name}' cannot serve {model}: {record.get('cause')}")
        return None if record.get("status") == "ready" else str(record.get("cause") or "its status is not known")

    def registration(self) -> dict[str, object]:
        """The record of the application. Raises StepError when it is no longer the registration of this run, HttpError when it cannot be read."""
        record = self._record()
        if record.get("revision") != self.revision:
            raise sdk.StepError(
                f"the application '{self.name}' was replaced by {record.get('run') or 'another registration'}, which serves"
                f" {record.get('model') or 'another model'}: give the workflow a 'concurrency' group if its runs must not overlap"
            )
        return record

    def _record(self) -> dict[str, object]:
        record = sdk.http("GET", self.url, token=self.token, patient=False)
        return record if isinstance(record, dict) else {}


@dataclass(frozen=True)
class ClientProbe:
    """Reads the state of an application as its clients do, at its own `url`."""

    url: str
    name: str
    api: ApiProbe
    token: str | None = None

    def prediction_url(self) -> str:
        """The URL of predictions."""
        return f"{self.url}/v2/models/{self.name}/infer"

    def problem(self, model: str) -> str | None:
        """The reason why the model is not served yet; None when it is. Raises StepError when the server reports a permanent problem
        (`temporary: false` in its error body)."""
        try:
            metadata = sdk.http("GET", f"{self.url}/v2/models/{self.name}", token=self.token, patient=False)
            parameters = metadata.get("parameters") if isinstance(metadata, dict) else None
            served = parameters.get("model_uri") if isinstance(parameters, dict) else None
            if served != model:
                self._check_replacement(model)
                return f"it still serves {served}" if served else "its metadata names no model_uri"
            sdk.http("GET", f"{self.url}/v2/health/ready", token=self.token, patient=False)
        except sdk.HttpError as error:
            answer = error.answer if isinstance(error.answer, dict) else {}
            if answer.get("temporary") is False and error.status not in (404, 429):
                raise sdk.StepError(f"the application '{self.name}' cannot serve {model}: {answer.get('message') or error}") from error
            return str(error)
        return None

    def _check_replacement(self, model: str) -> None:
        """Raises StepError when the model will never be served: another run has registered the application since, or the server reports that
        the new model cannot be served and the old one stays."""
        # Each counts alone; the timeout decides where the API cannot be read, or another server has no such status.
        with contextlib.suppress(sdk.HttpError):
            self.api.registration()
        status: object = None
        with contextlib.suppress(sdk.HttpError):
            status = sdk.http("GET", self.url, token=self.token, patient=False)
        failed = status.get("failed") if isinstance(status, dict) else None
        if failed:
            raise sdk.StepError(f"the application '{self.name}' cannot serve {model} and keeps the former model: {failed}")
