"""One deployment for all tests that look at FuseML on a real cluster."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator

import pytest

from fuseml.store import database

from . import deployment as deployed
from .deployment import found, kubectl


@pytest.fixture(scope="session")
def deployment() -> Iterator[deployed.Deployment]:
    with deployed.running() as running:
        yield running


@pytest.fixture
def store(deployment: deployed.Deployment) -> Iterator[database.Database]:
    """The database of the deployment, the one for trying out."""
    if not any(item["metadata"]["name"] == "postgresql" for item in found("statefulsets")):
        pytest.skip("needs the PostgreSQL for trying out")
    secret = json.loads(kubectl("get", "secret", "fuseml", "--namespace=fuseml", "--output=json"))["data"]
    url = urllib.parse.urlsplit(base64.b64decode(secret["FUSEML_DATABASE_URL"]).decode())
    forward = ["kubectl", "port-forward", "--namespace=fuseml", "statefulset/postgresql", ":5432"]
    with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = re.findall(r"127\.0\.0\.1:(\d+)", process.stdout.readline())[0]
            account = url.netloc.rpartition("@")[0]
            reached = database.Database(url._replace(netloc=f"{account}@127.0.0.1:{port}").geturl())
            yield reached
            reached.close()
        finally:
            process.terminate()
