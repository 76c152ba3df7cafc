"""Health of what is registered: the housekeeper's tick against tools that come and go, and a registry that is edited meanwhile."""

from __future__ import annotations

import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.housekeeper import app as housekeeper
from functions.housekeeper import deps as housekeeper_deps
from fuseml import probes
from fuseml.cli import main
from fuseml.domain import events
from fuseml.engines import local
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.probes.targets import Target
from fuseml.runtime import clock, cloudevents
from fuseml.store import extensions
from tests.waiting import PATIENCE

from . import extensions_app, tools
from .test_probes import closed_port
from .tools import CANARY

_ticks = itertools.count()


class House:
    """The registry and the housekeeper on one database. `interval` 0 makes everything due at every tick."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = extensions_app.Registry(folder)
        self.engine = local.LocalEngine(
            root=folder / "runs",
            emit=self.registry.published.publish,
            checkout=lambda *_: None,
            seal=lambda secret: secret,
            unseal=lambda sealed: sealed,
            environments=folder / "environments",
        )

    def tick(self, interval: float = 0, zone: str = "", check: probes.Check = probes.check) -> None:
        """One PingSource event, through the housekeeper's application."""
        deps = housekeeper_deps.Deps(
            store=self.registry.store,
            publisher=self.registry.published,
            git=EmbeddedGitHost(self.folder, "http://127.0.0.1:1/git"),
            engine=self.engine,
            keyring=self.registry.keyring,
            zone=zone,
            check=check,
            health_interval=interval,
        )
        event = events.Event(events.TICK, "/test", f"tick-{next(_ticks)}", None, clock.now(), {})
        headers, body = cloudevents.encode(event)
        answer = housekeeper.create_app(deps).test_client().post("/", headers=headers, data=body)
        assert answer.status_code == 204, answer.text

    def register(self, url: str, *, resource: str = "git", zone: str = "", type: str = "external", **secrets: str) -> None:
        service = {"id": "api", "resource": resource, "endpoints": [{"url": url, "type": type}]}
        if secrets:
            service["credentials"] = [{"id": "account", "configuration": secrets}]
        assert self.registry.client.post("/extensions", json={"id": "tool", "zone": zone, "services": [service]}).status_code == 201

    def put(self, path: str, body: Any) -> None:
        answer = self.registry.client.put(f"/extensions/tool{path}", json=body)
        assert answer.status_code == 200, answer.text

    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = self.registry.client.get("/extensions/tool").json
        return record

    def health(self, collection: str = "endpoints") -> Any:
        return self.record()["services"][0][collection][0]["status"]["health"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.registry.store.close()


def test_an_endpoint_that_goes_away_is_unhealthy_since_then_and_healthy_again_when_it_is_back(house: House) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url)
        assert house.health() is None
        house.tick()
        well = house.health()
        assert (well["state"], well["cause"], well["since"]) == ("healthy", "", well["seen"])
        house.tick()
        assert house.health()["since"] == well["since"]
        assert house.health()["seen"] > well["seen"]
    house.tick()
    gone = house.health()
    assert (gone["state"], gone["cause"]) == ("unhealthy", f"nothing answers at {git.url}; start the tool, or correct the URL")
    assert gone["since"] > well["since"]
    house.tick()
    assert house.health()["since"] == gone["since"]
    with tools.serve(tools.gitea(), git.port):
        house.tick()
    back = house.health()
    assert (back["state"], back["cause"]) == ("healthy", "")
    assert back["since"] > gone["since"]


def test_a_probe_is_no_change_of_the_record(house: House) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url, username="fuseml", password=CANARY)
        before, announced = house.record(), len(house.registry.published.events)
        house.tick()
    after = house.record()
    assert house.health()["state"] == house.health("credentials")["state"] == "healthy"
    assert (after["revision"], after["status"]) == (before["revision"], before["status"])
    for part in (after["services"][0]["endpoints"][0], after["services"][0]["credentials"][0]):
        part["status"]["health"] = None
    assert after == before
    assert len(house.registry.published.events) == announced


def test_wrong_credentials_are_told_apart_from_a_dead_endpoint(house: House) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url, username="fuseml", password="old")
        house.tick()
        wrong = house.health("credentials")
        assert house.health()["state"] == "healthy"
        assert (wrong["state"], wrong["cause"]) == (
            "unhealthy",
            f"the git host at {git.url} refuses these credentials; correct username and password, or token",
        )
        house.put("/services/api/credentials/account", {"configuration": {"username": "fuseml", "password": CANARY}})
        house.tick()
        right = house.health("credentials")
        assert right["state"] == "healthy"
    house.tick()
    assert house.health()["state"] == "unhealthy"
    assert house.health("credentials") == right, "nobody knows anything new about the credentials"


def test_an_s3_account_is_tried_with_the_region_of_its_service(house: House) -> None:
    with tools.s3_server() as store:
        house.register(store.url, resource="s3", **store.guest)
        house.put("/services/api", {"configuration": {"AWS_DEFAULT_REGION": "eu-central-1"}})
        house.tick()
        assert house.health("credentials")["state"] == "healthy"
        assert ["/eu-central-1/s3/" in signature for signature in store.server.authorizations] == [True]


def test_what_was_seen_a_moment_ago_is_left_in_peace_until_it_is_changed(house: House) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url, username="fuseml", password="old")
        house.tick(interval=300)
        asked = len(git.asked)
        house.tick(interval=300)
        assert len(git.asked) == asked
        house.put("/services/api/credentials/account", {"configuration": {"username": "fuseml", "password": CANARY}})
        house.tick(interval=300)
        assert [path for path, _ in git.asked[asked:]] == ["/api/v1/user"]
        assert house.health("credentials")["state"] == "healthy"


def test_credentials_that_nobody_can_try_are_not_judged_and_asked_about_only_with_their_endpoint(house: House) -> None:
    tried: list[str] = []

    def check(resource: str, target: Target) -> str | None:
        tried.append("credentials" if target.credentials else "endpoint")
        return probes.check(resource, target)

    with tools.serve(tools.gitea()) as git:
        house.register(git.url, resource="seldon-core-api", CLIENT_KEY=CANARY)
        house.tick(interval=300, check=check)
        house.tick(interval=300, check=check)
    assert tried == ["endpoint", "credentials"]
    assert house.health()["state"] == "healthy"
    assert house.health("credentials") is None


@pytest.mark.parametrize(
    ("url", "type", "zone", "own", "asked"),
    [
        ("http", "internal", "", "", True),
        ("http", "internal", "east", "east", True),
        ("http", "internal", "", "east", True),
        ("http", "internal", "west", "east", False),
        ("http", "internal", "west", "", False),
        ("http", "external", "west", "east", True),
        ("grpc", "external", "", "", False),
    ],
)
def test_only_what_can_be_reached_from_here_is_asked(url: str, type: str, zone: str, own: str, asked: bool, house: House) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url.replace("http", url), type=type, zone=zone)
        house.tick(zone=own)
        assert bool(git.asked) is asked
    assert (house.health() is not None) is asked


def test_secrets_appear_in_no_message_log_or_stored_health(
    house: House, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with tools.serve(tools.gitea(password="other")) as git:
        house.register(f"http://ada:{CANARY}@127.0.0.1:{git.port}/", username=CANARY, password=CANARY)
        house.tick()
        house.put("/services/api/credentials/account", {"configuration": {"token": f"{CANARY}\n"}})
        house.tick()
        assert "line break" in house.health("credentials")["cause"]
        assert git.authorizations == [tools.basic(CANARY, CANARY)]
    house.tick()
    health = [house.health(collection) for collection in ("endpoints", "credentials")]
    assert {item["state"] for item in health} == {"unhealthy"}
    told = json.dumps(health) + caplog.text + "".join(capfd.readouterr())
    assert "tool/api/account is unhealthy now" in told
    assert CANARY not in told


def rotate(house: House) -> None:
    house.put("/services/api/credentials/account", {"configuration": {"username": "new", "password": "new"}})


def remove(house: House) -> None:
    assert house.registry.client.delete("/extensions/tool/services/api/credentials/account").status_code == 204


def describe(house: House) -> None:
    house.put("", {"description": "edited", "services": [{"id": "other", "resource": "s3"}]})


@pytest.mark.parametrize(("edit", "states"), [(rotate, ["unknown"]), (remove, []), (describe, ["unhealthy"])])
def test_an_edit_during_the_probes_is_not_overwritten(edit: Callable[[House], None], states: list[str], house: House) -> None:
    edited: list[dict[str, Any]] = []

    def check(_: str, target: Target) -> str | None:
        if not target.credentials:
            return None
        edit(house)
        edited.append(house.record())
        return "it is broken"

    house.register("http://127.0.0.1:1", username="old", password="old")
    house.tick(check=check)
    record = house.record()
    [endpoint], credentials = record["services"][0]["endpoints"], record["services"][0]["credentials"]
    assert endpoint["status"]["health"]["state"] == "healthy"
    assert [(item["status"]["health"] or {"state": "unknown"})["state"] for item in credentials] == states
    for part in (endpoint, *credentials):
        part["status"]["health"] = None
    assert [record] == edited


def test_a_record_that_is_deleted_during_the_probes_stays_deleted(house: House) -> None:
    def check(_resource: str, _target: Target) -> str | None:
        assert house.registry.client.delete("/extensions/tool").status_code == 204
        return None

    house.register("http://127.0.0.1:1")
    house.tick(check=check)
    assert house.registry.client.get("/extensions/tool").status_code == 404


def test_an_older_finding_does_not_replace_a_newer_one(house: House) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url)
        house.tick()
        with house.registry.store.read() as session:
            older = extensions.get(session, "tool")
        house.tick()
        newer = house.health()
    with house.registry.store.write() as session:
        extensions.store_health(session, older)
    assert house.health() == newer


def test_many_endpoints_are_asked_side_by_side(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in range(1, 41)]
    service = {"id": "api", "endpoints": [{"url": url} for url in urls]}
    house.registry.client.post("/extensions", json={"id": "tool", "services": [service]})

    # Nothing is answered before so many have been asked.
    together = threading.Barrier(8, timeout=PATIENCE)

    def answered_together(_resource: str, _target: Target) -> str | None:
        together.wait()
        return None

    monkeypatch.setattr("functions.housekeeper.health._SECONDS", PATIENCE)
    house.tick(check=answered_together)
    assert {endpoint["status"]["health"]["state"] for endpoint in house.record()["services"][0]["endpoints"]} == {"healthy"}


def test_what_was_not_seen_for_longest_comes_first(house: House) -> None:
    dead, alive = f"http://127.0.0.1:{closed_port()}", "http://127.0.0.1:1"
    house.register(dead)
    house.tick(check=lambda *_: None)
    house.put("/services/api", {"endpoints": [{"url": alive}]})
    asked: list[str] = []

    def check(_: str, target: Target) -> str | None:
        asked.append(target.url)
        return None

    house.tick(check=check)
    assert asked == [alive, dead]


def test_the_command_shows_state_last_seen_and_trouble(house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tools.serve(tools.gitea()) as git:
        house.register(git.url, username="fuseml", password="old")
        house.tick()
    with extensions_app.serve(house.registry.app) as url:
        assert main.run(["extension", "get", "tool"], {"FUSEML_SERVER_URL": url, "FUSEML_CONFIG": str(tmp_path / "none")}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines if "HEALTH" in line] == [
        ["URL", "TYPE", "HEALTH", "SEEN"],
        ["ID", "SCOPE", "KEYS", "HEALTH"],
    ]
    assert any(git.url in line and " healthy " in line and " ago" in line for line in lines)
    assert any(" unhealthy " in line and "refuses these credentials" in line for line in lines)
