"""`fuseml extension install` of a chart with the real helm: kills, releases of others, upgrades, the removal."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.installing import folders
from tests import commands, waiting
from tests.component import installing_tools
from tests.component.installing_tools import Place
from tests.component.kubernetes_server import Cluster, Object


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with installing_tools.furnished(tmp_path) as place:
        yield place


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.2.3\n",
    "templates/all.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: "shop:{{ .Values.tag }}"}]}
""",
}


def leave_pending(cluster: Cluster) -> None:
    """Add the next release of the chart, as helm stores it before it changes anything."""
    last = max(
        (item for key, item in cluster.objects.items() if key[0] == "secrets" and item.get("type") == "helm.sh/release.v1"),
        key=lambda item: int(item["metadata"]["labels"]["version"]),
    )
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(last["data"]["release"]))))
    number = release["version"] + 1
    release |= {"version": number, "info": release["info"] | {"status": "pending-upgrade"}}
    content = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    labels = last["metadata"]["labels"] | {"version": str(number), "status": "pending-upgrade"}
    name = f"sh.helm.release.v1.shop.v{number}"
    metadata = {"name": name, "namespace": "shop", "labels": labels}
    cluster.put({"apiVersion": "v1", "kind": "Secret", "type": last["type"], "metadata": metadata, "data": {"release": content}})


@pytest.mark.skipif(not os.environ.get("FUSEML_HELM"), reason="needs helm: its program in FUSEML_HELM")
def test_a_chart_is_installed_repaired_after_a_kill_upgraded_and_removed(place: Place) -> None:
    bin = place.folder.parent / "bin"
    bin.mkdir()
    (bin / "helm").symlink_to(os.environ["FUSEML_HELM"])
    place.environment["PATH"] = f"{bin}:{place.environment['PATH']}"
    shop = place.folder / "shop"
    for name, text in CHART.items():
        (shop / "chart" / name).parent.mkdir(parents=True, exist_ok=True)
        (shop / "chart" / name).write_text(text)
    (shop / "values.yaml").write_text("tag: one\n")
    text = "name: shop\nnamespace: shop\ninstall: [{type: helm, location: chart, values: values.yaml}]\n"
    (shop / "description.yaml").write_text(text)

    def settle(item: Object) -> None:
        place.settle(item)
        if item["kind"] == "Deployment":
            item["metadata"]["generation"] = item["metadata"].get("generation", 1)
            count = 1 if place.ready else 0
            item["status"] |= {
                "replicas": 1,
                "updatedReplicas": 1,
                "readyReplicas": count,
                "availableReplicas": count,
                "observedGeneration": 1,
            }
        if item["kind"] == "Deployment" and place.ready:
            place.cluster.put(replica_set(item))

    def replica_set(item: Object) -> Object:
        metadata = {
            "name": "shop-1", "namespace": "shop", "labels": {"app": "shop"}, "annotations": {"deployment.kubernetes.io/revision": "1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "uid": item["metadata"]["uid"], "controller": True}],
        }  # fmt: skip
        return {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": metadata,
            "spec": item["spec"],
            "status": {"replicas": 1, "readyReplicas": 1, "observedGeneration": 1},
        }

    place.cluster.settled = settle
    # A release that is not FuseML's stays as it is, however often it is tried.
    commands.run(["helm", "install", "shop", shop / "chart", "--set=tag=theirs", "-n=shop", "--create-namespace"], place.environment)
    for _ in range(2):
        assert "FuseML has not installed it" in place.fuseml("install", "./shop", "--yes", code=1).stderr
    assert place.cluster.get("deployments", "shop", "shop")["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:theirs"
    commands.run(["helm", "uninstall", "shop", "-n=shop"], place.environment)

    place.ready = False
    with place.start("install", "./shop", "--yes") as process:
        waiting.wait_until(lambda: place.cluster.names("deployments", "shop"), "helm to create the deployment")
        process.send_signal(signal.SIGKILL)

    def releases() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(
            commands.run(["helm", "list", "--all", "-n", "shop", "-o", "json"], place.environment).stdout
        )
        return listed

    # helm ends with its parent, and leaves the release behind.
    assert releases()[0]["status"] == "pending-install"
    place.ready = True
    place.cluster.put(place.cluster.get("deployments", "shop", "shop"))
    assert "(pending-install) is repaired" in place.fuseml("install", "./shop", "--yes").stderr
    assert [release["status"] for release in releases()] == ["deployed"]

    # A change that a killed helm left unfinished; the record says that it was this step.
    (shop / "values.yaml").write_text("tag: two\n")
    leave_pending(place.cluster)
    assert "another helm changes it" in place.fuseml("install", "./shop", "--yes", code=1).stderr
    entry = place.cluster.get("secrets", "shop", "fuseml-tools")
    (digest,) = [folders.tool(str(shop)).digest(step) for step in folders.tool(str(shop)).description.install]
    progress = json.dumps(json.loads(base64.b64decode(entry["data"]["progress"])) | {"running": digest})
    place.cluster.put(entry | {"data": entry["data"] | {"progress": base64.b64encode(progress.encode()).decode()}})
    assert "(pending-upgrade) is repaired" in place.fuseml("install", "./shop", "--yes").stderr
    (container,) = place.cluster.get("deployments", "shop", "shop")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "shop:two"
    assert [release["status"] for release in releases()] == ["deployed"]
    place.fuseml("uninstall", "./shop", "--yes")
    assert place.cluster.names("deployments") == place.cluster.names("secrets") == []
