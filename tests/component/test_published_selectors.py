"""Selectors of published workflows: the store of MLflow's artifacts, where that is an S3 server, and where it is MLflow itself."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import werkzeug.test

from fuseml.embedded import composition

MLFLOW: dict[str, Any] = {
    "id": "mlflow",
    "product": "mlflow",
    "version": "3.17.2",
    "services": [
        {"id": "mlflow-tracking", "resource": "mlflow-tracking", "endpoints": [{"url": "http://mlflow.lab"}]},
        {"id": "mlflow-store", "resource": "mlflow-artifacts", "endpoints": [{"url": "http://mlflow.lab/api/2.0/mlflow-artifacts"}]},
    ],
}
S3 = {"id": "s3", "resource": "s3", "endpoints": [{"url": "http://minio.lab:9000"}]}
MINIO = {"id": "minio", "product": "minio", "services": [S3]}
PUBLISHED = {"name": "mlflow-store", "product": "mlflow", "service_resource": "s3"}
ANY_S3 = {"name": "s3-storage", "service_resource": "s3"}


@pytest.mark.parametrize(
    ("records", "selector", "bound"),
    [
        ([MLFLOW], PUBLISHED, "mlflow/mlflow-store"),
        ([MLFLOW, MINIO], PUBLISHED, "mlflow/mlflow-store"),
        ([{**MLFLOW, "services": [*MLFLOW["services"], {**S3, "id": "mlflow-s3"}]}], PUBLISHED, "mlflow/mlflow-s3"),
        ([MLFLOW], {**PUBLISHED, "version": "~3.17.0"}, "mlflow/mlflow-store"),
        ([MLFLOW], {**PUBLISHED, "version": "~2.0.0"}, ""),
        ([MINIO], PUBLISHED, ""),
        ([MLFLOW], ANY_S3, ""),
        ([MLFLOW, MINIO], ANY_S3, "minio/s3"),
    ],
)
def test_the_store_of_mlflow_is_found(tmp_path: Path, records: list[Any], selector: dict[str, str], bound: str) -> None:
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=True, environment={})
    with contextlib.closing(parts.state.store):
        client = werkzeug.test.Client(parts.gateway)
        for record in records:
            assert client.post("/extensions", json=record).status_code == 201
        answer = client.post("/resolve", json={"selectors": [selector], "explain": True})
        found: Any = answer.json
        assert answer.status_code == (200 if bound else 422), answer.text
        if bound:
            assert [f"{binding['extension_id']}/{binding['service_id']}" for binding in found["bindings"]] == [bound]
        else:
            assert "matches nothing" in answer.text


def test_the_deletion_of_mlflow_affects_workflows_that_select_its_store_as_s3(tmp_path: Path) -> None:
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=True, environment={})
    workflow = {"name": "train", "steps": [{"name": "trainer", "image": "a:1", "extensions": [PUBLISHED]}]}
    with contextlib.closing(parts.state.store):
        client = werkzeug.test.Client(parts.gateway)
        client.post("/extensions", json=MLFLOW)
        client.post("/codesets?project=p&name=code")
        assert client.post("/workflows", json=workflow).status_code == 201
        assert client.post("/workflows/assignments?name=train&codesetProject=p&codesetName=code").status_code == 201
        refused = client.delete("/extensions/mlflow")
        assert refused.status_code == 409 and "train" in refused.text
