"""Image references, and the accounts of registries."""

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
def test_a_name_is_parsed_into_registry_repository_and_version(text: str, registry: str, repository: str, version: str) -> None:
    assert references.parse(text, "it") == references.Reference(registry, repository, version)


@pytest.mark.parametrize("text", ["", "Upper/case", "a//b", "a:", "a@sha256:12", "https://registry.example.com/a", "a b", "a:" + "x" * 129])
def test_an_invalid_name_is_refused(text: str) -> None:
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
def test_plain_http_is_for_listed_registries_and_for_this_machine(text: str, url: str) -> None:
    assert references.parse(text, "it").url(["registry.local:5000"]) == url


def test_the_most_specific_entry_is_the_account(tmp_path: Path) -> None:
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

    def account_of(image: str) -> tuple[str, str] | None:
        account = references.account([tmp_path / "none.json", file], references.parse(image, "it"))
        return (account.user, account.password or account.identity) if account else None

    assert account_of("python") == ("hub", "1")
    assert account_of("registry.example.com/mine") == ("host", "with:colons")
    assert account_of("registry.example.com/team/mine") == ("team", "2")
    assert account_of("registry.example.com/team/other") == ("other", "3")
    assert account_of("registry.example.com/teams/other") == ("host", "with:colons")
    assert account_of("tokens.example.com/a") == ("<token>", "4")
    assert account_of("empty.example.com/a") is None
    assert account_of("elsewhere.example.com/a") is None


@pytest.mark.parametrize(
    "text", ["canary", '{"auths": ["canary"]}', '{"auths": {"a.b": {"auth": "canary!"}}}', '{"auths": {"a.b": "canary"}}']
)
def test_an_invalid_file_is_named_without_its_content(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(sdk.StepError) as caught:
        references.account([file], references.parse("a.b/c", "it"))
    assert str(file) in str(caught.value)
    assert "canary" not in str(caught.value)


def test_accounts_are_read_from_the_files_of_docker_and_tekton() -> None:
    files = references.account_files({"DOCKER_CONFIG": "/a", "HOME": "/b"})
    assert [str(file) for file in files] == ["/a/config.json", "/b/.docker/config.json", "/tekton/creds/.docker/config.json"]
    assert [str(file) for file in references.account_files({})] == ["/tekton/creds/.docker/config.json"]


def test_the_representation_of_an_account_hides_its_password() -> None:
    assert "canary" not in repr(references.Account("me", "canary", "canary"))
