"""The scenario of the demo: each step checks its result and raises when it differs from the expected one."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fuseml.cli import bindings, output
from fuseml.cli.demo import checkout
from fuseml.domain import errors, finite

if TYPE_CHECKING:
    from fuseml.cli.demo.screen import Note, Screen
    from fuseml.client import application_shapes, git, shapes
    from fuseml.client.api import Client

PROJECT = "demo"
CODESET = "diabetes"
PARAMETER = "alpha"
_FACTOR = 10.0

# The first patient of scikit-learn's diabetes data set, scaled as `load_diabetes` gives it; the measured progression was 151.
ROW: Mapping[str, float] = {
    "age": 0.0380759064334241,
    "sex": 0.0506801187398187,
    "bmi": 0.0616962065186885,
    "bp": 0.0218723855140367,
    "s1": -0.0442234984244464,
    "s2": -0.0348207628376986,
    "s3": -0.0434008456520269,
    "s4": -0.00259226199818282,
    "s5": 0.0199074861704627,
    "s6": -0.0176461251598052,
}
MEASURED = 151

# Seconds to wait for fast steps, and for MLflow, which starts slowly on a cold machine.
_SOON = 30.0
_MLFLOW = 180.0
_LOG_LINES = 15

_METRICS = (output.column("Metric"), output.column("Value"))

T = TypeVar("T")


@dataclass(frozen=True)
class Prediction:
    """The prediction of a served model."""

    model: str
    value: float


@dataclass(frozen=True)
class Scenario:
    """The scenario on a server: with a screen, a folder for the checkout, git remotes, and a clock (seconds)."""

    client: Client
    screen: Screen
    folder: Path
    remote: Callable[[shapes.Registration], git.Remote]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> tuple[Prediction, Prediction]:
        """From an empty server to a second served model version. Raises FusemlError for the first step that fails."""
        registration = self.register_codeset()
        remote = self.remote(registration)
        self.push_example(remote)
        workflow = self.create_workflow()
        self.register_mlflow(self.await_mlflow())
        first_run = self.first_run(workflow)
        first = self.call(first_run, None)
        second_run = self.second_run(remote)
        second = self.call(second_run, first)
        self.compare(first, second)
        return first, second

    def register_codeset(self) -> shapes.Registration:
        """Create a project and a codeset."""
        with self.screen.step("Create a project and a codeset") as note:
            self.client.projects.create(PROJECT, "The demo's project")
            registration = self.client.codesets.register(PROJECT, CODESET, "Progression of diabetes, by ridge regression", ["sklearn"])
            note.result = registration["codeset"]["url"]
        return registration

    def push_example(self, remote: git.Remote) -> None:
        """Push the shipped example from a git checkout."""
        with self.screen.step("Push the example's code with git") as note:
            remote.clone(self.folder)
            checkout.unpack_example(self.folder)
            commit = remote.commit(self.folder, "Train a model of the diabetes data set")
            remote.push(self.folder)
            files = sorted(path.name for path in self.folder.iterdir() if path.name != ".git")
            note.result = f"version {commit[:12]}: {', '.join(files)}"

    def create_workflow(self) -> str:
        """Create the shipped workflow; its name."""
        with self.screen.step("Create the workflow") as note:
            workflow = self.client.workflows.create(checkout.workflow_text())
            steps = " -> ".join(step["name"] for step in workflow.get("steps", []))
            note.result = f"{workflow['name']}: {steps}"
        return workflow["name"]

    def await_mlflow(self) -> str:
        """Wait until the embedded MLflow is ready; its URL."""

        def ready_url(note: Note) -> str | None:
            component = (self.client.readiness().get("components") or {}).get("mlflow") or {}
            status = component.get("status", "unknown")
            note.say(status)
            if status in ("failed", "off"):
                raise errors.PermanentError(f"the embedded MLflow is {status}: {component.get('message') or 'see the server log'}")
            return component.get("url") if status == "ready" else None

        with self.screen.step("Wait for the embedded MLflow") as note:
            url = self._until("MLflow is not ready", _MLFLOW, lambda: ready_url(note))
            note.result = url
        return url.rstrip("/")

    def register_mlflow(self, url: str) -> None:
        """Register MLflow and its artifact store as an extension."""
        with self.screen.step("Register MLflow as an extension") as note:
            version = self.client.text_at(f"{url}/version").strip()
            self.client.extensions.register(mlflow_record(url, version))
            note.result = f"mlflow {version}: services mlflow-tracking and mlflow-store"

    def first_run(self, workflow: str) -> shapes.Run:
        """Assign the workflow, which starts a run; the finished run."""
        with self.screen.step("Assign the workflow to the codeset") as note:
            self.client.workflows.assign(workflow, PROJECT, CODESET)
            run = self._until("the assignment started no run", _SOON, lambda: self._latest_run(None))
            note.result = f"the assignment started run {run['name']}"
        return self._finish("The first run", run)

    def second_run(self, remote: git.Remote) -> shapes.Run:
        """Push a changed hyperparameter, which starts a run; the finished run."""
        with self.screen.step("Change a hyperparameter and push") as note:
            file = self.folder / "MLproject"
            text, old, new = checkout.change_default(file.read_text(), PARAMETER, _FACTOR)
            file.write_text(text)
            commit = remote.commit(self.folder, f"Set {PARAMETER} to {new}")
            remote.push(self.folder)
            run = self._until("the push started no run", _SOON, lambda: self._latest_run(commit))
            note.result = f"{PARAMETER} {old} -> {new}, version {commit[:12]}: the push started run {run['name']}"
        return self._finish("The second run", run)

    def call(self, run: shapes.Run, before: Prediction | None) -> Prediction:
        """Request a prediction for one patient from the run's application. With `before`, first wait until its model is replaced."""

        def served() -> application_shapes.Application | None:
            of_run = (item for item in self.client.applications.list(workflow=run["workflow"]) if item.get("run") == run["name"])
            application = next(of_run, None)
            model = application.get("model") if application else None
            return application if model and (before is None or model != before.model) else None

        with self.screen.step("Request a prediction for a patient") as note:
            application = self._until(f"no application serves the model of run {run['name']}", _SOON, served)
            value = number_in(self.client.predictions.predict(application["url"], ROW))
            note.result = f"{application['url']}\n{application['model']} predicts {value:.2f} (measured: {MEASURED})"
        return Prediction(str(application["model"]), value)

    def compare(self, first: Prediction, second: Prediction) -> None:
        """Raises PermanentError unless both the models and their predictions differ."""
        with self.screen.step("Compare both predictions") as note:
            if first.model == second.model:
                raise errors.PermanentError(f"the application still serves {first.model}")
            if math.isclose(first.value, second.value, rel_tol=1e-9):
                raise errors.PermanentError(f"{second.model} and {first.model} predict the same value: {first.value}")
            note.result = f"{first.model}: {first.value:.2f}   {second.model}: {second.value:.2f}"

    def _finish(self, title: str, run: shapes.Run) -> shapes.Run:
        finished = self.screen.run(title, self.client.runs.watch(run["name"], sleep=self.sleep, clock=self.clock))
        if finished["state"] != "succeeded":
            self._show_logs(finished)
            raise errors.PermanentError(f"run {finished['name']} {finished['state']}: {finished.get('cause') or 'no cause is recorded'}")
        lines = [f"{item['step']}: {item['name']} -> {bindings.target(item)} at {item['url']}" for item in finished.get("bindings", [])]
        self.screen.lines("Bindings", lines)
        self.screen.table("Metrics", [{"metric": key, "value": f"{value:.4g}"} for key, value in metrics_of(finished).items()], _METRICS)
        self.screen.lines("Models", [model["address"] for model in self._models(finished)])
        return finished

    def _models(self, run: shapes.Run) -> list[shapes.Artifact]:
        def models() -> list[shapes.Artifact] | None:
            return list(self.client.artifacts.list(kind="model", run=run["name"])) or None

        return self._until(f"no model of run {run['name']} was recorded", _SOON, models)

    def _show_logs(self, run: shapes.Run) -> None:
        for step in run.get("steps", []):
            if step.get("state") == "failed":
                text = "".join(self.client.runs.text(run["name"], step["name"]))
                self.screen.lines(f"End of the log of {step['name']}", text.splitlines()[-_LOG_LINES:])

    def _latest_run(self, commit: str | None) -> shapes.Run | None:
        return next(self.client.runs.list(project=PROJECT, codeset=CODESET, commit=commit, limit=1), None)

    def _until(self, message: str, seconds: float, query: Callable[[], T | None]) -> T:
        """Repeat `query` until it returns a value. Raises TemporaryError with the message after `seconds`."""
        deadline = self.clock() + seconds
        while True:
            result = query()
            if result is not None:
                return result
            if self.clock() > deadline:
                raise errors.TemporaryError(f"{message} within {seconds:g} s")
            self.sleep(0.2)


def mlflow_record(url: str, version: str) -> dict[str, object]:
    """The extension record of an MLflow server that also stores artifacts: one extension with two services."""

    def service(name: str, resource: str, category: str, endpoint: str, variable: str) -> dict[str, object]:
        return {
            "id": name,
            "resource": resource,
            "category": category,
            "auth_required": False,
            "endpoints": [{"url": endpoint, "type": "internal", "configuration": {variable: endpoint}}],
        }

    return {
        "id": "mlflow",
        "product": "mlflow",
        "version": version,
        "description": "The embedded MLflow",
        "services": [
            service("mlflow-tracking", "mlflow-tracking", "experiment-tracking", url, "MLFLOW_TRACKING_URI"),
            service("mlflow-store", "mlflow-artifacts", "model-store", f"{url}/api/2.0/mlflow-artifacts", "MLFLOW_ARTIFACTS_URL"),
        ],
    }


def metrics_of(run: shapes.Run) -> dict[str, float]:
    """The numbers in the steps' outputs `metrics` (JSON objects). Raises PermanentError when there are none."""
    metrics = dict(_metrics(run))
    if not metrics:
        raise errors.PermanentError(f"run {run['name']} reported no metrics")
    return metrics


def _metrics(run: shapes.Run) -> Iterator[tuple[str, float]]:
    outputs = [step.get("outputs") or {} for step in run.get("steps", [])] + [run.get("outputs") or {}]
    for text in (item["metrics"] for item in outputs if item.get("metrics")):
        try:
            data = json.loads(text)
        except ValueError:
            raise errors.PermanentError(f"the metrics of run {run['name']} are not JSON: {text[:80]!r}") from None
        yield from ((key, value) for key, value in data.items() if isinstance(value, int | float))


def number_in(prediction: list[object]) -> float:
    """The only number of a prediction for one row. Raises PermanentError unless it is one finite number."""
    number = finite.number(prediction[0]) if len(prediction) == 1 else None
    if number is not None:
        return number
    raise errors.PermanentError(f"the model predicted {prediction!r}, not one finite number")
