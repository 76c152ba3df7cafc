"""A cluster that the real kubectl and helm talk to, a registry, and two tools: store requires base."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import commands
from tests.component import extensions_app, kubernetes_server
from tests.component.extensions_app import Registry
from tests.component.kubernetes_server import Cluster, Object

BASE = """\
name: base
namespace: base
install:
  - {type: manifest, location: base.yaml}
"""
STORE = """\
Name: store
Product: shop
Version: 1.20
Namespace: store
Requires: [base]
Accounts:
  - {secret: root, values: {user: ada}, generate: [password]}
Install:
  - type: kustomize
    location: objects
    waitfor: [{selector: app=store, timeout: 100}]
  - {type: manifest, location: settings.yaml}
Services:
  - id: s3
    resource: s3
    category: object-storage
    authrequired: true
    endpoints:
      - url: http://store.store:9000
        type: internal
        configuration: {AWS_ENDPOINT_URL_S3: "http://store.store:9000"}
    credentials: [{id: default}]
ServiceCredentials:
  - serviceid: s3
    credentials:
      - id: default
        transform:
          - {configvalue: AWS_ACCESS_KEY_ID, secret: root, secretvalue: user}
          - {configvalue: AWS_SECRET_ACCESS_KEY, secret: root, namespace: store, secretvalue: password}
Rolerules:
  - {apigroups: [example.com], resources: [shops], verbs: [get, list]}
"""


def config_map(name: str, namespace: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "store", "namespace": "store", "labels": {"app": "store"}}, "spec": {}}
SERVICE = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "store", "namespace": "store"},
    "spec": {"type": "LoadBalancer", "ports": [{"name": "s3", "port": 9000}]},
}  # fmt: skip


@dataclass
class Place:
    """A cluster and a registry, with the tools of `folder`; its pods become ready while it is `ready`."""

    cluster: Cluster
    registry: Registry
    folder: Path
    environment: dict[str, str]
    ready: bool = True

    def settle(self, item: Object) -> None:
        if item["kind"] in ("Pod", "Deployment"):
            waits = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
            kind, status = ("Ready", "containerStatuses") if item["kind"] == "Pod" else ("Available", "unused")
            item["status"] = {
                "conditions": [{"type": kind, "status": "True" if self.ready else "False"}],
                status: [] if self.ready else [waits],
            }
        if item["kind"] == "Service" and item["spec"].get("type") == "LoadBalancer":
            item["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}

    def fuseml(self, *arguments: str, code: int | None = 0, text: str = "", **more: str) -> Any:
        return commands.fuseml("extension", *arguments, environment={**self.environment, **more}, cwd=self.folder, code=code, text=text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [*commands.FUSEML, "extension", *arguments]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def record(self, id: str) -> Any:
        response = self.registry.client.get(f"/extensions/{id}")
        return response.get_json() if response.status_code == 200 else None

    def state(self) -> dict[str, Any]:
        """All objects, without what every installation generates anew."""
        with self.cluster.lock:
            items = json.loads(json.dumps({"/".join(key): item for key, item in self.cluster.objects.items()}))
        for item in items.values():
            for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
                item["metadata"].pop(key, None)
        items["secrets/store/root"]["data"].pop("password")
        return dict(items)


@contextlib.contextmanager
def furnished(tmp_path: Path) -> Iterator[Place]:
    """The tools base and store in a folder, an empty cluster, and a registry."""
    folder = tmp_path / "tools"
    for name, text in (("base", BASE), ("store", STORE)):
        (folder / name).mkdir(parents=True)
        (folder / name / "description.yaml").write_text(text)
    (folder / "base/base.yaml").write_text(json.dumps(config_map("base", "base", a="b")))
    objects = folder / "store/objects"
    objects.mkdir()
    (objects / "kustomization.yaml").write_text("resources: [pod.yaml, service.yaml]\n")
    (objects / "pod.yaml").write_text(json.dumps(POD))
    (objects / "service.yaml").write_text(json.dumps(SERVICE))
    (folder / "store/settings.yaml").write_text(json.dumps(config_map("settings", "store", a="b")))
    cluster, registry = Cluster(), Registry(tmp_path)
    with extensions_app.serve(registry.app) as url, kubernetes_server.serving(cluster, tmp_path) as kubeconfig:
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig), "FUSEML_SERVER_URL": url,
            "FUSEML_CONFIG": str(tmp_path / "config.yaml"), "FUSEML_HOME": str(tmp_path), "COLUMNS": "80",
        }  # fmt: skip
        place = Place(cluster, registry, folder, environment)
        cluster.settled = place.settle
        cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fuseml-workloads"}})
        yield place
