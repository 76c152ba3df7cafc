"""One selector, several accounts: each run's step sees its own project's, and the pusher's own goes before it. A moved tool needs no edit."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import server as embedded

WORKFLOW = """
name: who
inputs:
  - name: code
    type: codeset
outputs:
  - name: account
steps:
  - name: ask
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {name: "{{ inputs.code }}", path: /project}
    extensions:
      - name: store
        service_resource: s3
    script: printf "%s at %s" "$(printf %s "$ACCOUNT" | rev)" "$S3_URL" > "$FUSEML_ENV_RESULTS/account"
    outputs:
      - name: account
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Server]:
    with embedded.running(tmp_path_factory.mktemp("scopes") / "home", "--mlflow", "none") as running:
        credentials = [
            {"id": "alpha", "scope": "project", "projects": ["alpha"], "configuration": {"ACCOUNT": "account-of-alpha"}},
            {"id": "beta", "scope": "project", "projects": ["beta"], "configuration": {"ACCOUNT": "account-of-beta"}},
            {"id": "ada", "scope": "user", "users": ["ada"], "projects": ["beta"], "configuration": {"ACCOUNT": "account-of-ada"}},
        ]
        endpoint = {"url": "http://old.example:9000", "configuration": {"S3_URL": "http://old.example:9000"}}
        service = {"id": "s3", "resource": "s3", "auth_required": True, "endpoints": [endpoint], "credentials": credentials}
        running.post("/extensions", {"id": "store", "services": [service]})
        running.post("/workflows", raw=WORKFLOW.encode())
        yield running


def _checkout(server: embedded.Server, folder: pathlib.Path, project: str, user: str = "") -> embedded.Checkout:
    registered = server.post(f"/codesets?project={project}&name=code")
    server.call("POST", f"/workflows/assignments?name=who&codesetProject={project}&codesetName=code")
    return embedded.Checkout(folder / project, registered["codeset"]["url"], user or registered["username"], registered["password"])


def _run_of(server: embedded.Server, commit: str) -> dict[str, Any]:
    embedded.wait_for(lambda: server.get(f"/runs?commit={commit}"), 30, "the push to start a run")
    return server.finished_run(server.get(f"/runs?commit={commit}")[0]["name"])


# The step writes the account backwards: a run's outputs are shown as they are, and a secret must not be there.
def _backwards(account: str) -> str:
    return account[::-1]


def test_each_project_sees_its_own_account(server: embedded.Server, tmp_path: pathlib.Path) -> None:
    for project in ("alpha", "beta"):
        run = _run_of(server, _checkout(server, tmp_path, project).push(f"who am I in {project}"))

        assert run["outputs"]["account"].startswith(_backwards(f"account-of-{project}")), run
        assert [(bound["credentials_id"], bound["credentials_scope"]) for bound in run["bindings"]] == [(project, "project")]


def test_the_pushers_own_account_goes_before_the_projects(server: embedded.Server, tmp_path: pathlib.Path) -> None:
    run = _run_of(server, _checkout(server, tmp_path, "beta", user="ada").push("ada pushes", "ada"))

    assert run["outputs"]["account"].startswith(_backwards("account-of-ada")), run
    assert run["bindings"][0]["credentials_scope"] == "user"


def test_a_project_without_an_account_is_told_so(server: embedded.Server, tmp_path: pathlib.Path) -> None:
    run = _run_of(server, _checkout(server, tmp_path, "gamma").push("who am I in gamma"))

    assert run["state"] == "failed"
    assert "not for gamma" in run["cause"]


def test_a_moved_store_and_a_rotated_key_reach_the_next_run_without_touching_the_workflow(
    server: embedded.Server, tmp_path: pathlib.Path
) -> None:
    checkout = _checkout(server, tmp_path, "alpha")
    before = _run_of(server, checkout.push("before", "moving"))
    endpoint = {"url": "http://new.example:9000", "configuration": {"S3_URL": "http://new.example:9000"}}
    assert server.call("POST", "/extensions/store/services/s3/endpoints", endpoint).status == 201
    assert server.call("DELETE", "/extensions/store/services/s3/endpoints/http%253A%252F%252Fold.example%253A9000").status == 204
    rotated = {"configuration": {"ACCOUNT": "second-account-of-alpha"}}
    assert server.call("PUT", "/extensions/store/services/s3/credentials/alpha", rotated).status == 200

    after = _run_of(server, checkout.push("after", "moving"))

    assert before["outputs"]["account"] == f"{_backwards('account-of-alpha')} at http://old.example:9000"
    assert after["outputs"]["account"] == f"{_backwards('second-account-of-alpha')} at http://new.example:9000"
    assert after["revision"] == before["revision"]
    assert after["bindings"][0]["revision"] > before["bindings"][0]["revision"]


def test_a_malformed_version_constraint_is_refused_when_the_workflow_is_created(server: embedded.Server) -> None:
    text = WORKFLOW.replace("name: who", "name: typo").replace("service_resource: s3", "service_resource: s3\n        version: '>=1.x.y'")

    answer = server.call("POST", "/workflows", raw=text.encode())

    assert answer.status == 400
    assert "version" in answer.json["details"]["problems"][0]["path"]
