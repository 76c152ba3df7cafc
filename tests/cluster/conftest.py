"""One deployment for all tests of FuseML on a real cluster."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import urllib.parse
from collections.abc import Iterator

import pytest

from fuseml.store import database

from .deployment import Deployment, kubectl, resources, running


@pytest.fixture(scope="session")
def deployment() -> Iterator[Deployment]:
    with running() as current:
        yield current


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
