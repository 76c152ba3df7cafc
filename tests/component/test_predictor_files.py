"""The predictor step and the files of models: formats, places, layouts for other model servers, and their settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import s3_servers
from tests.component import steps
from tests.component.test_steps_predictor import MODEL, NAME, Platform, platform, predict

pytest.importorskip("mlflow.version", reason="needs MLflow: install fuseml[mlflow]")
__all__ = ["platform"]
READY = {"revision": 2, "status": "ready", "url": f"http://wine.example.com/v2/models/{NAME}/infer"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_servers.Server]:
    with s3_servers.server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def account(server: s3_servers.Server) -> dict[str, str]:
    keys = server.account
    return {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": server.url,
    }


def stored(server: s3_servers.Server, *files: str) -> Any:
    """A client of the server, which has these files with their names as content."""
    import boto3.session

    keys = account(server)
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.url,
        region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    for file in files:
        client.put_object(Bucket=s3_servers.BUCKET, Key=file, Body=file.encode())
    return client


def registered(platform: Platform, tmp_path: Path, **variables: str) -> dict[str, Any]:
    platform.records = [READY]
    ended = predict(platform, tmp_path, FUSEML_APPS_URL="", **variables)
    assert ended.code == 0, ended.out + ended.err
    (document,) = platform.applications
    return dict(document)


def refusal(platform: Platform, tmp_path: Path, **variables: str) -> str:
    ended: steps.CompletedStep = predict(platform, tmp_path, FUSEML_APPS_URL="", **variables)
    assert (ended.code, platform.applications) == (1, []), ended.out
    return ended.err


def test_the_settings_of_the_model_server_go_along(platform: Platform, tmp_path: Path) -> None:
    document = registered(
        platform,
        tmp_path,
        FUSEML_PREDICTOR="mlserver",
        FUSEML_RUNTIME_VERSION="1.7.1",
        FUSEML_RESOURCES='{"requests": {"cpu": 1}}',
        FUSEML_RESOURCES_LIMITS="memory: 2Gi",
        FUSEML_VERBOSE="true",
    )
    settings = {name: document.get(name) for name in ("format", "model_server", "runtime_version", "resources", "location", "options")}
    assert settings == {
        "format": None,
        "model_server": "mlserver",
        "runtime_version": "1.7.1",
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}},
        "location": None,
        "options": None,
    }


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"FUSEML_FORMAT": "pickle"}, "the input 'format' is 'pickle': write auto, mlflow, sklearn"),
        ({"FUSEML_RESOURCES": "2Gi"}, "the input 'resources' must be a mapping in JSON or YAML"),
        ({"FUSEML_VERBOSE": "maybe"}, "the input 'verbose' must be true or false"),
    ],
)
def test_an_input_that_is_not_valid_registers_nothing(platform: Platform, tmp_path: Path, variables: dict[str, str], cause: str) -> None:
    assert cause in refusal(platform, tmp_path, **variables)


def test_the_files_of_a_model_for_triton_are_arranged_beside_it(platform: Platform, tmp_path: Path, s3: s3_servers.Server) -> None:
    client = stored(s3, "wine/model.onnx")
    model = f"s3://{s3_servers.BUCKET}/wine"
    serving = {"FUSEML_SERVING": "kserve-api", "FUSEML_SERVING_MODE": "Standard"}

    document = registered(platform, tmp_path, FUSEML_MODEL=model, **serving, **account(s3))

    assert (document["model"], document["format"], document["model_server"]) == (model, "onnx", "triton")
    assert (document["served_by"], document["options"]) == ("kserve-api", {"mode": "Standard"})
    assert document["environment"]["AWS_SECRET_ACCESS_KEY"] == s3.account.secret_key
    place = document["location"].removeprefix(f"s3://{s3_servers.BUCKET}/")
    assert place.startswith("wine-served/")
    written = client.get_object(Bucket=s3_servers.BUCKET, Key=f"{place}/{NAME}/1/model.onnx")["Body"].read()
    assert written == b"wine/model.onnx"
    # Triton serves every model of the folder: that of another application is not among them.
    platform.applications.clear()
    (tmp_path / "other").mkdir()
    other = registered(platform, tmp_path / "other", FUSEML_MODEL=model, FUSEML_APP_NAME="other", **serving, **account(s3))
    assert other["location"] != document["location"]
    listed = client.list_objects_v2(Bucket=s3_servers.BUCKET, Prefix=f"{place}/")["Contents"]
    assert [item["Key"] for item in listed] == [f"{place}/{NAME}/1/model.onnx"]


def test_a_model_of_mlflow_goes_to_another_serving_as_it_is(platform: Platform, tmp_path: Path, s3: s3_servers.Server) -> None:
    stored(s3, "cake/MLmodel", "cake/model.pkl")
    model = f"s3://{s3_servers.BUCKET}/cake"

    document = registered(platform, tmp_path, FUSEML_MODEL=model, FUSEML_SERVING="kserve-api", FUSEML_PREDICTOR="sklearn", **account(s3))

    assert (document.get("format"), document.get("model_server"), document["location"]) == (None, None, model)


def test_a_model_that_the_server_does_not_read_registers_nothing(platform: Platform, tmp_path: Path, s3: s3_servers.Server) -> None:
    stored(s3, "beer/MLmodel", "beer/model.pkl")
    cause = refusal(
        platform,
        tmp_path,
        FUSEML_MODEL=f"s3://{s3_servers.BUCKET}/beer",
        FUSEML_SERVING="seldon-core-api",
        FUSEML_PREDICTOR="triton",
        **account(s3),
    )
    assert "the model has no file that the model server 'triton' reads (*.onnx, TensorFlow's SavedModel, *.xml, *.pt)" in cause


def test_files_that_only_the_tracking_server_serves_are_refused_for_another_serving(platform: Platform, tmp_path: Path) -> None:
    cause = refusal(platform, tmp_path, FUSEML_MODEL=f"file://{tmp_path}/wine", FUSEML_SERVING="kserve-api", FUSEML_FORMAT="mlflow")
    assert "where the serving cannot fetch them: let the tracking server keep artifacts in a bucket" in cause
    assert MODEL not in cause
