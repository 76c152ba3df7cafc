"""Resolution at every run: whose account a step gets, and what changes in the registry reach the next run without touching a workflow."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers

ACCOUNTS = {
    "alpha": {"scope": "project", "projects": ["alpha"]},
    "beta": {"scope": "project", "projects": ["beta"]},
    "ada": {"scope": "user", "users": ["ada"]},
}
STORE: dict[str, Any] = {
    "id": "store",
    "product": "minio",
    "version": "4.1.3",
    "services": [
        {
            "id": "s3",
            "resource": "s3",
            "auth_required": True,
            "endpoints": [{"url": "http://old.example.com:9000", "configuration": {"S3_ENDPOINT_URL": "http://old.example.com:9000"}}],
            "credentials": [{"id": name, "configuration": {"ACCESS_KEY": f"account-of-{name}"}, **who} for name, who in ACCOUNTS.items()],
        }
    ],
}
# Outputs are published, so they show what the step has got.
WORKFLOW = """
name: who
inputs:
  - name: code
    type: codeset
outputs:
  - name: account
  - name: url
steps:
  - name: ask
    image: fuseml.local/shell:1
    inputs:
      - name: code
        codeset: {name: "{{ inputs.code }}", path: /project}
    extensions:
      - name: store
        service_resource: s3
    script: |
      printf %s "$ACCESS_KEY" > "$FUSEML_ENV_RESULTS/account"
      printf %s "$S3_ENDPOINT_URL" > "$FUSEML_ENV_RESULTS/url"
    outputs:
      - name: account
      - name: url
"""


class Team:
    """Pushes to codesets and waits for the runs."""

    def __init__(self, server: servers.Server, folder: pathlib.Path) -> None:
        self.server, self._folder, self._pushed = server, folder, 0

    def push(self, project: str, user: str) -> dict[str, Any]:
        """The run of a push by `user` to the codeset `code` of a project."""
        registered = self.server.post(f"/codesets?project={project}&name=code")
        self.server.call("POST", f"/workflows/assignments?name=who&codesetProject={project}&codesetName=code")
        self._pushed += 1
        place = self._folder / f"{project}-{self._pushed}"
        # Each push is a new history on a branch of its own: nobody has to fetch before.
        checkout = servers.Checkout(place, registered["codeset"]["url"], user, registered["password"])
        (place / "train.py").write_text(f"print({self._pushed})\n")
        checkout.push("ask", ref=f"b{self._pushed}")
        return self.server.finished_run(f"who-{self._pushed}")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("scopes")
    with servers.running(folder / "home", "--mlflow", "none") as server:
        server.post("/extensions", STORE)
        server.post("/workflows", raw=WORKFLOW.encode())
        yield Team(server, folder)


def test_two_projects_get_two_accounts_by_one_selector(team: Team) -> None:
    for project in ("alpha", "beta"):
        run = team.push(project, f"fuseml-{project}")
        assert (run["state"], run["project"]) == ("succeeded", project)
        assert run["outputs"]["account"] == f"account-of-{project}"
        (binding,) = run["bindings"]
        assert (binding["credentials_id"], binding["credentials_scope"]) == (project, "project")


def test_who_pushes_gets_an_account_of_their_own(team: Team) -> None:
    own = team.push("beta", "ada")
    assert (own["outputs"]["account"], own["bindings"][0]["credentials_scope"]) == ("account-of-ada", "user")
    assert team.push("beta", "eve")["outputs"]["account"] == "account-of-beta"


def test_a_project_without_an_account_is_told_so(team: Team) -> None:
    run = team.push("gamma", "eve")
    assert (run["state"], run["steps"][0]["state"]) == ("failed", "skipped")
    assert run["cause"] == (
        "step 'ask': selector 'store' matches nothing (store/s3: it needs credentials, and none apply to user eve in project gamma)"
    )


def test_a_run_keeps_ids_and_revisions_and_no_secret(team: Team) -> None:
    run = team.push("alpha", "eve")
    (binding,) = run["bindings"]
    assert binding == {
        "step": "ask",
        "name": "store",
        "extension_id": "store",
        "service_id": "s3",
        "service_resource": "s3",
        "service_category": "",
        "product": "minio",
        "version": "4.1.3",
        "zone": "",
        "url": "http://old.example.com:9000",
        "endpoint_type": "external",
        "credentials_id": "alpha",
        "credentials_scope": "project",
        "configuration": {"S3_ENDPOINT_URL": "http://old.example.com:9000"},
        "secret_keys": ["ACCESS_KEY"],
        "revision": 1,
        "ambiguous_with": [],
    }
    planned = json.dumps(team.server.get(f"/runs/{run['name']}/plan"))
    assert "account-of" not in planned and '"kind": "secret"' in planned


def test_a_store_that_moves_is_found_by_the_next_run(team: Team) -> None:
    before = team.push("alpha", "eve")
    moved = "http://new.example.com:9000"
    service = {"id": "s3", "endpoints": [{"url": moved, "configuration": {"S3_ENDPOINT_URL": moved}}]}
    team.server.call("PUT", "/extensions/store", {"services": [service]})
    team.server.call("DELETE", f"/extensions/store/services/s3/endpoints/{before['bindings'][0]['url'].replace('/', '%252F')}")

    after = team.push("alpha", "eve")

    assert (before["outputs"]["url"], after["outputs"]["url"]) == ("http://old.example.com:9000", moved)
    assert (before["revision"], after["revision"]) == (1, 1), "the workflow was not touched"
    assert (before["bindings"][0]["revision"], after["bindings"][0]["revision"]) == (1, 3)


def test_a_changed_account_reaches_the_next_run_and_a_rotation_of_keys_does_not_disturb(team: Team) -> None:
    place = "/extensions/store/services/s3/credentials/alpha"
    assert team.server.call("PUT", place, {"configuration": {"ACCESS_KEY": "a-fresh-account"}}).status == 200
    assert team.push("alpha", "eve")["outputs"]["account"] == "a-fresh-account"

    rotated = team.server.post("/extensions/secrets/rotate")

    # The server's own record has an account, too.
    assert (rotated["credentials"], rotated["unreadable"]) == (len(ACCOUNTS) + 1, [])
    assert rotated["webhook_secrets"] == len(team.server.get("/codesets"))
    assert team.push("alpha", "eve")["outputs"]["account"] == "a-fresh-account"
    team.server.kill()
    team.server.start()
    assert team.push("beta", "ada")["outputs"]["account"] == "account-of-ada"


def test_a_malformed_constraint_is_refused_when_the_workflow_is_created(team: Team) -> None:
    text = WORKFLOW.replace("name: who", "name: malformed").replace("service_resource: s3", 'version: ">=1.0 && <2"')
    answer = team.server.call("POST", "/workflows", raw=text.encode())
    (problem,) = answer.json["details"]["problems"]
    assert (answer.status, problem["path"], problem["line"]) == (400, "steps[0].extensions[0].version", 17)
    assert "is not a version constraint: cannot read '&& <2'" in problem["message"]
    assert team.server.call("GET", "/workflows/malformed").status == 404
