"""Refused requests: each gets the one error body, and none leaves a partial change."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests import documents
from tests.component import ingress
from tests.embedded import servers

WORKFLOW = documents.one_step("hello", "script: echo hello")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("refusals") / "home", "--mlflow", "none") as running:
        yield running


def _refused(response: servers.Response, status: int) -> dict[str, Any]:
    assert response.status == status, response.body
    body: dict[str, Any] = response.json
    assert set(body) == {"name", "id", "message", "temporary", "timeout", "fault", "details"}
    assert body["fault"] is False
    return body


def test_a_malformed_workflow_is_refused_with_the_place_of_every_problem(server: servers.Server) -> None:
    text = WORKFLOW.replace("name: hello", "name: broken").replace("image:", "imgae:").replace("inputs.code", "inputs.cod")

    body = _refused(server.call("POST", "/workflows", raw=text.encode()), 400)

    problems = body["details"]["problems"]
    assert [problem["line"] for problem in problems] == sorted(problem["line"] for problem in problems)
    assert {problem.get("suggestion") for problem in problems} >= {"image"}
    assert server.call("GET", "/workflows/broken").status == 404


def test_an_unknown_codeset_is_refused_and_nothing_is_assigned(server: servers.Server) -> None:
    server.call("POST", "/workflows", raw=WORKFLOW.encode())

    body = _refused(server.call("POST", "/workflows/assignments?name=hello&codesetProject=nobody&codesetName=nothing"), 404)

    assert "nobody/nothing" in body["message"]
    assert server.get("/workflows/assignments?name=hello") == []


def test_a_project_name_with_a_slash_is_refused(server: servers.Server) -> None:
    _refused(server.call("POST", "/projects?name=a/b"), 400)
    _refused(server.call("POST", "/codesets?project=a/b&name=c"), 400)

    assert [project for project in server.get("/projects") if "/" in project["name"]] == []


def test_a_body_of_50_megabytes_is_refused(server: servers.Server) -> None:
    _refused(
        server.call("POST", "/extensions", raw=b'{"id": "' + b"x" * (50 << 20) + b'"}', headers={"Content-Type": "application/json"}), 413
    )


def test_every_route_needs_a_token(server: servers.Server) -> None:
    for path in ("/projects", "/codesets", "/workflows", "/runs", "/applications", "/artifacts", "/extensions", "/apps/x/v2"):
        _refused(server.call("GET", path, token="wrong"), 401)


def test_events_cannot_be_published_from_outside(server: servers.Server) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "org.fuseml.codeset.pushed.v1",
        "ce-source": "/x",
        "ce-id": "1",
        "Content-Type": "application/json",
    }

    assert server.call("POST", "/", raw=b"{}", headers=headers).status in (404, 405)


def test_a_webhook_with_a_wrong_signature_is_refused_and_nothing_is_stored(server: servers.Server) -> None:
    server.post("/codesets?project=hooks&name=signed")
    server.call("POST", "/workflows", raw=WORKFLOW.encode())
    server.call("POST", "/workflows/assignments?name=hello&codesetProject=hooks&codesetName=signed")
    push = ingress.first_push("not the secret", "hooks", "signed", "c" * 40)

    _refused(server.call("POST", "/webhooks/gitea", raw=push.body, headers=push.headers), 401)

    assert server.get("/runs?project=hooks") == []
    assert server.get("/artifacts?project=hooks") == []


def test_a_webhook_without_a_signature_is_refused(server: servers.Server) -> None:
    server.post("/codesets?project=hooks&name=signed")
    push = ingress.first_push("x", "hooks", "signed", "c" * 40).without(*ingress.SIGNATURES["gitea"])

    _refused(server.call("POST", "/webhooks/gitea", raw=push.body, headers=push.headers), 401)


def test_git_refuses_a_wrong_password(server: servers.Server, tmp_path: pathlib.Path) -> None:
    registration = server.post("/codesets?project=hooks&name=signed")
    pool = urllib3.PoolManager()
    headers = urllib3.make_headers(basic_auth="fuseml-hooks:wrong")

    response = pool.request("GET", f"{registration['codeset']['url']}/info/refs?service=git-upload-pack", headers=headers)

    assert response.status == 401
