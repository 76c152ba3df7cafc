"""Gitea as a git host: errors, existing objects, and lists of several pages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug import Response

from functions.codesets import app as codesets_app
from functions.codesets import deps as codesets_deps
from functions.gitea_ingress import app as gitea_ingress_app
from functions.gitea_ingress import deps as gitea_ingress_deps
from fuseml import githosts
from fuseml.domain import errors
from fuseml.runtime import auth, secrets
from fuseml.store import codesets
from tests import databases

from . import endpoint, gitea, githost

HOOKS = "http://fuseml.example"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[gitea.FakeGitea]:
    with gitea.fake_gitea(tmp_path / "gitea") as fake:
        yield fake


@pytest.fixture
def host(fake: gitea.FakeGitea) -> githosts.GitHost:
    return githosts.connect(fake.url + "/", gitea.TOKEN, HOOKS)


CALLS: dict[str, Callable[[githosts.GitHost], object]] = {
    "create": lambda host: host.create_repository("p", "c"),
    "sign": lambda host: host.sign_webhooks("p", "c", "secret-canary"),
    "grant": lambda host: host.grant_push("p", "c", "password-canary"),
    "delete": lambda host: host.delete_repository("p", "c"),
    "changed paths": lambda host: host.changed_paths("p", "c", "1" * 40, "2" * 40),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (401, errors.PermanentError, "FUSEML_GIT_TOKEN"),
        (403, errors.PermanentError, "FUSEML_GIT_TOKEN must be the token of an administrator"),
        (429, errors.TemporaryError, "returned 429"),
        (500, errors.TemporaryError, "the fake is set to fail"),
        (418, errors.PermanentError, "FUSEML_GIT_URL"),
    ],
)
def test_an_error_names_the_setting_to_correct(
    fake: gitea.FakeGitea,
    host: githosts.GitHost,
    call: Callable[[githosts.GitHost], object],
    status: int,
    error: type[errors.FusemlError],
    message: str,
) -> None:
    fake.broken = status
    with pytest.raises(error) as caught:
        call(host)
    assert message in caught.value.message
    assert "canary" not in f"{caught.value.message} {caught.value.details}"


def test_a_wrong_token_is_reported_without_its_value(fake: gitea.FakeGitea) -> None:
    host = githosts.connect(fake.url, "wrong-canary", HOOKS)
    for call in (lambda: host.create_repository("p", "c"), lambda: host.heads("p", "c")):
        with pytest.raises(errors.PermanentError, match="FUSEML_GIT_TOKEN") as caught:
            call()
        assert "canary" not in caught.value.message
    assert "canary" not in repr(host)


def test_an_unreachable_host_is_a_temporary_error() -> None:
    host = githosts.connect("http://127.0.0.1:9", gitea.TOKEN, HOOKS)
    for call in (lambda: host.create_repository("p", "c"), lambda: host.heads("p", "c")):
        with pytest.raises(errors.TemporaryError, match=r"127\.0\.0\.1:9"):
            call()


def test_a_server_that_is_not_gitea_is_reported() -> None:
    with gitea.listening(Response("<html>hello</html>")) as server:
        host = githosts.connect(f"http://127.0.0.1:{server.port}", gitea.TOKEN, HOOKS)
        with pytest.raises(errors.PermanentError, match="is not Gitea; check FUSEML_GIT_URL"):
            host.create_repository("p", "c")


@pytest.mark.parametrize("project", ["admin", "p" * 41, "taken"])
def test_a_project_name_that_gitea_rejects_is_reported(fake: gitea.FakeGitea, host: githosts.GitHost, project: str) -> None:
    fake.users["taken"] = "x"
    with pytest.raises(errors.InvalidError, match="choose another project name"):
        host.create_repository(project, "c")


def test_an_existing_user_with_another_password_is_changed_by_a_replacement_only(fake: gitea.FakeGitea, host: githosts.GitHost) -> None:
    host.create_repository("p", "c")
    username = host.grant_push("p", "c", "first")
    with pytest.raises(errors.TemporaryError, match=f"a user {username} with a different password"):
        host.grant_push("p", "c", "second")
    assert fake.users[username] == "first"
    assert host.grant_push("p", "c", "first") == username
    assert host.replace_push("p", "c", "second") == username
    assert fake.users[username] == "second"
    assert host.replace_push("p", "c", "second") == host.grant_push("p", "c", "second") == username


def test_user_names_are_valid_for_gitea_and_unique(host: githosts.GitHost) -> None:
    repositories = [("a-b", "c"), ("a", "b-c"), ("a", "b_c"), ("A", "b_c"), ("p" * 40, "c" * 100), ("p", "c__"), ("x_", "_y")]
    names = []
    for project, codeset in repositories:
        host.create_repository(project, codeset)
        names.append(host.grant_push(project, codeset, "password"))
    assert len(set(names)) == len(repositories)
    assert all(len(name) <= 40 and not {"--", "__", "-_", "_-"} & {name[i : i + 2] for i in range(len(name))} for name in names)


def test_a_second_registration_sends_few_requests_and_changes_nothing(fake: gitea.FakeGitea, host: githosts.GitHost) -> None:
    def register() -> None:
        host.create_repository("p", "c")
        host.sign_webhooks("p", "c", "secret")
        host.grant_push("p", "c", "password")

    register()
    before = (list(fake.hooks["p", "c"]), dict(fake.users))
    fake.requests.clear()
    register()
    assert (fake.hooks["p", "c"], fake.users) == before
    assert len(fake.requests) <= 5


def test_only_webhooks_of_fuseml_are_replaced(fake: gitea.FakeGitea, host: githosts.GitHost) -> None:
    fake.page = 3
    host.create_repository("p", "c")
    for number in range(10):
        config = {"url": f"http://elsewhere/{number}", "secret": "x"}
        fake.hooks["p", "c"].append(gitea.Hook(1000 + number, {"active": True, "events": ["push"], "config": config}))
    for secret in ("one", "two"):
        host.sign_webhooks("p", "c", secret)
    own = [hook.body for hook in fake.hooks["p", "c"] if "elsewhere" not in hook.body["config"]["url"]]
    assert [(hook["config"]["secret"], hook["config"]["content_type"], hook["active"]) for hook in own] == [("two", "json", True)]
    assert own[0]["events"] == ["push", "create", "delete", "repository", "release"]
    assert len(fake.hooks["p", "c"]) == 11


def test_a_disabled_webhook_is_created_again(fake: gitea.FakeGitea, host: githosts.GitHost) -> None:
    host.create_repository("p", "c")
    host.sign_webhooks("p", "c", "secret")
    fake.hooks["p", "c"][0].body["active"] = False
    host.sign_webhooks("p", "c", "secret")
    assert [hook.body["active"] for hook in fake.hooks["p", "c"]] == [True]


def test_trees_are_read_page_by_page(fake: gitea.FakeGitea, host: githosts.GitHost, tmp_path: Path) -> None:
    fake.page = 7
    host.create_repository("p", "c")
    username = host.grant_push("p", "c", "password")
    url = host.clone_url("p", "c").replace("://", f"://{username}:password@")
    host.sign_webhooks("p", "c", "secret")
    fake.hooks["p", "c"].clear()
    clone = githost.Clone.fresh(url, tmp_path / "work")
    before = clone.commit("first", {f"folder{number % 5}/file{number}": "1" for number in range(50)})
    after = clone.commit("second", {"folder4/file49": "2", "zz": "new"})
    assert isinstance(clone.push("origin", "main"), subprocess.CompletedProcess)
    assert host.changed_paths("p", "c", before, after) == ["folder4/file49", "zz"]


def test_a_registered_codeset_exists_on_gitea_and_the_ingress_accepts_its_pushes(fake: gitea.FakeGitea, tmp_path: Path) -> None:
    store = databases.on_sqlite(tmp_path / "fuseml.db")
    keyring = secrets.Keyring([secrets.new_key()])
    ingress = gitea_ingress_app.create_app(gitea_ingress_deps.Deps(store=store, publisher=endpoint.Publisher(), keyring=keyring))
    with gitea.listening(ingress) as server:
        git = githosts.connect(fake.url, gitea.TOKEN, f"http://127.0.0.1:{server.port}")
        deps = codesets_deps.Deps(
            store=store, publisher=endpoint.Publisher(), git=git, keyring=keyring, tokens=auth.Tokens({}, anonymous=True)
        )
        client = codesets_app.create_app(deps).test_client()
        responses = [client.post("/codesets?project=p&name=c&initial_commit=false") for _ in range(2)]
        registered, again = [response.get_json() for response in responses]
        assert registered == again
        assert registered["codeset"]["url"] == f"{fake.url}/p/c.git"
        url = registered["codeset"]["url"].replace("://", f"://{registered['username']}:{registered['password']}@")
        commit = githost.Clone.fresh(url, tmp_path / "work").commit("first", {"a": "1"})
        assert githost.Clone(tmp_path / "work").push("origin", "main").returncode == 0
        with store.read() as session:
            assert codesets.commits(session, "p", "c") == {"refs/heads/main": commit}
        assert client.delete("/codesets/p/c").status_code == 204
        assert (fake.hooks, fake.users) == ({}, {})
    store.close()
