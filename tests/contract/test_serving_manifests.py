"""Knative manifests of applications: equal to tests/golden/knative, and valid by Knative's own schema.

`UPDATE_GOLDEN=1` writes the files anew. The schema is not part of the project; without it its tests are skipped.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from fuseml.domain import application, errors
from fuseml.servings import Revision, ServingSpec, knative
from fuseml.servings.knative import render
from tests import crds, yaml_files
from tests.contract.test_tekton_manifests import closed

GOLDEN = Path(__file__).parents[1] / "golden/knative"
SETTINGS = knative.Settings(image="ghcr.io/fuseml/model-server:v1", mlserver_image="ghcr.io/fuseml/mlserver:v1")
RESOURCES = {"requests": {"memory": "3Gi"}, "limits": {"cpu": "20m"}}
MOMENT = "2026-11-20T10:00:00.000000Z"


def revision(number: int, **fields: object) -> Revision:
    document = {
        "name": "demo-wine",
        "type": "predictor",
        "workflow": "mlflow-e2e",
        "project": "demo",
        "codeset": "wine",
        "run": f"mlflow-e2e-{number}",
        "model": f"models:/wine/{number}",
        "runtime": "fuseml.local/mlflow-trainer:host",
        "tracking_uri": "http://mlflow.mlflow.svc.cluster.local:5000",
        **fields,
    }
    return Revision(number, application.Application.model_validate(document), MOMENT)


SECRET = {"environment": {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": "canary-7f3a"}}
FORMER = {1: "demo-wine-00001-0a1b2c3d"}
SPECS = {
    "first": ServingSpec("demo-wine", [revision(1)], {1: 100}),
    "shared": ServingSpec("demo-wine", [revision(1, **SECRET), revision(2, **SECRET)], {1: 10, 2: 90}),
    "own-image": ServingSpec("demo-wine", [revision(1, runtime="registry.example.com/wine:3f2a")], {1: 100}),
    "public": ServingSpec("demo-wine", [revision(1)], {1: 100}, public=True),
    "mlserver": ServingSpec("demo-wine", [revision(1, model_server="mlserver", runtime_version="1.7.1", resources=RESOURCES)], {1: 100}),
    "mlflow-server": ServingSpec("demo-wine", [revision(1, model_server="mlflow")], {1: 100}),
    "onnx": ServingSpec(
        "demo-wine", [revision(1, format="onnx", model="s3://models/wine", runtime="registry.example.com/wine:3f2a")], {1: 100}
    ),
    "long-name": ServingSpec("0" + "x" * 62, [revision(1, name="0" + "x" * 62, project="a project: with signs")], {1: 100}),
}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_application_is_rendered_as_in_its_golden_file(name: str) -> None:
    spec = SPECS[name]
    documents = [document for document in (render.service(spec, SETTINGS, FORMER), render.secret(spec)) if document is not None]
    text = yaml.safe_dump_all(documents, sort_keys=False, width=140)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_only_a_public_application_has_an_address_outside_of_the_cluster(name: str) -> None:
    labels = render.service(SPECS[name], SETTINGS, FORMER)["metadata"]["labels"]
    assert labels.get("networking.knative.dev/visibility") == (None if name == "public" else "cluster-local")


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_service_is_valid_by_the_schema_of_knative(name: str) -> None:
    path = crds.at("knative-serving/service.yaml")
    (version,) = [version for version in yaml_files.document(path)["spec"]["versions"] if version["name"] == "v1"]
    schema: dict[str, Any] = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"const": "serving.knative.dev/v1"}, "kind": {"const": "Service"}}
    schema["properties"]["metadata"]["additionalProperties"] = True
    service = render.service(SPECS[name], SETTINGS, FORMER)
    assert [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(service)] == []


@example("00000-e7042ac7", 1)
@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True), st.integers(1, 99_999))
@example("00000", 1)
def test_every_application_gets_valid_names_and_its_revisions_hold_their_number(name: str, number: int) -> None:
    """A Service's name is a DNS label that begins with a letter; a revision's name is one too and begins with its Service's."""
    body = render.service(ServingSpec(name, [revision(number, name=name)], {number: 100}), SETTINGS, {})
    service, named = body["metadata"]["name"], body["spec"]["template"]["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", named)
    assert named.startswith(f"{service}-")
    assert render.number(named) == number
    assert body["spec"]["traffic"] == [{"revisionName": named, "percent": 100}]


def test_a_revision_name_changes_with_the_image_and_the_registration_only() -> None:
    names = [
        render.service(spec, settings, {})["spec"]["template"]["metadata"]["name"]
        for spec, settings in (
            (SPECS["first"], SETTINGS),
            (SPECS["first"], knative.Settings(image="ghcr.io/fuseml/model-server:v2")),
            (ServingSpec("demo-wine", [Revision(1, SPECS["first"].newest.document, "2026-11-20T11:00:00.000000Z")], {1: 100}), SETTINGS),
            (SPECS["first"], SETTINGS),
        )
    ]
    assert len(set(names)) == 3
    assert names[0] == names[3]


def test_no_secret_is_in_a_service() -> None:
    assert "canary" not in str(render.service(SPECS["shared"], SETTINGS, FORMER))
    secret = render.secret(SPECS["shared"])
    assert secret is not None
    assert base64.b64decode(secret["data"]["2.MLFLOW_TRACKING_PASSWORD"]) == b"canary-7f3a"
    assert "canary" not in repr(SPECS["shared"])


def test_a_share_for_a_revision_that_knative_dropped_is_refused() -> None:
    with pytest.raises(errors.ConflictError, match="revision 1 of 'demo-wine' is no longer on the cluster"):
        render.service(SPECS["shared"], SETTINGS, {})


def test_an_image_of_a_builder_starts_the_model_server() -> None:
    image = "ghcr.io/fuseml/mlflow-trainer:v1"  # its own `run` is the trainer
    body = render.service(ServingSpec("demo-wine", [revision(1, runtime=image)], {1: 100}), SETTINGS, {})
    (container,) = body["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["command"]) == (image, ["python", "-I", "-u", "-m", "fuseml.steps.model_server"])


def test_a_runtime_without_an_image_is_refused() -> None:
    with pytest.raises(errors.InvalidError, match="environment on another machine"):
        render.service(ServingSpec("demo-wine", [revision(1, runtime="fuseml.local/mlflow-trainer:3f2a")], {1: 100}), SETTINGS, {})


def test_mlserver_without_an_image_is_refused_with_both_ways_out() -> None:
    with pytest.raises(errors.InvalidError, match=r"set FUSEML_MLSERVER_IMAGE, or give the predictor step the output `image`"):
        render.service(SPECS["mlserver"], knative.Settings(image="ghcr.io/fuseml/model-server:v1"), {})
