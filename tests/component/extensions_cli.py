"""`fuseml extension` against a registry, and record files for its tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fuseml.cli import main
from fuseml.store import extensions
from tests import commands
from tests.component import extensions_app
from tests.component.extensions_app import Registry

MINIO = """\
# The store of the team.
id: minio
product: minio
version: 4.10
services:
  - id: s3
    resource: s3
    category: object-storage
    auth_required: true
    endpoints:
      - url: http://minio:9000
        configuration: {S3_ENDPOINT_URL: "http://minio:9000"}
      - url: http://minio.example.com
    credentials:
      - id: admin
        configuration:
          AWS_ACCESS_KEY_ID: ${env:MINIO_USER}
          AWS_SECRET_ACCESS_KEY: ${file:secrets/minio}
          NOTE: ${HOME} and $$ and ${other:thing} stay
"""
MLFLOW = """\
id: mlflow
product: mlflow
services:
  - id: tracking
    resource: mlflow-tracking
    endpoints: [{url: "http://mlflow:5000"}]
"""
GITEA = '{"id": "gitea", "product": "gitea"}'
STORE = {"name": "store", "service_resource": "s3"}


@dataclass(frozen=True)
class Run:
    """Runs `fuseml extension ...` with these variables and returns the exit code."""

    variables: Mapping[str, str]

    def __call__(self, *arguments: str, **more: str) -> int:
        return main.run(["extension", *arguments], {**self.variables, **more})

    def with_input(self, text: str, *arguments: str) -> int:
        """Run the command in a child process with `text` as its standard input."""
        return commands.fuseml("extension", *arguments, environment=self.variables, text=text, code=None).returncode


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with the server's own record."""
    running = Registry(tmp_path)
    running.client.post("/extensions", json={"id": "fuseml", "product": "fuseml"})
    yield running
    running.store.close()


@pytest.fixture
def fuseml(registry: Registry, tmp_path: Path) -> Iterator[Run]:
    """`fuseml extension` for this registry."""
    none = str(tmp_path / "none")
    with extensions_app.serve(registry.app) as url:
        yield Run({"FUSEML_SERVER_URL": url, "FUSEML_HOME": str(tmp_path), "FUSEML_CONFIG": none, "MINIO_USER": "canary-u"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three records in two files and two folders, and a secret file."""
    records = tmp_path / "records"
    for name in ("more", "secrets", ".hidden"):
        (records / name).mkdir(parents=True)
    (records / "secrets/minio").write_text("canary-one\n")
    (records / "tools.yaml").write_text(f"{MINIO}---\n{MLFLOW}---\n# nothing more\n")
    (records / "more/gitea.json").write_text(GITEA)
    (records / ".hidden/broken.yaml").write_text("[")
    (records / "README.md").write_text("no record")
    return records


def stored(registry: Registry, id: str) -> dict[str, Any]:
    answer = registry.client.get(f"/extensions/{id}")
    assert answer.status_code == 200
    data: dict[str, Any] = answer.get_json()
    return data


def secrets_of(registry: Registry, id: str = "minio") -> dict[str, str]:
    with registry.store.read() as session:
        record = extensions.get(session, id)
    return {key: registry.keyring.unseal(value) for key, value in record.services[0].credentials[0].configuration.items()}


def ids(registry: Registry) -> list[str]:
    return [item["id"] for item in registry.client.get("/extensions").get_json()]


def output(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "canary" not in printed.out
    return printed.out


def error_output(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert "canary" not in printed.out + printed.err
    return printed.err
