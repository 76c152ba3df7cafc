"""Names of images, and the accounts for them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from fuseml.steps import references, sdk

DIGEST = "sha256:" + "a" * 64


def auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("text", "registry", "repository", "version"),
    [
        ("ghcr.io/fuseml/mlflow-trainer:v1", "ghcr.io", "fuseml/mlflow-trainer", "v1"),
        ("registry.local:5000/environments", "registry.local:5000", "environments", ""),
        (f"localhost/a/b__c:V.1-x@{DIGEST}", "localhost", "a/b__c", DIGEST),
        ("[::1]:5000/a:1", "[::1]:5000", "a", "1"),
        ("python:3.11-slim", "docker.io", "library/python", "3.11-slim"),
        ("fuseml/trainer", "docker.io", "fuseml/trainer", ""),
    ],
)
def test_a_name_says_registry_repository_and_version(text: str, registry: str, repository: str, version: str) -> None:
    assert references.parse(text, "it") == references.Reference(registry, repository, version)


@pytest.mark.parametrize("text", ["", "Upper/case", "a//b", "a:", "a@sha256:12", "https://registry.example.com/a", "a b", "a:" + "x" * 129])
def test_other_texts_are_no_names(text: str) -> None:
    with pytest.raises(sdk.StepError, match=r"the image is '.*', which is no image name such as"):
        references.parse(text, "the image")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ghcr.io/a", "https://ghcr.io"),
        ("a/b", "https://registry-1.docker.io"),
        ("registry.local:5000/a", "http://registry.local:5000"),
        ("localhost:5000/a", "http://localhost:5000"),
        ("127.0.0.1:1/a", "http://127.0.0.1:1"),
        ("[::1]:1/a", "http://[::1]:1"),
        ("localhost.example.com/a", "https://localhost.example.com"),
    ],
)
def test_plain_http_is_for_those_that_are_named_and_for_this_machine(text: str, url: str) -> None:
    assert references.parse(text, "it").url(["registry.local:5000"]) == url


def test_the_account_is_that_of_the_entry_that_says_most(tmp_path: Path) -> None:
    accounts = {
        "https://index.docker.io/v1/": {"auth": auth("hub:1")},
        "registry.example.com": {"auth": auth("host:with:colons")},
        "https://registry.example.com/team": {"username": "team", "password": "2"},
        "registry.example.com/team/other": {"auth": auth("other:3")},
        "tokens.example.com": {"auth": auth("<token>:"), "identitytoken": "4"},
        "empty.example.com": {},
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": accounts, "credsStore": "desktop"}))

    def found(image: str) -> tuple[str, str] | None:
        account = references.account([tmp_path / "none.json", file], references.parse(image, "it"))
        return (account.user, account.password or account.identity) if account else None

    assert found("python") == ("hub", "1")
    assert found("registry.example.com/mine") == ("host", "with:colons")
    assert found("registry.example.com/team/mine") == ("team", "2")
    assert found("registry.example.com/team/other") == ("other", "3")
    assert found("registry.example.com/teams/other") == ("host", "with:colons")
    assert found("tokens.example.com/a") == ("<token>", "4")
    assert found("empty.example.com/a") is None
    assert found("elsewhere.example.com/a") is None


@pytest.mark.parametrize(
    "text", ["canary", '{"auths": ["canary"]}', '{"auths": {"a.b": {"auth": "canary!"}}}', '{"auths": {"a.b": "canary"}}']
)
def test_a_broken_file_is_named_and_not_shown(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(sdk.StepError) as caught:
        references.account([file], references.parse("a.b/c", "it"))
    assert str(file) in str(caught.value)
    assert "canary" not in str(caught.value)


def test_accounts_are_looked_for_where_docker_and_tekton_have_them() -> None:
    found = references.places({"DOCKER_CONFIG": "/a", "HOME": "/b"})
    assert [str(file) for file in found] == ["/a/config.json", "/b/.docker/config.json", "/tekton/creds/.docker/config.json"]
    assert [str(file) for file in references.places({})] == ["/tekton/creds/.docker/config.json"]


def test_no_password_is_shown() -> None:
    assert "canary" not in repr(references.Account("me", "canary", "canary"))
