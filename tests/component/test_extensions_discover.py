"""Discovery over HTTP and by the command: proposals, known URLs, and registration with `apply`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.cli import main
from fuseml.runtime import auth

from . import extensions_app, tools
from .test_probes import closed_port
from .tools import CANARY


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[extensions_app.Registry]:
    running = extensions_app.Registry(tmp_path)
    yield running
    running.store.close()


def discover(registry: extensions_app.Registry, *urls: str, apply: bool = False) -> list[dict[str, Any]]:
    answer = registry.client.post("/extensions/discover", json={"urls": urls, "apply": apply})
    assert answer.status_code == 200, answer.text
    proposals: list[dict[str, Any]] = answer.get_json()["proposals"]
    return proposals


def test_a_proposal_is_registered_with_apply_only(registry: extensions_app.Registry) -> None:
    with tools.serve(tools.gitea()) as git:
        [proposal] = discover(registry, git.url)
        assert (proposal["state"], proposal["extension"]["product"], proposal["extension"]["version"]) == ("new", "gitea", "1.24.6")
        assert registry.client.get("/extensions").json == []

        [applied] = discover(registry, git.url, apply=True)
        assert (applied["state"], applied["id"]) == ("registered", "gitea")
        assert [event.type for event in registry.published.events] == ["org.fuseml.extension.registered.v1"]
        [record] = registry.client.get("/extensions").get_json()
        assert record == applied["extension"]
        assert record["services"][0]["endpoints"][0]["url"] == git.url


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/?x=1"])
def test_a_registered_url_is_known_in_any_spelling(spelling: str, registry: extensions_app.Registry) -> None:
    with tools.serve(tools.gitea()) as git:
        discover(registry, git.url, apply=True)
        requests = len(git.requests)
        [again] = discover(registry, spelling.format(git.url.replace("http", "HTTP")), apply=True)
        assert (again["state"], again["id"], again["message"]) == ("known", "gitea", "registered as gitea")
        assert len(git.requests) == requests
    assert len(registry.client.get("/extensions").get_json()) == 1


def test_a_second_installation_of_a_product_gets_a_generated_id(registry: extensions_app.Registry) -> None:
    with tools.serve(tools.gitea()) as one, tools.serve(tools.gitea()) as other:
        first, second = discover(registry, one.url, other.url, apply=True)
    assert first["id"] == "gitea"
    assert second["id"].startswith("gitea-")


def test_a_dead_url_does_not_prevent_other_proposals(registry: extensions_app.Registry) -> None:
    with tools.serve(tools.gitea()) as git:
        dead, living = discover(registry, f"http://127.0.0.1:{closed_port()}", git.url, apply=True)
    assert (dead["state"], dead["extension"]) == ("unknown", None)
    assert "nothing answers" in dead["message"]
    assert living["state"] == "registered"


@pytest.mark.parametrize(
    ("body", "path", "complaint"),
    [
        ({}, "urls", "is required"),
        ({"urls": []}, "urls", "at least 1"),
        ({"urls": ["http://x"] * 21}, "urls", "at most 20"),
        ({"urls": ["file:///etc/passwd"]}, "urls[0]", "http://host:port"),
        ({"urls": ["http://ok", "gopher://x"]}, "urls[1]", "http://host:port"),
        ({"urls": [f"http://ada:{CANARY}@x"]}, "urls[0]", "must not hold a user or a password"),
        ({"urls": ["http://" + "x" * 300]}, "urls[0]", "at most 200"),
        ({"urls": ["http://x"], "aply": True}, "aply", "unknown key"),
    ],
)
def test_invalid_urls_are_refused_with_their_path(
    body: dict[str, Any], path: str, complaint: str, registry: extensions_app.Registry
) -> None:
    answer = registry.client.post("/extensions/discover", json=body)
    assert answer.status_code == 400
    [problem] = answer.get_json()["details"]["problems"]
    assert problem["path"] == path
    assert complaint in problem["message"]
    assert CANARY not in answer.text


def test_discovery_is_for_administrators_only(tmp_path: Path) -> None:
    from functions.extensions.app import create_app
    from functions.extensions.deps import Deps

    registry = extensions_app.Registry(tmp_path)
    tokens = auth.Tokens({})
    app = create_app(Deps(store=registry.store, publisher=registry.published, keyring=registry.keyring, tokens=tokens))
    with tools.serve(tools.gitea()) as git:
        body = {"urls": [git.url]}
        assert app.test_client().post("/extensions/discover", json=body).status_code == 401
        assert (
            app.test_client().post("/extensions/discover", json=body, headers={"Authorization": f"Bearer {auth.STEP_PREFIX}x"}).status_code
            == 403
        )
        assert git.requests == []
    registry.store.close()


@pytest.fixture
def fuseml(registry: extensions_app.Registry, tmp_path: Path) -> Iterator[Any]:
    """Run a command line against the registry, with a user's environment in `tmp_path`."""
    ready: dict[str, Any] = {"status": "ready", "components": {}}
    registry.app.add_url_rule("/readyz", view_func=lambda: ready)
    with extensions_app.serve(registry.app) as url:

        def run(*arguments: str, mlflow: str = "", **variables: str) -> int:
            ready["components"] = {"mlflow": {"status": "ready", "url": mlflow}} if mlflow else {}
            environment = {"FUSEML_SERVER_URL": url, "FUSEML_CONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)}
            return main.run(arguments, {**environment, **variables})

        yield run


def test_the_command_finds_and_registers_the_tools_of_the_environment(
    fuseml: Any, registry: extensions_app.Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with tools.s3_server() as store:
        (tmp_path / ".aws").mkdir()
        secret = store.owner["AWS_SECRET_ACCESS_KEY"]
        lines = ["[default]", *(f"{key.lower()} = {value}" for key, value in store.owner.items()), f"endpoint_url = {store.url}"]
        (tmp_path / ".aws" / "credentials").write_text("\n".join(lines))

        assert fuseml("extension", "discover") == 0
        shown = capsys.readouterr().out
        assert store.url in shown
        assert "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY" in shown
        assert "Repeat the command with --apply to register the new tools." in shown
        assert registry.client.get("/extensions").json == []

        assert fuseml("extension", "discover", "--apply", "-o", "json") == 0
        out = capsys.readouterr().out
        [proposal] = json.loads(out)
        assert (proposal["state"], proposal["id"]) == ("registered", "s3")
        assert secret not in shown + out

        assert fuseml("extension", "discover") == 0
        assert "registered as s3" in capsys.readouterr().out
    with registry.store.read() as session:
        from fuseml.store import extensions

        [credentials] = extensions.get(session, "s3").services[0].credentials
    assert registry.keyring.unseal(credentials.configuration["AWS_SECRET_ACCESS_KEY"]) == secret


def test_the_server_probes_its_own_mlflow(fuseml: Any, mlflow_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("extension", "discover", "--apply", mlflow=mlflow_server, MLFLOW_TRACKING_URI=f"{mlflow_server}/") == 0
    out = capsys.readouterr().out
    assert out.count(mlflow_server) == 1
    assert "mlflow-tracking, mlflow-artifacts" in out


def test_only_the_given_urls_are_probed(fuseml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with tools.serve(tools.gitea()) as git, tools.serve(tools.pages({})) as other:
        assert fuseml("extension", "discover", git.url, "-o", "yaml", MLFLOW_TRACKING_URI=other.url) == 0
        assert other.requests == []
    assert "product: gitea" in capsys.readouterr().out


def test_without_any_url_the_command_explains_how_to_give_one(fuseml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuseml("extension", "discover") == 0
    assert "give a URL, or set MLFLOW_TRACKING_URI" in capsys.readouterr().err
