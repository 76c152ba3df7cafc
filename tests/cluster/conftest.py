"""One deployment, and one MLflow, for all tests of FuseML on a real cluster."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator

import pytest

from fuseml.store import database
from tests.images import image

from .deployment import ROOT, Deployment, kubectl, resources, running

MLFLOW = "http://mlflow.fuseml.svc.cluster.local:5000"


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    with running() as current:
        yield current


@pytest.fixture(scope="session")
def mlflow(deployment: Deployment) -> Iterator[str]:
    """The MLflow for trying out, registered as an extension; an existing one is kept."""
    existing = any(item["metadata"]["name"] == "mlflow" for item in resources("statefulsets"))
    manifests = kubectl("kustomize", str(ROOT / "infra/integrations/mlflow")).replace("ghcr.io/fuseml/steps:0.1.0", image("STEPS"))
    kubectl("apply", "--server-side", "--filename=-", manifest=manifests)
    kubectl("rollout", "status", "statefulset/mlflow", "--namespace=fuseml", "--timeout=600s")
    deployment.fuseml("extension", "discover", MLFLOW, "--apply")
    yield MLFLOW
    if not existing:
        deployment.fuseml("extension", "delete", "mlflow", "--force")
        kubectl("delete", "--filename=-", "--wait=false", manifest=manifests)


@pytest.fixture
def store(deployment: Deployment) -> Iterator[database.Database]:
    """The database of the deployment, the PostgreSQL for trying out."""
    if not any(item["metadata"]["name"] == "postgresql" for item in resources("statefulsets")):
        pytest.skip("needs the PostgreSQL for trying out")
    secret = json.loads(kubectl("get", "secret", "fuseml", "--namespace=fuseml", "--output=json"))["data"]
    url = urllib.parse.urlsplit(base64.b64decode(secret["FUSEML_DATABASE_URL"]).decode())
    forward = ["kubectl", "port-forward", "--namespace=fuseml", "statefulset/postgresql", ":5432"]
    with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = re.findall(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[0]
            account = url.netloc.rpartition("@")[0]
            store = database.Database(url._replace(netloc=f"{account}@127.0.0.1:{port}").geturl())
            yield store
            store.close()
        finally:
            process.terminate()
