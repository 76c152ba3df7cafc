"""The digest of a registered model by the REST API of a real MLflow is that of the files which MLflow's client downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from fuseml.steps import model_digest, sdk, served_models, tracking
from tests import mlflow_servers

from . import canned_api

FILES = {
    "MLmodel": b"model_uuid: m-1\n",
    "registered_model_meta": b"written by a download",
    "data/weights.bin": bytes(3 << 20),
    "data/empty": b"",
    "code/a/b c/m\u00fc+1.py": b"print()\n",
}


def tracker(url: str) -> tracking.Tracking:
    return tracking.Tracking({"MLFLOW_TRACKING_URI": url})


def test_it_is_the_digest_of_the_files_in_a_folder(mlflow_server: str, tmp_path: Path) -> None:
    logged = mlflow_servers.log(mlflow_server, FILES)
    mlflow_servers.call(mlflow_server, "POST", "registered-models/create", {"name": "served"})
    data = {"name": "served", "source": f"models:/{logged}", "model_id": logged}
    number = mlflow_servers.call(mlflow_server, "POST", "model-versions/create", data)["model_version"]["version"]
    for name, content in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    assert served_models.served(tracker(mlflow_server), tracking.Version("served", str(number))) == model_digest.of_folder(tmp_path)


def serving(
    files: Callable[[str], list[Mapping[str, object]]], place: str = "mlflow-artifacts:/1/model"
) -> Mapping[tuple[str, str], canned_api.Route]:
    """A tracking server whose only model lists these files."""
    return {
        ("GET", "/api/2.0/mlflow/model-versions/get-download-uri"): canned_api.Answer({"artifact_uri": place}),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts"): lambda request: canned_api.Answer({"files": files(request.query["path"][0])}),
    }


@pytest.mark.parametrize(
    "place",
    ["s3://bucket/model", "mlflow-artifacts://other/1/model", "mlflow-artifacts:/1/a%20b", "mlflow-artifacts:/", "mlflow-artifacts:/empty"],
)
def test_files_that_the_server_does_not_serve_are_left_to_mlflow(place: str) -> None:
    with canned_api.serve(serving(lambda _: [], place), token=None) as api:
        assert served_models.served(tracker(api.url), tracking.Version("m", "1")) is None


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"path": "..", "is_dir": True}, "a file that is called '..'"),
        ({"path": "a/b", "is_dir": False}, "a file that is called 'a/b'"),
        ({"is_dir": False}, "a file that is called ''"),
        ({"path": "within", "is_dir": True}, "more than 50 folders"),
        ({"path": "missing", "is_dir": False}, "404: nothing is served at"),
    ],
)
def test_an_odd_listing_is_refused(listed: Mapping[str, object], message: str) -> None:
    with canned_api.serve(serving(lambda _: [listed]), token=None) as api, pytest.raises(sdk.StepError, match=message):
        served_models.served(tracker(api.url), tracking.Version("m", "1"))


def test_a_file_that_is_cut_off_has_no_digest() -> None:
    def cut(_: object, start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
        return [b"1234567"]

    with canned_api.running(cut) as url, pytest.raises(sdk.HttpError, match="ended 3 bytes before its end"):
        list(tracker(url).served_file("1/model/MLmodel"))
