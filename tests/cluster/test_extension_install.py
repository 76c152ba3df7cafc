"""`fuseml extension install` and `discover --cluster`, and the commands for FuseML itself, on a real cluster.

versitygw needs one public image (FUSEML_TEST_IMAGE_S3 replaces it); cert-manager needs `helm` and its chart's repository.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fuseml.installing import folders
from tests import commands
from tests.images import image
from tests.waiting import CLUSTER_PATIENCE

from .deployment import Deployment, kubectl, resources, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """The shipped description of versitygw, with the image of the tests."""
    folder = tmp_path / "versitygw"
    shutil.copytree(folders.SHIPPED / "versitygw", folder)
    manifest = folder / "versitygw.yaml"
    manifest.write_text(manifest.read_text().replace("docker.io/versity/versitygw:v1.7.0", image("S3")))
    yield folder
    kubectl("delete", "namespace", "versitygw", "--ignore-not-found", "--wait=false")
    kubectl("delete", "secret", "versitygw", "--namespace=fuseml-tools", "--ignore-not-found")


def test_a_store_is_installed_found_by_its_selector_healthy_and_removed(deployment: Deployment, store: Path) -> None:
    planned = deployment.fuseml("extension", "install", str(store), "--dry-run")
    assert "manifest versitygw.yaml" in planned
    deployment.fuseml("extension", "install", str(store), "--yes", patience=CLUSTER_PATIENCE)
    record = deployment.read("/extensions/versitygw")
    (service,) = record["services"]
    assert (record["zone"], service["endpoints"][0]["type"]) == ("", "internal")
    # The account of the cluster opens the store: the sweep's probe signs a request with it.
    wait_until(
        lambda: (deployment.read("/extensions/versitygw")["services"][0]["credentials"][0]["status"].get("health") or {}).get("state"),
        "the first probe of the store",
    )
    assert deployment.read("/extensions/versitygw")["services"][0]["credentials"][0]["status"]["health"]["state"] == "healthy"
    pods = [item["metadata"]["uid"] for item in resources("pods", namespace="versitygw")]
    assert "already installed" in deployment.fuseml("extension", "install", str(store), "--yes")
    assert [item["metadata"]["uid"] for item in resources("pods", namespace="versitygw")] == pods
    deployment.fuseml("extension", "uninstall", str(store), "--yes", patience=CLUSTER_PATIENCE)
    assert deployment.get("/extensions/versitygw", token=deployment.token).status == 404
    assert not kubectl("get", "namespace", "versitygw", "--ignore-not-found")


def test_an_image_that_does_not_exist_is_named_and_the_right_one_continues(deployment: Deployment, store: Path) -> None:
    manifest, description = store / "versitygw.yaml", store / "description.yaml"
    right = manifest.read_text()
    document = yaml.safe_load(description.read_text())
    document["install"][0]["waitfor"][0]["timeout"] = 30
    description.write_text(yaml.safe_dump(document, sort_keys=False))
    manifest.write_text(right.replace(image("S3"), "registry.local:5000/none:1"))
    failed = deployment.fuseml("extension", "install", str(store), "--yes", code=1)
    assert "ImagePull" in failed
    manifest.write_text(right)
    # A StatefulSet does not replace a pod that never became ready.
    kubectl("delete", "pod", "versitygw-0", "--namespace=versitygw", "--wait=false")
    deployment.fuseml("extension", "install", str(store), "--yes", patience=CLUSTER_PATIENCE)
    assert deployment.read("/extensions/versitygw")["services"]


def test_the_platforms_of_the_cluster_are_found(deployment: Deployment) -> None:
    output = commands.fuseml(
        "extension", "discover", "--cluster", "-o", "json", environment=deployment.environment, patience=CLUSTER_PATIENCE
    ).stdout
    found = {item["extension"]["product"]: item for item in json.loads(output) if item["extension"]}
    assert {"knative", "tekton"} <= found.keys()
    assert all(item["extension"]["zone"] == "" for item in found.values())


def test_the_deployment_is_complete_and_its_plan_keeps_the_functions(deployment: Deployment) -> None:
    deployment.fuseml("status", "--cluster")
    planned = json.loads(
        commands.fuseml("upgrade", "--dry-run", "-o", "json", f"--image={image('FUNCTIONS')}", environment=deployment.environment).stdout
    )
    assert {row["action"] for row in planned if str(row["part"]).startswith("function ")} == {"keep"}


@pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm")
def test_a_chart_is_installed_and_removed(deployment: Deployment, tmp_path: Path) -> None:
    folder = tmp_path / "probe"
    (folder / "chart" / "templates").mkdir(parents=True)
    (folder / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: probe\nversion: 1.0.0\n")
    (folder / "chart" / "templates" / "all.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: probe}\ndata: {a: b}\n")
    (folder / "description.yaml").write_text("name: probe\nnamespace: probe\ninstall: [{type: helm, location: chart}]\n")
    deployment.fuseml("extension", "install", str(folder), "--yes")
    assert "probe" in kubectl("get", "configmaps", "--namespace=probe", "--output=name")
    deployment.fuseml("extension", "uninstall", str(folder), "--yes", patience=CLUSTER_PATIENCE)
    assert not kubectl("get", "namespace", "probe", "--ignore-not-found")
