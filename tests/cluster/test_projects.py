"""Repositories of `tests/projects` on a real cluster, whose environments the builder makes: from a push to predictions of the served model
that equal those of the model loaded directly, in a step with the same environment.

FUSEML_TEST_INDEX_URL is a package index that pods reach. The deployment builds images (FUSEML_IMAGE_REPOSITORY). Pushed images are not removed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml.contents import s3
from fuseml.domain import labels
from fuseml.domain.runs.state import FINISHED
from tests import s3_servers
from tests.images import image
from tests.projects import running, table
from tests.waiting import CLUSTER_PATIENCE

from .deployment import Deployment, kubectl, resources, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

WORKLOADS = "fuseml-workloads"
PINS = {"mlflow": "3.8.1", "scikit-learn": "1.6.1"}
"""Older than those of the built-in environment."""
DATA = "files/md5/bb/2fdf1816934220dafb1f433f5d4e9e"
"""The file of data in the remote of the codeset `dvc-data`."""

# GIVEN are the inputs of the table, SELECTED a further selector.
WORKFLOW = """
name: NAME
inputs: [{name: code, type: codeset}]
outputs: [{name: prediction-url}]
steps:
  - name: builder
    image: BUILDER
    inputs:
      - {name: code, codeset: {name: "{{ inputs.code }}", path: /project}}
      - {name: index-url, value: "INDEX"}
GIVEN
    outputs: [{name: image}]
  - name: trainer
    image: "{{ steps.builder.outputs.image }}"
    inputs:
      - {name: code, codeset: {name: "{{ inputs.code }}", path: /project}}
GIVEN
    outputs: [{name: model}, {name: metrics}]
    extensions:
      - {name: mlflow-tracking, product: mlflow, service_resource: mlflow-tracking}
SELECTED
  - name: direct
    image: "{{ steps.builder.outputs.image }}"
    inputs: [{name: model, value: "{{ steps.trainer.outputs.model }}"}]
    outputs: [{name: predicted}]
    extensions:
      - {name: mlflow-tracking, product: mlflow, service_resource: mlflow-tracking}
    script: |
      python -I - <<END
      import importlib.metadata, json, os
      import mlflow, numpy, pandas
      model = mlflow.pyfunc.load_model(os.environ["FUSEML_MODEL"])
      columns = model.metadata.get_input_schema().input_names()
      rows = numpy.random.default_rng(7).random((3, len(columns))).round(4)
      predictions = [float(value) for value in model.predict(pandas.DataFrame(rows, columns=columns))]
      versions = {name: importlib.metadata.version(name) for name in ("mlflow", "scikit-learn")}
      with open(os.environ["FUSEML_ENV_RESULTS"] + "/predicted", "w") as file:
          json.dump({"rows": rows.tolist(), "predictions": predictions, "versions": versions}, file)
      END
  - name: predictor
    image: PREDICTOR
    inputs:
      - {name: code, codeset: {name: "{{ inputs.code }}", path: /project}}
      - {name: model, value: "{{ steps.trainer.outputs.model }}"}
      - {name: runtime, value: "{{ steps.builder.outputs.image }}"}
    outputs: [{name: prediction-url}]
    extensions:
      - {name: mlflow-tracking, product: mlflow, service_resource: mlflow-tracking}
      - {name: prediction-serving, service_category: prediction-serving}
"""


@dataclass(frozen=True)
class Team:
    """A project, deleted at the end with all that the tests make in it. `index` is the package index of the builders."""

    deployment: Deployment
    project: str
    index: str

    def workflow(self, codeset: str) -> str:
        return f"{codeset}-{self.project}"

    def run(self, codeset: str) -> dict[str, Any]:
        run: dict[str, Any] = self.deployment.read(f"/runs/{self.workflow(codeset)}-1")
        return run

    def prepare(self, project: table.Project, folder: Path, selected: str = "") -> None:
        """A codeset without commits, and a workflow that is assigned to it. `selected` are further selectors of the trainer."""
        given = "".join(f'      - {{name: {name}, value: "{value}"}}\n' for name, value in project.inputs.items())
        document = WORKFLOW.replace("NAME", self.workflow(project.name)).replace("INDEX", self.index)
        document = document.replace("GIVEN\n", given).replace("SELECTED\n", selected)
        file = folder.with_name(f"{project.name}.yaml")
        file.write_text(document.replace("BUILDER", image("BUILDER")).replace("PREDICTOR", image("PREDICTOR")))
        self.deployment.fuseml("workflow", "create", str(file))
        self.deployment.post(f"/codesets?project={self.project}&name={project.name}")
        self.deployment.fuseml("workflow", "assign", "-n", self.workflow(project.name), "-p", self.project, "-c", project.name)

    def push(self, project: table.Project, folder: Path, *options: str) -> None:
        self.deployment.fuseml("push", str(folder), "-p", self.project, "-n", project.name, *options, patience=3 * CLUSTER_PATIENCE)

    def check(self, project: table.Project) -> dict[str, Any]:
        """The training had the outcome of the table, and the served model predicts as the model that was loaded directly.

        Returns the output of the step that loaded it.
        """
        run = self.run(project.name)
        assert (run["state"], run["cause"]) == ("succeeded", None)
        outputs = {step["name"]: step["outputs"] for step in run["steps"]}
        metrics = json.loads(outputs["trainer"]["metrics"])
        assert {name: metrics.get(name) for name in project.metrics} == project.metrics
        assert outputs["trainer"]["model"].startswith(project.model)
        assert outputs["builder"]["image"].startswith(f"{_settings()['FUSEML_IMAGE_REPOSITORY']}@sha256:")
        direct: dict[str, Any] = json.loads(outputs["direct"]["predicted"])
        assert len(set(direct["predictions"])) == 3
        application = f"{self.project}-{project.name}-{self.workflow(project.name)}"
        assert self.deployment.predict(application, direct["rows"]) == direct["predictions"]
        return direct


def _settings() -> dict[str, str]:
    settings: dict[str, str] = json.loads(kubectl("get", "configmap", "fuseml", "--namespace=fuseml", "--output=json"))["data"]
    return settings


@pytest.fixture(scope="module")
def team(deployment: Deployment, mlflow: str) -> Iterator[Team]:
    index = os.environ.get("FUSEML_TEST_INDEX_URL")
    if not index:
        pytest.skip("needs FUSEML_TEST_INDEX_URL, a package index that pods reach")
    if not _settings()["FUSEML_IMAGE_REPOSITORY"]:
        pytest.skip("needs a deployment that builds images: FUSEML_IMAGE_REPOSITORY")
    team = Team(deployment, f"team{os.urandom(2).hex()}", index)
    deployment.fuseml("project", "create", "-n", team.project)
    yield team
    for application in deployment.read("/applications"):
        if application["project"] == team.project:
            deployment.fuseml("application", "delete", application["name"])
    for codeset in deployment.read(f"/codesets?project={team.project}"):
        deployment.fuseml("workflow", "delete", team.workflow(codeset["name"]), "--force")
        deployment.fuseml("codeset", "delete", "-p", team.project, "-n", codeset["name"])
    deployment.fuseml("project", "delete", team.project)


def _named(name: str) -> table.Project:
    [project] = [project for project in table.PROJECTS if project.name == name]
    return project


def test_a_repository_with_older_pins_is_trained_and_served_in_its_own_environment(team: Team, tmp_path: Path) -> None:
    project = _named("plain-script")
    folder = running.checkout(project, tmp_path)
    (folder / "requirements.txt").write_text("".join(f"{name}=={version}\n" for name, version in PINS.items()))
    team.prepare(project, folder)
    team.push(project, folder, "--wait")
    assert team.check(project)["versions"] == PINS


def test_a_notebook_is_executed_and_its_model_is_served(team: Team, tmp_path: Path) -> None:
    project = _named("notebook")
    folder = running.checkout(project, tmp_path)
    team.prepare(project, folder)
    team.push(project, folder, "--wait")
    team.check(project)
    assert "training with 0.5" in team.deployment.fuseml("run", "logs", team.run(project.name)["name"], "trainer")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[s3_servers.Server]:
    """An S3 server that pods reach, with the data of the codeset `dvc-data`."""
    (tmp_path / "s3").mkdir()
    with s3_servers.server(tmp_path / "s3", "0.0.0.0") as server:
        bucket = s3.S3Contents(s3_servers.BUCKET, "store", server.account)
        bucket.put(DATA, [(table.CODESETS / "dvc-data" / "store" / DATA).read_bytes()])
        bucket.close()
        yield server


@contextlib.contextmanager
def _registered(team: Team, url: str, account: Mapping[str, str], folder: Path) -> Iterator[str]:
    """The identifier, and product, of an extension for the S3 server at `url`, whose account belongs to the team."""
    name = f"data-{team.project}"
    endpoint = {"url": url, "configuration": {"AWS_ENDPOINT_URL_S3": url, "AWS_REGION": "us-east-1"}}
    credentials = {"id": "data", "scope": "project", "projects": [team.project], "configuration": dict(account)}
    service = {"id": "s3", "resource": "s3", "auth_required": True, "endpoints": [endpoint], "credentials": [credentials]}
    file = folder / "extension.json"
    file.write_text(json.dumps({"id": name, "product": name, "version": "1.0.0", "services": [service]}))
    team.deployment.fuseml("extension", "register", "-f", str(file))
    yield name
    team.deployment.fuseml("extension", "delete", name, "--force")


def _holders(secret: str) -> list[tuple[str, str]]:
    """Kind and run of each object in the namespaces of FuseML that has the secret, plain or encoded."""
    spellings = (secret, base64.b64encode(secret.encode()).decode())
    kinds = "secrets,configmaps,pods,events,persistentvolumeclaims,pipelineruns,taskruns,ksvc,revisions,deployments,statefulsets"
    items = [item for namespace in ("fuseml", WORKLOADS) for item in resources(kinds, namespace=namespace)]
    holders = [item for item in items if any(spelling in json.dumps(item) for spelling in spellings)]
    return [(item["kind"], item["metadata"].get("labels", {}).get(labels.NAME_LABEL, "")) for item in holders]


def test_data_of_dvc_comes_from_s3_by_an_account_that_only_the_secret_of_the_run_holds(
    team: Team, store: s3_servers.Server, tmp_path: Path
) -> None:
    project = _named("dvc-data")
    folder = running.checkout(project, tmp_path)
    shutil.rmtree(folder / "store")
    (folder / ".dvc/config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = s3://{s3_servers.BUCKET}/store\n")
    # By an address the client of S3 puts the bucket into the path, as the server expects.
    url = f"http://{socket.gethostbyname(os.environ.get('FUSEML_TEST_HOST', 'host.local'))}:{store.port}"
    secret = store.account.secret_key
    account = {"AWS_ACCESS_KEY_ID": store.account.access_key, "AWS_SECRET_ACCESS_KEY": secret}
    with _registered(team, url, account, tmp_path) as extension:
        team.prepare(project, folder, f"      - {{name: data-store, product: {extension}, service_resource: s3}}\n")
        assert _holders(secret) == []
        team.push(project, folder)
        name, seen = f"{team.workflow(project.name)}-1", set()

        def has_ended() -> bool:
            seen.update(_holders(secret))
            return {run["name"]: run["state"] for run in team.deployment.read("/runs")}.get(name) in FINISHED

        wait_until(has_ended, lambda: f"the end of {name}", patience=3 * CLUSTER_PATIENCE)
        team.check(project)
        assert seen == {("Secret", name)}
        logs = "".join(team.deployment.fuseml("run", "logs", name, step) for step in ("builder", "trainer", "direct", "predictor"))
        assert "pulling data/rows.csv by DVC" in logs
        assert secret not in logs
        wait_until(lambda: not _holders(secret), lambda: f"the Secret of the run to go: {_holders(secret)}")
