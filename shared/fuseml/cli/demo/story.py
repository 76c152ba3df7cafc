"""What the demo does and checks. It goes on only over facts: every step raises when what it promises did not happen."""

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
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.cli.demo.screen import Note, Screen
    from fuseml.client import git, shapes
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

# Seconds to wait for what should be quick, and for MLflow, which takes its time on a cold machine.
_SOON = 30.0
_MLFLOW = 180.0
_LOG_LINES = 15

_METRICS = (output.column("Metric"), output.column("Value"))

T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """What one round of the story led to."""

    model: str
    prediction: float


@dataclass(frozen=True)
class Story:
    """The story's means: a server, a screen, a folder for the checkout, and a clock (seconds)."""

    client: Client
    screen: Screen
    folder: Path
    remote: Callable[[shapes.Registration], git.Remote]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def tell(self) -> tuple[Served, Served]:
        """From an empty server to a second model version in service. Raises FusemlError at the first thing that did not happen."""
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
        """A project with a codeset in it."""
        with self.screen.step("Create a project and a codeset") as note:
            self.client.projects.create(PROJECT, "The demo's project")
            registration = self.client.codesets.register(PROJECT, CODESET, "Progression of diabetes, by ridge regression", ["sklearn"])
            note.result = registration["codeset"]["url"]
        return registration

    def push_example(self, remote: git.Remote) -> None:
        """The shipped example, through a real checkout."""
        with self.screen.step("Push the example's code with git") as note:
            remote.clone(self.folder)
            checkout.unpack_example(self.folder)
            commit = remote.commit(self.folder, "Train a model of the diabetes data set")
            remote.push(self.folder)
            files = sorted(path.name for path in self.folder.iterdir() if path.name != ".git")
            note.result = f"version {commit[:12]}: {', '.join(files)}"

    def create_workflow(self) -> str:
        """The shipped workflow; its name."""
        with self.screen.step("Create the workflow") as note:
            workflow = self.client.workflows.create(checkout.workflow_text())
            steps = " -> ".join(step["name"] for step in workflow.get("steps", []))
            note.result = f"{workflow['name']}: {steps}"
        return workflow["name"]

    def await_mlflow(self) -> str:
        """The embedded MLflow's URL, once it is ready."""

        def look(note: Note) -> str | None:
            component = (self.client.readiness().get("components") or {}).get("mlflow") or {}
            status = component.get("status", "unknown")
            note.say(status)
            if status in ("failed", "off"):
                raise errors.PermanentError(f"the embedded MLflow is {status}: {component.get('message') or 'the server log says why'}")
            return component.get("url") if status == "ready" else None

        with self.screen.step("Wait for the embedded MLflow") as note:
            url = self._until("MLflow is not ready", _MLFLOW, lambda: look(note))
            note.result = url
        return url.rstrip("/")

    def register_mlflow(self, url: str) -> None:
        """MLflow and its artifact store as an extension: a real record with real URLs."""
        with self.screen.step("Register MLflow as an extension") as note:
            version = self.client.text_at(f"{url}/version").strip()
            self.client.extensions.register(mlflow_record(url, version))
            note.result = f"mlflow {version}: services mlflow-tracking and mlflow-store"

    def first_run(self, workflow: str) -> shapes.Run:
        """Assign the workflow; the assignment starts a run."""
        with self.screen.step("Assign the workflow to the codeset") as note:
            self.client.workflows.assign(workflow, PROJECT, CODESET)
            found = self._until("the assignment started no run", _SOON, lambda: self._run_with(None))
            note.result = f"the assignment started run {found['name']}"
        return self._finish("The first run", found)

    def second_run(self, remote: git.Remote) -> shapes.Run:
        """Change the hyperparameter, commit, push; the push starts a run."""
        with self.screen.step("Change a hyperparameter and push") as note:
            file = self.folder / "MLproject"
            text, old, new = checkout.change_default(file.read_text(), PARAMETER, _FACTOR)
            file.write_text(text)
            commit = remote.commit(self.folder, f"Set {PARAMETER} to {new}")
            remote.push(self.folder)
            found = self._until("the push started no run", _SOON, lambda: self._run_with(commit))
            note.result = f"{PARAMETER} {old} -> {new}, version {commit[:12]}: the push started run {found['name']}"
        return self._finish("The second run", found)

    def call(self, run: shapes.Run, before: Served | None) -> Served:
        """Find what the run serves and ask it about one real patient. With `before`, wait until its model has been replaced."""

        def look() -> shapes.Application | None:
            mine = (item for item in self.client.applications.list(workflow=run["workflow"]) if item.get("run") == run["name"])
            found = next(mine, None)
            return found if found and found.get("model") and (before is None or found["model"] != before.model) else None

        with self.screen.step("Ask the served model about a patient") as note:
            application = self._until(f"no application serves what run {run['name']} made", _SOON, look)
            prediction = number_in(self.client.predictions.predict(application["url"], ROW))
            note.result = f"{application['url']}\n{application['model']} says {prediction:.2f} (measured: {MEASURED})"
        return Served(str(application["model"]), prediction)

    def compare(self, first: Served, second: Served) -> None:
        """The second model is another one and answers otherwise. Raises PermanentError."""
        with self.screen.step("Compare both predictions") as note:
            if first.model == second.model:
                raise errors.PermanentError(f"the application still serves {first.model}")
            if math.isclose(first.prediction, second.prediction, rel_tol=1e-9):
                raise errors.PermanentError(f"{second.model} predicts what {first.model} did: {first.prediction}")
            note.result = f"{first.model}: {first.prediction:.2f}   {second.model}: {second.prediction:.2f}"

    def _finish(self, title: str, run: shapes.Run) -> shapes.Run:
        ended = self.screen.run(title, self.client.runs.watch(run["name"], sleep=self.sleep, clock=self.clock))
        if ended["state"] != "succeeded":
            self._show_logs(ended)
            raise errors.PermanentError(f"run {ended['name']} {ended['state']}: {ended.get('cause') or 'no cause is known'}")
        bound = [f"{item['step']}: {item['name']} -> {bindings.target(item)} at {item['url']}" for item in ended.get("bindings", [])]
        self.screen.lines("Bindings", bound)
        self.screen.table("Metrics", [{"metric": key, "value": f"{value:.4g}"} for key, value in metrics_of(ended).items()], _METRICS)
        self.screen.lines("Models", [model["address"] for model in self._models(ended)])
        return ended

    def _models(self, run: shapes.Run) -> list[shapes.Artifact]:
        def look() -> list[shapes.Artifact] | None:
            return list(self.client.artifacts.list(kind="model", run=run["name"])) or None

        return self._until(f"no model of run {run['name']} was recorded", _SOON, look)

    def _show_logs(self, run: shapes.Run) -> None:
        for step in run.get("steps", []):
            if step.get("state") == "failed":
                text = "".join(self.client.runs.text(run["name"], step["name"]))
                self.screen.lines(f"End of the log of {step['name']}", text.splitlines()[-_LOG_LINES:])

    def _run_with(self, commit: str | None) -> shapes.Run | None:
        return next(self.client.runs.list(project=PROJECT, codeset=CODESET, commit=commit, limit=1), None)

    def _until(self, complaint: str, seconds: float, look: Callable[[], T | None]) -> T:
        """What `look` finds, asked for again and again. Raises TemporaryError with the complaint after `seconds`."""
        deadline = self.clock() + seconds
        while True:
            found = look()
            if found is not None:
                return found
            if self.clock() > deadline:
                raise errors.TemporaryError(f"{complaint} within {seconds:g} s")
            self.sleep(0.2)


def mlflow_record(url: str, version: str) -> dict[str, object]:
    """The extension record of an MLflow server that keeps artifacts itself (one extension, two services)."""

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
    """The numbers that the run's steps report in an output called `metrics` (a JSON object). Raises PermanentError when there are none."""
    found = dict(_metrics(run))
    if not found:
        raise errors.PermanentError(f"run {run['name']} reported no metrics")
    return found


def _metrics(run: shapes.Run) -> Iterator[tuple[str, float]]:
    outputs = [step.get("outputs") or {} for step in run.get("steps", [])] + [run.get("outputs") or {}]
    for text in (item["metrics"] for item in outputs if item.get("metrics")):
        try:
            data = json.loads(text)
        except ValueError:
            raise errors.PermanentError(f"the metrics of run {run['name']} are not JSON: {text[:80]!r}") from None
        yield from ((key, value) for key, value in data.items() if isinstance(value, int | float))


def number_in(answer: list[object]) -> float:
    """The one finite number that a model answered for one row. Raises PermanentError for anything else."""
    if len(answer) == 1 and isinstance(answer[0], int | float) and math.isfinite(answer[0]):
        return float(answer[0])
    raise errors.PermanentError(f"the model answered {answer!r} instead of one number")
