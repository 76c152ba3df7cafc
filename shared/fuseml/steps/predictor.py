"""Predictor step (`ghcr.io/fuseml/predictor`): makes or updates the application that serves a model, and waits until it does.

Inputs: FUSEML_MODEL (model URI), FUSEML_APP_NAME (default `<project>-<codeset>-<workflow>`), FUSEML_RUNTIME (the environment that
the model needs, as the builder gives it; default the running one), FUSEML_TIMEOUT (seconds, default 300). From its prediction-serving
extension: FUSEML_API_URL, FUSEML_API_TOKEN, and FUSEML_APPS_URL where applications are below an address that is known before (the embedded
server); FUSEML_SERVING is the resource of the service that is to serve it, default FuseML's own. From the tracking one: MLFLOW_TRACKING_URI,
and what its clients need besides (MLFLOW_TRACKING_..., AWS_..., AZURE_STORAGE_...), which the model's server gets too.
Output: the prediction URL. The application keeps its name from run to run, so its URL stays and the new model takes the old one's place.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.parse
from dataclasses import dataclass

from fuseml.steps import sdk

_LONGEST_NAME = 63
_BUILT_IN = "fuseml-serving"
_HOST_RUNTIME = "fuseml.local/mlflow-trainer:host"
_PAUSE = 0.5
_REPORT_EVERY = 5.0
# Where models are read from, and by whom. What MLflow's own server is told by variables is none of a client's business.
_PASSED_ON = ("MLFLOW_TRACKING_", "MLFLOW_S3_", "AWS_", "AZURE_STORAGE_")


def main() -> None:
    """Register the application and wait for it."""
    context = sdk.context()
    model = sdk.input("model")
    name = sdk.input("app-name", application_name(context.project, context.codeset, context.workflow))
    if name != application_name(name):
        raise sdk.StepError(
            f"the input 'app-name' is '{name}': use lower-case letters, digits and '-', at most {_LONGEST_NAME}, starting with a letter"
        )
    api, token = _setting("FUSEML_API_URL"), os.environ.get("FUSEML_API_TOKEN") or None
    apps = os.environ.get("FUSEML_APPS_URL", "").rstrip("/")
    timeout = _seconds(sdk.input("timeout", "300"))
    application = {
        "name": name,
        "type": "predictor",
        "description": f"{model}, trained by {context.run or 'hand'} from {context.project}/{context.codeset}",
        "url": f"{apps}/{name}/v2/models/{name}/infer" if apps else "",
        "workflow": context.workflow,
        "k8s_namespace": "",
        "k8s_resources": [],
        "project": context.project,
        "codeset": context.codeset,
        "run": context.run,
        "model": model,
        "runtime": sdk.input("runtime", _HOST_RUNTIME),
        "tracking_uri": os.environ.get("MLFLOW_TRACKING_URI", ""),
        "served_by": sdk.input("serving", _BUILT_IN),
        "environment": {
            variable: value
            for variable, value in os.environ.items()
            if variable.startswith(_PASSED_ON) and variable != "MLFLOW_TRACKING_URI"
        },
    }
    sdk.say(f"application {name}: {model}")
    registered = sdk.http("POST", f"{api}/applications", application, token=token)
    if apps:
        # The token is for the API; applications may be served by another host, which must not see it.
        own = token if urllib.parse.urlsplit(api)[:2] == urllib.parse.urlsplit(apps)[:2] else None
        served: Served | Recorded = Served(f"{apps}/{name}", name, own)
    else:
        served = Recorded(f"{api}/applications/{name}", name, _revision(registered), token)
    wait_for(served, name, model, timeout)
    prediction_url = served.prediction_url()
    sdk.output(sdk.first_output("prediction-url"), prediction_url)
    sdk.say(f"ready: {prediction_url}")


def application_name(*parts: str) -> str:
    """The parts as one DNS label: at most 63 lower-case letters, digits and `-`, beginning with a letter (RFC 1123, Kubernetes services).

    Parts that are empty are left out. A name that had to be changed ends in a hash of the whole: the projects `a_b` and `a-b` are two.
    """
    whole = "-".join(part for part in parts if part)
    if re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", whole) and len(whole) <= _LONGEST_NAME:
        return whole
    name = re.sub(r"^(?![a-z])", "app-", re.sub(r"[^a-z0-9]+", "-", whole.lower()).strip("-"))
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 9].rstrip('-')}-{digest}"


def wait_for(application: Served | Recorded, name: str, model: str, timeout: float) -> None:
    """Return as soon as the application serves this very model. Raises StepError after `timeout` seconds, or at once when waiting is
    of no use."""
    started = reported = time.monotonic()
    while True:
        problem = application.problem(model)
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
class Recorded:
    """An application as the API at `url` tells of it. Where a step runs, what is served cannot always be reached."""

    url: str
    name: str
    revision: int
    token: str | None = None

    def prediction_url(self) -> str:
        """Where predictions are asked for; known once it is served."""
        return str(self._told().get("url") or "")

    def problem(self, model: str) -> str | None:
        """What still is missing; None when the model is served. Raises StepError when it never will be."""
        try:
            told = self._told()
        except sdk.HttpError as error:
            answer = error.answer if isinstance(error.answer, dict) else {}
            if answer.get("temporary") is False:
                raise
            return str(error)
        if told.get("revision") != self.revision:
            raise sdk.StepError(f"the application '{self.name}' was registered anew by somebody else; this one is revision {self.revision}")
        if told.get("status") == "failed":
            raise sdk.StepError(f"the application '{self.name}' cannot serve {model}: {told.get('cause')}")
        return None if told.get("status") == "ready" else str(told.get("cause") or "it is not known how it is served")

    def _told(self) -> dict[str, object]:
        told = sdk.http("GET", self.url, token=self.token, patient=False)
        return told if isinstance(told, dict) else {}


@dataclass(frozen=True)
class Served:
    """An application seen from its clients' side, at `url`."""

    url: str
    name: str
    token: str | None = None

    def prediction_url(self) -> str:
        """Where predictions are asked for."""
        return f"{self.url}/v2/models/{self.name}/infer"

    def problem(self, model: str) -> str | None:
        """What still is missing; None when the model is served. Raises StepError when the server says that waiting is of no use
        (`temporary: false` in its error body)."""
        try:
            metadata = sdk.http("GET", f"{self.url}/v2/models/{self.name}", token=self.token, patient=False)
            parameters = metadata.get("parameters") if isinstance(metadata, dict) else None
            served = parameters.get("model_uri") if isinstance(parameters, dict) else None
            if served != model:
                self._check_replacement(model)
                return f"it still serves {served}" if served else "it does not say which model it serves"
            sdk.http("GET", f"{self.url}/v2/health/ready", token=self.token, patient=False)
        except sdk.HttpError as error:
            answer = error.answer if isinstance(error.answer, dict) else {}
            if answer.get("temporary") is False and error.status not in (404, 429):
                raise sdk.StepError(f"the application '{self.name}' cannot serve {model}: {answer.get('message') or error}") from error
            return str(error)
        return None

    def _check_replacement(self, model: str) -> None:
        """Raises StepError when the server says that the new model cannot be served and the old one stays."""
        try:
            status = sdk.http("GET", self.url, token=self.token, patient=False)
        except sdk.HttpError:
            return  # other servers than ours do not tell; then time does
        failed = status.get("failed") if isinstance(status, dict) else None
        if failed:
            raise sdk.StepError(f"the application '{self.name}' cannot serve {model} and goes on with the model before: {failed}")


def _revision(registered: object) -> int:
    revision = registered.get("revision") if isinstance(registered, dict) else None
    if not isinstance(revision, int):
        raise sdk.StepError(f"the API did not say which revision of the application it made: {registered}")
    return revision


def _setting(name: str) -> str:
    value = os.environ.get(name, "").rstrip("/")
    if not value:
        raise sdk.StepError(f"{name} is not set: give the workflow step an extension with the service category prediction-serving")
    return value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise sdk.StepError(f"the input 'timeout' must be a number of seconds, not '{text}'")
    return seconds


if __name__ == "__main__":
    sdk.run(main)
