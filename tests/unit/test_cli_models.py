"""`fuseml model`: the names of models, and aliases in FuseML and in MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.cli import main
from tests.component import canned_api
from tests.component.canned_api import Answer, CannedApi, Request, refused
from tests.unit.test_cli import variables

PLACE = "/artifacts/model/demo/diabetes"
MLFLOW = "/api/2.0/mlflow"


def version(number: str, rmse: float, day: str, location: str = "") -> dict[str, Any]:
    changed = {
        "address": f"model://demo/diabetes/{number}",
        "version": number,
        "metrics": {"rmse": rmse},
        "created": f"2026-01-{day}T10:00:00Z",
    }
    return {**canned_api.ARTIFACT, **changed, "location": location or f"models:/diabetes/{number}", "tags": []}


# Versions of MLflow are numbers: the tenth is newer than the ninth.
NINTH, TENTH = version("9", 53.1, "01"), version("10", 48.0, "02")
ELSEWHERE = version("11", 40.0, "01", "s3://models/demo/diabetes/11")


def mlflow_version(request: Request) -> Answer:
    number = request.query["version"][0]
    found = {
        "name": "diabetes",
        "version": number,
        "status": "READY",
        "source": "s3://x",
        "tags": [{"key": "fuseml.project", "value": "demo"}],
    }
    return Answer({"model_version": found})


@pytest.fixture
def server() -> Iterator[CannedApi]:
    aliased: list[Request] = []

    def alias(request: Request) -> Answer:
        aliased.append(request)
        return Answer({})

    def held(_: Request) -> Answer:
        return Answer(NINTH)

    def location(_: Request) -> Answer:
        access = {
            "store": "mlflow/tracking",
            "resource": "mlflow-tracking",
            "url": running.url,
            "environment": {"MLFLOW_TRACKING_TOKEN": canned_api.TOKEN},
        }
        return Answer({**access, "address": "model://demo/diabetes/10", "digest": None, "size": None, "location": None})

    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", "/projects"): Answer([canned_api.PROJECT]),
        ("GET", "/artifacts"): lambda request: Answer(
            [TENTH, ELSEWHERE, NINTH] if request.query.get("name", ["diabetes"]) == ["diabetes"] else []
        ),
        ("GET", f"{PLACE}/9"): Answer(NINTH),
        ("GET", f"{PLACE}/10"): Answer(TENTH),
        ("GET", f"{PLACE}/11"): Answer(ELSEWHERE),
        ("GET", f"{PLACE}@champion"): held,
        ("PUT", f"{PLACE}/10/tags/champion"): Answer(TENTH),
        ("PUT", f"{PLACE}/11/tags/champion"): Answer(ELSEWHERE),
        ("DELETE", f"{PLACE}/10/tags/champion"): Answer(TENTH),
        ("POST", "/artifacts/locations"): location,
        ("GET", f"{MLFLOW}/model-versions/get"): mlflow_version,
        ("GET", f"{MLFLOW}/registered-models/get"): Answer({"registered_model": {"name": "diabetes", "aliases": []}}),
        ("POST", f"{MLFLOW}/registered-models/alias"): alias,
    }
    with canned_api.serve(routes) as running:
        yield running


def fuseml(server: CannedApi, home: Path, line: str) -> int:
    return main.run(line.split(), variables(home, server.url))


def test_versions_are_listed_with_their_metrics(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "model list --metric rmse") == 0
    _, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:4] for row in rows] == [
        ["diabetes", "10", "demo", "48"],
        ["diabetes", "11", "demo", "40"],
        ["diabetes", "9", "demo", "53.1"],
    ]


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("diabetes", "10"),
        ("models:/diabetes/latest", "10"),
        ("diabetes/9", "9"),
        ("models:/diabetes/9", "9"),
        ("diabetes@champion", "9"),
        ("model://demo/diabetes/11", "11"),
    ],
)
def test_a_model_is_named_as_in_mlflow_or_by_its_address(
    model: str, found: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, f"model get {model} -o json") == 0
    assert json.loads(capsys.readouterr().out)["version"] == found


def test_a_promotion_moves_the_alias_in_fuseml_and_in_mlflow(server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml(server, tmp_path, "model promote diabetes") == 0
    assert capsys.readouterr().out == "model://demo/diabetes/10 is 'champion' now, in place of version 9 (rmse 53.1 -> 48).\n"
    changes = [
        (request.method, request.path, json.loads(request.body or b"{}"))
        for request in server.requests
        if request.method in ("PUT", "POST")
    ]
    assert [change for change in changes if change[1] != "/artifacts/locations"] == [
        ("PUT", f"{PLACE}/10/tags/champion", {}),
        ("POST", f"{MLFLOW}/registered-models/alias", {"name": "diabetes", "alias": "champion", "version": "10"}),
    ]


def test_a_model_in_another_store_has_its_alias_in_fuseml_only(server: CannedApi, tmp_path: Path) -> None:
    assert fuseml(server, tmp_path, "model alias diabetes/11 champion") == 0
    assert [request.path for request in server.requests if request.method != "GET"] == [f"{PLACE}/11/tags/champion"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("model alias diabetes latest", "MLflow reserves the alias 'latest'"),
        ("model promote diabetes --to V2", "MLflow reserves the alias 'V2'"),
        ("model get diabtes", "project demo has no model 'diabtes'; `fuseml model list` shows the models"),
    ],
)
def test_an_impossible_alias_changes_nothing(
    line: str, message: str, server: CannedApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuseml(server, tmp_path, line) == 1
    assert message in capsys.readouterr().err
    assert not [request for request in server.requests if request.method in ("PUT", "DELETE") or request.path.startswith(MLFLOW)]


def test_a_failure_of_mlflow_says_what_is_left_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    access: dict[str, object] = {
        "store": "mlflow/tracking",
        "resource": "mlflow-tracking",
        "environment": {},
        "address": "",
        "digest": None,
        "size": None,
        "location": None,
    }
    routes: dict[tuple[str, str], canned_api.Route] = {
        ("GET", f"{PLACE}/10"): Answer(TENTH),
        ("PUT", f"{PLACE}/10/tags/champion"): Answer(TENTH),
        ("POST", "/artifacts/locations"): lambda _: Answer({**access, "url": away.url}),
        ("GET", f"{MLFLOW}/model-versions/get"): refused(503, "unavailable", "away"),
    }
    with canned_api.serve(routes) as away:
        assert fuseml(away, tmp_path, "model alias diabetes/10 champion -p demo") == 1
    assert "model://demo/diabetes/10 has the tag 'champion' in FuseML, and MLflow does not have its alias: " in capsys.readouterr().err
