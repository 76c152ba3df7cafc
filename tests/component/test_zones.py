"""The zone of the embedded server: from it, steps reach the internal endpoints of records in that zone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import werkzeug.test

from fuseml.embedded import composition
from tests.unit import registry_examples

TRACKING, STORE = "mlflow-tracking", "s3"
CHOICES: dict[str, tuple[Mapping[str, str], str, dict[str, str]]] = {
    "the record's own zone": (
        {"FUSEML_ZONE": "cluster-alpha"},
        registry_examples.MLFLOW,
        {TRACKING: "http://mlflow.mlflow", STORE: "http://mlflow-minio.mlflow:9000"},
    ),
    "another zone": (
        {"FUSEML_ZONE": "cluster-beta"},
        registry_examples.MLFLOW,
        {TRACKING: "http://mlflow.10.110.120.130.nip.io", STORE: "http://minio.10.110.120.130.nip.io"},
    ),
    "no zone": ({}, registry_examples.MLFLOW, {TRACKING: "http://mlflow.10.110.120.130.nip.io"}),
    "an internal service": (
        {"FUSEML_ZONE": "cluster.local"},
        registry_examples.KSERVE,
        {"kfserve-api": "https://kubernetes.default.svc", "kserve-ui": "https://kserve.10.120.130.140.nip.io/"},
    ),
    "an internal service, from elsewhere": ({}, registry_examples.KSERVE, {"kfserve-api": ""}),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_steps_of_the_embedded_server_are_in_its_zone(tmp_path: Path, choice: str) -> None:
    environment, record, expected = CHOICES[choice]
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=True, environment=environment)
    with contextlib.closing(parts.state.store):
        client = werkzeug.test.Client(parts.gateway)
        assert client.post("/extensions", data=record).status_code == 201
        for resource, url in expected.items():
            answer = client.post("/resolve", json={"selectors": [{"name": "tool", "service_resource": resource}]})
            found: Any = answer.json
            assert [binding["url"] for binding in found["bindings"]] == [url] if url else answer.status_code == 422, answer.text
            if not url:
                assert "it is internal to zone cluster.local, and the consumer is in the control plane" in answer.text


def test_a_record_without_a_zone_is_in_the_servers_own(tmp_path: Path) -> None:
    parts = composition.compose(
        tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=True, environment={"FUSEML_ZONE": "cluster-alpha"}
    )
    with contextlib.closing(parts.state.store):
        client = werkzeug.test.Client(parts.gateway)
        selector = {"name": "serving", "service_category": "prediction-serving", "zone": "cluster-alpha"}
        found: Any = client.post("/resolve", json={"selectors": [selector]}).json
        assert [(binding["extension_id"], binding["endpoint_type"]) for binding in found["bindings"]] == [("fuseml", "internal")]
