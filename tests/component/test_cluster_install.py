"""`fuseml install`, `upgrade` and `status --cluster`: prerequisites and plan, with the real kubectl. The deployment itself: tests/cluster."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml.deployment import cluster as deployed
from fuseml.runtime import catalog
from tests import commands
from tests.component import kubernetes_server
from tests.component.kubernetes_server import Cluster

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
PLATFORMS = ("services.serving.knative.dev", "brokers.eventing.knative.dev", "pipelineruns.tekton.dev")


@dataclass
class Place:
    cluster: Cluster
    environment: dict[str, str]

    def fuseml(self, *arguments: str, code: int = 0) -> Any:
        return commands.fuseml(*arguments, environment=self.environment, code=code)

    def complete(self) -> None:
        self.cluster.define(*PLATFORMS, **{"app.kubernetes.io/version": "1.22.0"})
        metadata = {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        self.cluster.put({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata})


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    # A plan only needs to find it.
    kn = tmp_path / "kn"
    kn.write_text("#!/bin/sh\nexit 1\n")
    kn.chmod(0o755)
    cluster = Cluster()
    with kubernetes_server.serving(cluster, tmp_path) as kubeconfig:
        path = f"{tmp_path}:{os.environ['PATH']}"
        yield Place(
            cluster, {"PATH": path, "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig), "FUSEML_HOME": str(tmp_path), "COLUMNS": "80"}
        )


def test_every_missing_prerequisite_is_listed_with_the_way_out(place: Place) -> None:
    (Path(place.environment["HOME"]) / "kn").unlink()
    place.cluster.forbidden = {"clusterroles"}
    refused = place.fuseml("install", "--yes", code=1)
    missing = (
        "kn, Knative Serving, Knative Eventing, Tekton Pipelines, storage class, right to create clusterroles.rbac.authorization.k8s.io"
    )
    assert refused.stderr == f"error: nothing was changed; prerequisites are missing: {missing}\n"
    for way in ("install it (https://knative.dev", "install Tekton Pipelines (https://tekton.dev", "use the account of an administrator"):
        assert way in refused.stdout
    assert {method for method, path in place.cluster.requests if "selfsubject" not in path} == {"GET"}
    unreachable = place.environment | {"KUBECONFIG": "/nonexistent"}
    status = commands.fuseml("status", "--cluster", environment=unreachable, code=1)
    assert "set KUBECONFIG to the file of your cluster" in status.stdout


def test_the_plan_names_every_part_and_changes_nothing(place: Place) -> None:
    place.complete()
    planned = place.fuseml("install", "--image", "registry.example.com/functions:7", "--dry-run", "-o", "json")
    parts = {row["part"]: row for row in json.loads(planned.stdout)}
    functions = {f"function {function.service}" for function in (*catalog.FUNCTIONS, catalog.GATEWAY)}
    assert {part for part in parts if part.startswith("function ")} == functions
    assert all(parts[part]["action"] == "create" for part in functions)
    assert parts["function dispatcher"]["detail"] == "registry.example.com/functions:7"
    assert (parts["PostgreSQL"]["action"], parts["S3"]["action"], parts["namespace fuseml"]["action"]) == ("create", "create", "create")
    place.environment["FUSEML_DATABASE_URL"] = "postgresql+psycopg://ada@db.example.com/fuseml"
    asked = place.fuseml("install", code=1)
    assert [line.split() for line in asked.stdout.splitlines() if line.startswith("PostgreSQL")] == [["PostgreSQL", "keep", "your", "own"]]
    assert "nothing was changed; answer y or pass --yes" in asked.stderr
    assert {method for method, path in place.cluster.requests if "selfsubject" not in path} == {"GET"}
    assert place.cluster.names("namespaces") == []


def test_an_upgrade_and_the_status_need_a_deployment(place: Place) -> None:
    place.complete()
    assert "`fuseml install` deploys it" in place.fuseml("upgrade", "--yes", code=1).stderr
    assert "`fuseml install` deploys it" in place.fuseml("status", "--cluster", code=1).stderr
    place.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fuseml"}})
    broker = {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "fuseml", "namespace": "fuseml"}}
    place.cluster.put(broker)
    rows = {row["part"]: row["action"] for row in json.loads(place.fuseml("upgrade", "--dry-run", "-o", "json").stdout)}
    assert (rows["namespace fuseml"], rows["broker, triggers, schedule"]) == ("keep", "update")
    status = json.loads(place.fuseml("status", "--cluster", "-o", "json", code=1).stdout)
    assert status == [{"part": "broker fuseml", "state": "not ready", "detail": "its status is not known yet"}]
    conditions = [{"type": "Ready", "status": "True"}]
    place.cluster.put({**broker, "status": {"observedGeneration": 1, "conditions": conditions}})
    assert json.loads(place.fuseml("status", "--cluster", "-o", "json").stdout)[0]["state"] == "ready"


def test_every_folder_of_manifests_that_a_deployment_applies_is_found_and_packaged() -> None:
    root = Path(__file__).parents[2]
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for folder in (
        "knative",
        "eventing",
        "infra/kubernetes",
        "infra/kubernetes/warm",
        "infra/integrations/tekton",
        "infra/integrations/s3",
    ):
        assert (deployed.place(folder) / "kustomization.yaml").is_file(), folder
        (source,) = [source for source in packaged if f"{folder}/".startswith(f"{source}/")]
        assert packaged[source] == ("fuseml/eventing" if source == "eventing" else f"fuseml/manifests/{source}")


def test_a_removal_names_its_cluster_and_changes_nothing_without_a_consent(place: Place) -> None:
    place.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fuseml"}})
    refused = place.fuseml("uninstall", code=1)
    assert "fuseml and fuseml-workloads of the cluster (context test) with all their data" in refused.stdout
    assert "nothing was removed" in refused.stderr
    assert place.cluster.names("namespaces") == ["fuseml"]
