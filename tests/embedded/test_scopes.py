"""Resolution at every run: credentials by project and user, and changes of the registry that the next run uses without a new workflow."""

from __future__ import annotations

import codecs
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
            "credentials": [
                {"id": name, "configuration": {"ACCESS_KEY": f"account-of-{name}"}, **scope} for name, scope in ACCOUNTS.items()
            ],
        }
    ],
}
# The outputs show the environment of the step.
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
      # Outputs are public: not the secret, but a spelling that no mask knows.
      printf %s "$ACCESS_KEY" | tr a-z n-za-m > "$FUSEML_ENV_RESULTS/account"
      printf %s "$S3_ENDPOINT_URL" > "$FUSEML_ENV_RESULTS/url"
    outputs:
      - name: account
      - name: url
"""


def account(run: dict[str, Any]) -> str:
    """The account that the step of a run has received."""
    return codecs.decode(run["outputs"]["account"], "rot13")


class Team:
    """Users who push to codesets of projects."""

    def __init__(self, server: servers.Server, folder: pathlib.Path) -> None:
        self.server, self._folder, self._pushes = server, folder, 0

    def push(self, project: str, user: str) -> dict[str, Any]:
        """Push as `user` to the codeset `code` of a project; the finished run."""
        registration = self.server.post(f"/codesets?project={project}&name=code")
        self.server.call("POST", f"/workflows/assignments?name=who&codesetProject={project}&codesetName=code")
        self._pushes += 1
        folder = self._folder / f"{project}-{self._pushes}"
        # Each push is a new history on its own branch, so no push needs a fetch.
        checkout = servers.Checkout(folder, registration["codeset"]["url"], user, registration["password"])
        (folder / "train.py").write_text(f"print({self._pushes})\n")
        checkout.push("ask", ref=f"b{self._pushes}")
        return self.server.finished_run(f"who-{self._pushes}")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("scopes")
    with servers.running(folder / "home", "--mlflow", "none") as server:
        server.post("/extensions", STORE)
        server.post("/workflows", raw=WORKFLOW.encode())
        yield Team(server, folder)


def test_two_projects_receive_different_credentials_by_one_selector(team: Team) -> None:
    for project in ("alpha", "beta"):
        run = team.push(project, f"fuseml-{project}")
        assert (run["state"], run["project"]) == ("succeeded", project)
        assert account(run) == f"account-of-{project}"
        (binding,) = run["bindings"]
        assert (binding["credentials_id"], binding["credentials_scope"]) == (project, "project")


def test_a_user_receives_credentials_of_their_own(team: Team) -> None:
    own = team.push("beta", "ada")
    assert (account(own), own["bindings"][0]["credentials_scope"]) == ("account-of-ada", "user")
    assert account(team.push("beta", "eve")) == "account-of-beta"


def test_a_run_of_a_project_without_credentials_fails_with_the_reason(team: Team) -> None:
    run = team.push("gamma", "eve")
    assert (run["state"], run["steps"][0]["state"]) == ("failed", "skipped")
    assert run["cause"] == (
        "step 'ask': selector 'store' matches nothing (store/s3: it needs credentials, and none apply to user eve in project gamma)"
    )


def test_a_run_stores_ids_and_revisions_but_no_secret(team: Team) -> None:
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
        "secret_files": {},
        "revision": 1,
        "ambiguous_with": [],
        "withheld": "",
    }
    plan = json.dumps(team.server.get(f"/runs/{run['name']}/plan"))
    assert "account-of" not in plan and '"kind": "secret"' in plan


def test_the_next_run_uses_the_new_url_of_a_store(team: Team) -> None:
    before = team.push("alpha", "eve")
    new_url = "http://new.example.com:9000"
    # Another host gets stored secrets only if they are given again.
    service = {
        "id": "s3",
        "endpoints": [{"url": new_url, "configuration": {"S3_ENDPOINT_URL": new_url}}],
        "credentials": [{"id": name, "configuration": {"ACCESS_KEY": f"account-of-{name}"}} for name in ACCOUNTS],
    }
    team.server.call("PUT", "/extensions/store", {"services": [service]})
    team.server.call("DELETE", f"/extensions/store/services/s3/endpoints/{before['bindings'][0]['url'].replace('/', '%252F')}")

    after = team.push("alpha", "eve")

    assert (before["outputs"]["url"], after["outputs"]["url"]) == ("http://old.example.com:9000", new_url)
    assert (before["revision"], after["revision"]) == (1, 1), "the workflow is unchanged"
    assert (before["bindings"][0]["revision"], after["bindings"][0]["revision"]) == (1, 3)


def test_the_next_run_uses_changed_credentials_and_works_after_a_rotation_of_keys(team: Team) -> None:
    path = "/extensions/store/services/s3/credentials/alpha"
    assert team.server.call("PUT", path, {"configuration": {"ACCESS_KEY": "a-fresh-account"}}).status == 200
    assert account(team.push("alpha", "eve")) == "a-fresh-account"

    rotation = team.server.post("/extensions/secrets/rotate")

    assert (rotation["credentials"], rotation["unreadable"]) == (len(ACCOUNTS), [])
    # Each codeset has the secret of its webhook, and a password.
    assert rotation["webhook_secrets"] == 2 * len(team.server.get("/codesets"))
    assert account(team.push("alpha", "eve")) == "a-fresh-account"
    team.server.kill()
    team.server.start()
    assert account(team.push("beta", "ada")) == "account-of-ada"


def test_a_malformed_constraint_is_refused_when_the_workflow_is_created(team: Team) -> None:
    text = WORKFLOW.replace("name: who", "name: malformed").replace("service_resource: s3", 'version: ">=1.0 && <2"')
    response = team.server.call("POST", "/workflows", raw=text.encode())
    (problem,) = response.json["details"]["problems"]
    assert (response.status, problem["path"], problem["line"]) == (400, "steps[0].extensions[0].version", 17)
    assert "is not a version constraint: cannot read '&& <2'" in problem["message"]
    assert team.server.call("GET", "/workflows/malformed").status == 404
