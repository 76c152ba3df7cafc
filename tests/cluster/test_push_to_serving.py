"""The main job on a real cluster, through deployed functions: a push becomes a served model, the next push replaces it, nothing is lost.

`fuseml push` -> Gitea -> webhook -> gateway -> ingress -> Broker -> dispatcher -> PipelineRun -> MLflow -> Knative Service -> prediction.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from fuseml.domain import labels
from fuseml.store import database, runs
from tests.embedded import test_first_light
from tests.images import image

from .deployment import ROOT, Deployment, found, kubectl, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

EXAMPLES = ROOT / "shared/fuseml/examples"
MLFLOW = "http://mlflow.fuseml.svc.cluster.local:5000"
WORKLOADS = "fuseml-workloads"


@pytest.fixture(scope="module")
def mlflow(deployment: Deployment) -> Iterator[str]:
    """The MLflow for trying out, registered; it stays where it was there before."""
    there = any(item["metadata"]["name"] == "mlflow" for item in found("statefulsets"))
    manifests = kubectl("kustomize", str(ROOT / "infra/integrations/mlflow")).replace("ghcr.io/fuseml/steps:0.1.0", image("STEPS"))
    kubectl("apply", "--server-side", "--filename=-", given=manifests)
    kubectl("rollout", "status", "statefulset/mlflow", "--namespace=fuseml", "--timeout=600s")
    deployment.fuseml("extension", "discover", MLFLOW, "--apply")
    yield MLFLOW
    if not there:
        deployment.fuseml("extension", "delete", "mlflow", "--force")
        kubectl("delete", "--filename=-", "--wait=false", given=manifests)


@dataclass(frozen=True)
class Story:
    """A project of its own, with the shipped codeset and the shipped workflow."""

    deployment: Deployment
    code: pathlib.Path
    workflow: str
    project: str

    @property
    def application(self) -> str:
        return f"{self.project}-diabetes-{self.workflow}"

    def run(self, number: int) -> dict[str, Any]:
        told: dict[str, Any] = self.deployment.told(f"/runs/{self.workflow}-{number}")
        return told

    def push(self) -> str:
        return self.deployment.fuseml("push", str(self.code), "-p", self.project, "-n", "diabetes", "--wait", timeout=1200)

    def predict(self, rows: list[list[float]]) -> list[float]:
        url = self.deployment.told(f"/applications/{self.application}")["url"]
        model = urllib3.request("GET", url.removesuffix("/infer"), timeout=120.0, retries=False).json()
        columns = [
            {"name": column["name"], "shape": [len(rows)], "datatype": column["datatype"], "data": [row[index] for row in rows]}
            for index, column in enumerate(model["inputs"])
        ]
        answer = urllib3.request("POST", url, json={"inputs": columns}, timeout=120.0, retries=False)
        assert answer.status == 200, answer.data
        return [float(value) for value in answer.json()["outputs"][0]["data"]]


@pytest.fixture(scope="module")
def story(deployment: Deployment, mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    mark = os.urandom(2).hex()
    folder = tmp_path_factory.mktemp("story")
    shutil.copytree(EXAMPLES / "codesets/sklearn-diabetes", folder / "code")
    told = Story(deployment, folder / "code", f"e2e-{mark}", f"demo{mark}")
    document = (EXAMPLES / "workflows/mlflow-e2e.yaml").read_text().replace("name: mlflow-e2e\n", f"name: {told.workflow}\n")
    for shipped, name in (("ghcr.io/fuseml/mlflow-builder:v1", "BUILDER"), ("ghcr.io/fuseml/predictor:v1", "PREDICTOR")):
        document = document.replace(shipped, image(name))
    (folder / "workflow.yaml").write_text(document)
    deployment.fuseml("project", "create", "-n", told.project)
    deployment.fuseml("push", str(told.code), "-p", told.project, "-n", "diabetes")
    deployment.fuseml("workflow", "create", str(folder / "workflow.yaml"))
    yield told
    deployment.fuseml("workflow", "delete", told.workflow, "--force")
    deployment.fuseml("application", "delete", told.application)
    deployment.fuseml("codeset", "delete", "-p", told.project, "-n", "diabetes")
    deployment.fuseml("project", "delete", told.project)
    services = [item["metadata"]["name"] for item in found("ksvc", namespace=WORKLOADS)]
    assert told.application not in services


def test_a_push_becomes_a_served_model_and_the_next_push_replaces_it(story: Story, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    begun = time.monotonic()
    assigned = ("workflow", "assign", "-n", story.workflow, "-p", story.project, "-c", "diabetes", "--wait")
    story.deployment.fuseml(*assigned, timeout=1200)
    said.append(f"assigned to served {time.monotonic() - begun:.1f} s")
    _check(story, 1, 0.1)

    manifest = story.code / "MLproject"
    manifest.write_text(manifest.read_text().replace("default: 0.1", "default: 2.5"))
    rows = test_first_light.trained_by_scikit_learn(0.1)[1]
    with _Asking(story, rows) as asked:
        begun, pushed = time.monotonic(), time.time()
        story.push()
        said.append(f"push to served {time.monotonic() - begun:.1f} s")
        wait_until(lambda: len({answer[0] for answer in asked.answers}) == 2, 60, "the new model answers")
    _check(story, 2, 2.5)
    assert asked.failures == []
    said.append(f"{len(asked.answers)} predictions meanwhile, none failed")

    second = story.run(2)
    created = found("pipelineruns", f"--selector={labels.NAME_LABEL}={second['name']}", namespace=WORKLOADS)[0]["metadata"][
        "creationTimestamp"
    ]
    said.append(
        f"push to PipelineRun created {_seconds(created) - pushed:.0f} s (to the second), to the run's start {_seconds(second['started']) - pushed:.1f} s"
    )
    with capsys.disabled():
        sys.stderr.write("\n" + "\n".join(said) + "\n")


def test_lineage_and_cause_are_known(story: Story) -> None:
    first, second = story.run(1), story.run(2)
    assert first["commit"] != second["commit"]
    models = {item["address"] for item in story.deployment.told(f"/artifacts?kind=model&project={story.project}")}
    assert len(models) == 2
    told = story.deployment.fuseml("why", second["name"])
    # From zero, the webhook may take longer than the git host waits; then the sweep tells.
    assert "refs/heads/main was pushed" in told
    assert "a webhook of the git host" in told or "the sweep found it" in told
    bound = {(binding["step"], binding["name"]): binding["url"] for binding in second["bindings"]}
    assert bound["trainer", "mlflow-tracking"] == MLFLOW


def test_logs_stay_when_the_pods_are_gone(story: Story, store: database.Database) -> None:
    before = story.deployment.fuseml("run", "logs", f"{story.workflow}-2", "trainer")
    assert "train.py --alpha 2.5" in before
    if not json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]["FUSEML_CONTENTS_URL"]:
        pytest.skip("needs contents: FUSEML_CONTENTS_URL")
    wait_until(lambda: _archived(story, store), 180, "the sweep keeps the logs")
    kubectl("delete", "pods", f"--selector={labels.NAME_LABEL}={story.workflow}-2", f"--namespace={WORKLOADS}", "--wait=true")
    assert story.deployment.fuseml("run", "logs", f"{story.workflow}-2", "trainer") == before


def _archived(story: Story, store: database.Database) -> bool:
    with store.read() as session:
        return all(step.archived for step in runs.steps(session, [story.run(2)["id"]]))


def _check(story: Story, number: int, alpha: float) -> None:
    ended = story.run(number)
    assert (ended["state"], ended["cause"]) == ("succeeded", None)
    metrics, rows, predictions = test_first_light.trained_by_scikit_learn(alpha)
    steps = {step["name"]: step for step in ended["steps"]}
    assert json.loads(steps["trainer"]["outputs"]["metrics"]) == pytest.approx(metrics)
    assert ended["outputs"]["prediction-url"] == story.deployment.told(f"/applications/{story.application}")["url"]
    assert story.predict(rows) == pytest.approx(predictions)


def _seconds(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()


class _Asking:
    """Asks for predictions all the time."""

    def __init__(self, story: Story, rows: list[list[float]]) -> None:
        self.answers: list[tuple[float, ...]] = []
        self.failures: list[str] = []
        self._story, self._rows, self._stopping = story, rows, threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> _Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stopping.wait(0.5):
            try:
                self.answers.append(tuple(self._story.predict(self._rows)))
            except (urllib3.exceptions.HTTPError, AssertionError, KeyError) as error:
                self.failures.append(repr(error))
