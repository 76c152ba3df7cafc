"""The main scenario on a real cluster with deployed functions: a push becomes a served model, and the next push replaces it without loss.

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

from fuseml.client import git
from fuseml.domain import labels
from fuseml.domain.workflows import deployment as workflows_deployment
from fuseml.store import database, runs
from tests.embedded import test_first_light
from tests.images import image
from tests.waiting import CLUSTER_PATIENCE

from .deployment import ROOT, Deployment, kubectl, resources, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

EXAMPLES = ROOT / "shared/fuseml/examples"
WORKLOADS = "fuseml-workloads"
BRANCH = "refs/heads/try-0.5"


@dataclass(frozen=True)
class Scenario:
    """A project of its own with the shipped codeset and the shipped workflow."""

    deployment: Deployment
    mlflow: str
    code: pathlib.Path
    workflow: str
    project: str

    @property
    def application(self) -> str:
        return f"{self.project}-diabetes-{self.workflow}"

    def run(self, number: int) -> dict[str, Any]:
        run: dict[str, Any] = self.deployment.read(f"/runs/{self.workflow}-{number}")
        return run

    def push(self) -> str:
        return self.deployment.fuseml("push", str(self.code), "-p", self.project, "-n", "diabetes", "--wait", patience=2 * CLUSTER_PATIENCE)

    def predict(self, rows: list[list[float]], application: str = "") -> list[float]:
        return self.deployment.predict(application or self.application, rows)


@pytest.fixture(scope="module")
def scenario(deployment: Deployment, mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    mark = os.urandom(2).hex()
    folder = tmp_path_factory.mktemp("scenario")
    shutil.copytree(EXAMPLES / "codesets/sklearn-diabetes", folder / "code")
    scenario = Scenario(deployment, mlflow, folder / "code", f"e2e-{mark}", f"demo{mark}")
    document = (EXAMPLES / "workflows/mlflow-e2e.yaml").read_text().replace("name: mlflow-e2e\n", f"name: {scenario.workflow}\n")
    for shipped, name in (("ghcr.io/fuseml/mlflow-builder:v1", "BUILDER"), ("ghcr.io/fuseml/predictor:v1", "PREDICTOR")):
        document = document.replace(shipped, image(name))
    (folder / "workflow.yaml").write_text(f"{document}deploy: {{preview: true}}\n")
    deployment.fuseml("project", "create", "-n", scenario.project)
    deployment.fuseml("push", str(scenario.code), "-p", scenario.project, "-n", "diabetes")
    deployment.fuseml("workflow", "create", str(folder / "workflow.yaml"))
    yield scenario
    deployment.fuseml("workflow", "delete", scenario.workflow, "--force")
    deployment.fuseml("application", "delete", scenario.application)
    deployment.fuseml("codeset", "delete", "-p", scenario.project, "-n", "diabetes")
    deployment.fuseml("project", "delete", scenario.project)
    services = [item["metadata"]["name"] for item in resources("ksvc", namespace=WORKLOADS)]
    assert scenario.application not in services


def test_a_push_becomes_a_served_model_and_the_next_push_replaces_it(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    figures: list[str] = []
    start = time.monotonic()
    assigned = ("workflow", "assign", "-n", scenario.workflow, "-p", scenario.project, "-c", "diabetes", "--wait")
    scenario.deployment.fuseml(*assigned, patience=2 * CLUSTER_PATIENCE)
    figures.append(f"assigned to served {time.monotonic() - start:.1f} s")
    _check(scenario, 1, 0.1)

    manifest = scenario.code / "MLproject"
    manifest.write_text(manifest.read_text().replace("default: 0.1", "default: 2.5"))
    rows = test_first_light.reference_model(0.1)[1]
    with _Client(scenario, rows) as client:
        start, pushed = time.monotonic(), time.time()
        scenario.push()
        figures.append(f"push to served {time.monotonic() - start:.1f} s")
        wait_until(lambda: len({prediction[0] for prediction in client.predictions}) == 2, "the new model answers")
    _check(scenario, 2, 2.5)
    assert client.failures == []
    figures.append(f"{len(client.predictions)} predictions meanwhile, none failed")

    second = scenario.run(2)
    # The PipelineRun goes once its logs are kept.
    figures.append(f"push to the run's start {_seconds(second['started']) - pushed:.1f} s")
    with capsys.disabled():
        sys.stderr.write("\n" + "\n".join(figures) + "\n")


def test_lineage_and_cause_are_recorded(scenario: Scenario) -> None:
    first, second = scenario.run(1), scenario.run(2)
    assert first["commit"] != second["commit"]
    models = {item["address"] for item in scenario.deployment.read(f"/artifacts?kind=model&project={scenario.project}")}
    assert len(models) == 2
    explanation = scenario.deployment.fuseml("why", second["name"])
    # The start from zero may exceed the timeout of the git host's webhook; then the sweep reports the push.
    assert "refs/heads/main was pushed" in explanation
    assert "a webhook of the git host" in explanation or "the sweep found it" in explanation
    endpoints = {(binding["step"], binding["name"]): binding["url"] for binding in second["bindings"]}
    assert endpoints["trainer", "mlflow-tracking"] == scenario.mlflow


def test_predictions_are_inside_the_cluster_until_the_application_is_public(scenario: Scenario) -> None:
    domain = os.environ.get("CLUSTER_DOMAIN", "cluster.test")
    rows = test_first_light.reference_model(2.5)[1]

    def url() -> str:
        return str(scenario.deployment.read(f"/applications/{scenario.application}")["url"])

    assert ".svc.cluster.local/" in url()
    scenario.deployment.fuseml("application", "publish", scenario.application)
    wait_until(lambda: f".{domain}/" in url(), "the address outside of the cluster")
    assert len(scenario.predict(rows)) == len(rows)
    scenario.deployment.fuseml("application", "publish", scenario.application, "--no-public")
    wait_until(lambda: ".svc.cluster.local/" in url(), "the address inside the cluster")
    assert len(scenario.predict(rows)) == len(rows)


def test_logs_stay_readable_after_the_pods_are_deleted(scenario: Scenario, store: database.Database) -> None:
    before = scenario.deployment.fuseml("run", "logs", f"{scenario.workflow}-2", "trainer")
    assert "train.py --alpha 2.5" in before
    if not json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]["FUSEML_CONTENTS_URL"]:
        pytest.skip("needs contents: FUSEML_CONTENTS_URL")
    wait_until(lambda: _archived(scenario, store), "the sweep keeps the logs")
    selector = f"--selector={labels.RUN_LABEL}={scenario.run(2)['id']}"
    wait_until(lambda: not resources("pods,pipelineruns", selector, namespace=WORKLOADS), "pods and PipelineRun to go")
    assert scenario.deployment.fuseml("run", "logs", f"{scenario.workflow}-2", "trainer") == before


def test_a_branch_serves_a_preview_until_it_is_deleted(scenario: Scenario, tmp_path: pathlib.Path) -> None:
    codeset = ("-p", scenario.project, "-n", "diabetes", "-o", "json")
    account = json.loads(scenario.deployment.fuseml("codeset", "rotate-password", *codeset))
    url = json.loads(scenario.deployment.fuseml("codeset", "get", *codeset))["url"]
    remote = git.Remote(url, account["username"], account["password"], os.environ)
    clone, (_, rows, predictions) = tmp_path / "clone", test_first_light.reference_model(0.5)
    remote.clone(clone)
    manifest = clone / "MLproject"
    manifest.write_text(manifest.read_text().replace("default: 2.5", "default: 0.5"))
    remote.commit(clone, "try another value")
    remote.run("push", "--quiet", url, f"HEAD:{BRANCH}", folder=clone)

    def previews() -> list[str]:
        listed = scenario.deployment.read(f"/applications?workflow={scenario.workflow}")
        return [item["name"] for item in listed if item.get("preview") == workflows_deployment.preview_name(BRANCH)]

    wait_until(previews, "the preview")
    (preview,) = previews()
    wait_until(lambda: scenario.deployment.read(f"/applications/{preview}")["status"] == "ready", "the preview to be ready")
    assert scenario.predict(rows, preview) == pytest.approx(predictions)
    assert scenario.predict(rows) == pytest.approx(test_first_light.reference_model(2.5)[2])
    remote.run("push", "--quiet", url, f":{BRANCH}", folder=clone)
    wait_until(lambda: not previews(), "the end of the preview")
    wait_until(lambda: preview not in [item["metadata"]["name"] for item in resources("ksvc", namespace=WORKLOADS)], "its service to go")
    assert scenario.predict(rows) == pytest.approx(test_first_light.reference_model(2.5)[2])


@pytest.mark.parametrize(("command", "revision", "alpha"), [(("rollback",), 1, 0.1), (("traffic", "2=100"), 2, 2.5)], ids=["back", "forth"])
def test_the_named_revision_answers_when_the_command_ends(
    scenario: Scenario, command: tuple[str, ...], revision: int, alpha: float
) -> None:
    scenario.deployment.fuseml("application", command[0], scenario.application, *command[1:])
    _, rows, predictions = test_first_light.reference_model(alpha)
    assert scenario.predict(rows) == pytest.approx(predictions)
    application = scenario.deployment.read(f"/applications/{scenario.application}")
    assert [share["revision"] for share in application["answering"]] == [revision]


def _archived(scenario: Scenario, store: database.Database) -> bool:
    with store.read() as session:
        return all(step.archived for step in runs.steps(session, [scenario.run(2)["id"]]))


def _check(scenario: Scenario, number: int, alpha: float) -> None:
    run = scenario.run(number)
    assert (run["state"], run["cause"]) == ("succeeded", None)
    metrics, rows, predictions = test_first_light.reference_model(alpha)
    steps = {step["name"]: step for step in run["steps"]}
    assert json.loads(steps["trainer"]["outputs"]["metrics"]) == pytest.approx(metrics)
    assert run["outputs"]["prediction-url"] == scenario.deployment.read(f"/applications/{scenario.application}")["url"]
    assert scenario.predict(rows) == pytest.approx(predictions)


def _seconds(moment: str) -> float:
    return datetime.datetime.fromisoformat(moment).timestamp()


class _Client:
    """Requests predictions continuously."""

    def __init__(self, scenario: Scenario, rows: list[list[float]]) -> None:
        self.predictions: list[tuple[float, ...]] = []
        self.failures: list[str] = []
        self._scenario, self._rows, self._stopping = scenario, rows, threading.Event()
        self._thread = threading.Thread(target=self._request)

    def __enter__(self) -> _Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _request(self) -> None:
        while not self._stopping.wait(0.5):
            try:
                self.predictions.append(tuple(self._scenario.predict(self._rows)))
            except (urllib3.exceptions.HTTPError, AssertionError, KeyError) as error:
                self.failures.append(repr(error))
