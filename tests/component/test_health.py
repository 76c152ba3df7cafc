"""Health checks of the registry: the housekeeper's tick against tools that come and go, and a registry that is edited meanwhile."""

from __future__ import annotations

import collections
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlmodel

from functions.housekeeper import app as housekeeper
from functions.housekeeper import deps as housekeeper_deps
from fuseml import probes
from fuseml.cli import main
from fuseml.domain import events, times
from fuseml.domain.registry import extension
from fuseml.engines import local
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.probes.targets import Target
from fuseml.runtime import catalog, clock
from fuseml.store import extensions
from fuseml.store.tables import extension_rows
from tests import event_keys
from tests.waiting import PATIENCE

from . import extensions_app, tools
from .test_probes import closed_port
from .tools import CANARY

_ticks = itertools.count()


class Installation:
    """The registry and the housekeeper on one database. `interval` 0 makes every part due at every tick."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = extensions_app.Registry(folder)
        self.engine = local.LocalEngine(
            root=folder / "runs",
            emit=self.registry.published.publish,
            checkout=lambda *_: (),
            seal=lambda secret: secret,
            unseal=lambda sealed: sealed,
            environments=folder / "environments",
        )

    def deps(
        self, interval: float = 0, zone: str = "", check: probes.Check = probes.check, sweeping: threading.Lock | None = None
    ) -> housekeeper_deps.Deps:
        """The dependencies of the housekeeper."""
        return housekeeper_deps.Deps(
            store=self.registry.store,
            publisher=self.registry.published,
            signer=event_keys.SIGNER,
            git=EmbeddedGitHost(self.folder, "http://127.0.0.1:1/git"),
            engine=self.engine,
            keyring=self.registry.keyring,
            zone=zone,
            check=check,
            health_interval=interval,
            sweeping=sweeping or threading.Lock(),
        )

    def tick(self, interval: float = 0, zone: str = "", check: probes.Check = probes.check, sweeping: threading.Lock | None = None) -> None:
        """One PingSource event, through the housekeeper's application."""
        event = events.Event(events.TICK, "/test", f"tick-{next(_ticks)}", None, clock.now(), {})
        headers, body = event_keys.encode(event)
        application = housekeeper.create_app(self.deps(interval, zone, check, sweeping))
        answer = application.test_client().post(catalog.EVENTS, headers=headers, data=body)
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
        record: dict[str, Any] = self.registry.client.get("/extensions/tool").get_json()
        return record

    def health(self, collection: str = "endpoints") -> Any:
        return self.record()["services"][0][collection][0]["status"]["health"]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    under_test = Installation(tmp_path)
    yield under_test
    under_test.registry.store.close()


def test_an_endpoint_is_unhealthy_while_its_tool_is_away(installation: Installation) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url)
        assert installation.health() is None
        installation.tick()
        healthy = installation.health()
        assert (healthy["state"], healthy["cause"], healthy["since"]) == ("healthy", "", healthy["seen"])
        installation.tick()
        assert installation.health()["since"] == healthy["since"]
        assert installation.health()["seen"] > healthy["seen"]
    installation.tick()
    gone = installation.health()
    assert (gone["state"], gone["cause"]) == ("unhealthy", f"nothing answers at {git.url}; start the tool, or correct the URL")
    assert gone["since"] > healthy["since"]
    installation.tick()
    assert installation.health()["since"] == gone["since"]
    with tools.serve(tools.gitea(), git.port):
        installation.tick()
    back = installation.health()
    assert (back["state"], back["cause"]) == ("healthy", "")
    assert back["since"] > gone["since"]


def test_a_probe_does_not_change_the_record(installation: Installation) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url, username="fuseml", password=CANARY)
        before, published = installation.record(), len(installation.registry.published.events)
        installation.tick()
    after = installation.record()
    assert installation.health()["state"] == installation.health("credentials")["state"] == "healthy"
    assert (after["revision"], after["status"]) == (before["revision"], before["status"])
    for part in (after["services"][0]["endpoints"][0], after["services"][0]["credentials"][0]):
        part["status"]["health"] = None
    assert after == before
    assert len(installation.registry.published.events) == published


def test_wrong_credentials_and_a_dead_endpoint_are_reported_apart(installation: Installation) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url, username="fuseml", password="old")
        installation.tick()
        wrong = installation.health("credentials")
        assert installation.health()["state"] == "healthy"
        assert (wrong["state"], wrong["cause"]) == (
            "unhealthy",
            f"the git host at {git.url} refuses these credentials; correct username and password, or token",
        )
        installation.put("/services/api/credentials/account", {"configuration": {"username": "fuseml", "password": CANARY}})
        installation.tick()
        right = installation.health("credentials")
        assert right["state"] == "healthy"
    installation.tick()
    assert installation.health()["state"] == "unhealthy"
    assert installation.health("credentials") == right, "a dead endpoint is no result for its credentials"


def test_an_s3_account_is_checked_with_the_region_of_its_service(installation: Installation) -> None:
    with tools.s3_server() as store:
        installation.register(store.url, resource="s3", **store.guest)
        installation.put("/services/api", {"configuration": {"AWS_DEFAULT_REGION": "eu-central-1"}})
        installation.tick()
        assert installation.health("credentials")["state"] == "healthy"
        assert ["/eu-central-1/s3/" in signature for signature in store.server.authorizations] == [True]


def test_a_recent_result_is_kept_until_the_record_changes(installation: Installation) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url, username="fuseml", password="old")
        installation.tick(interval=300)
        requests = len(git.requests)
        installation.tick(interval=300)
        assert len(git.requests) == requests
        installation.put("/services/api/credentials/account", {"configuration": {"username": "fuseml", "password": CANARY}})
        installation.tick(interval=300)
        assert [path for path, _ in git.requests[requests:]] == ["/api/v1/user"]
        assert installation.health("credentials")["state"] == "healthy"


def test_credentials_without_a_check_have_no_health_and_are_tried_only_with_their_endpoint(installation: Installation) -> None:
    checks: list[str] = []

    def check(resource: str, target: Target) -> str | None:
        checks.append("credentials" if target.credentials else "endpoint")
        return probes.check(resource, target)

    with tools.serve(tools.gitea()) as git:
        installation.register(git.url, resource="seldon-core-api", CLIENT_KEY=CANARY)
        installation.tick(interval=300, check=check)
        installation.tick(interval=300, check=check)
    assert checks == ["endpoint", "credentials"]
    assert installation.health()["state"] == "healthy"
    assert installation.health("credentials") is None


@pytest.mark.parametrize(
    ("url", "type", "zone", "own", "reachable"),
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
def test_only_reachable_endpoints_are_checked(
    url: str, type: str, zone: str, own: str, reachable: bool, installation: Installation
) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url.replace("http", url), type=type, zone=zone)
        installation.tick(zone=own)
        assert bool(git.requests) is reachable
    assert (installation.health() is not None) is reachable


def test_secrets_appear_in_no_message_log_or_stored_health(
    installation: Installation, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with tools.serve(tools.gitea(password="other")) as git:
        installation.register(f"http://ada:{CANARY}@127.0.0.1:{git.port}/", username=CANARY, password=CANARY)
        installation.tick()
        installation.put("/services/api/credentials/account", {"configuration": {"token": f"{CANARY}\n"}})
        installation.tick()
        assert "line break" in installation.health("credentials")["cause"]
        assert git.authorizations == [tools.basic(CANARY, CANARY)]
    installation.tick()
    health = [installation.health(collection) for collection in ("endpoints", "credentials")]
    assert {item["state"] for item in health} == {"unhealthy"}
    output = json.dumps(health) + caplog.text + "".join(capfd.readouterr())
    assert "tool/api/account is unhealthy now" in output
    assert CANARY not in output


def rotate(installation: Installation) -> None:
    installation.put("/services/api/credentials/account", {"configuration": {"username": "new", "password": "new"}})


def remove(installation: Installation) -> None:
    assert installation.registry.client.delete("/extensions/tool/services/api/credentials/account").status_code == 204


def describe(installation: Installation) -> None:
    installation.put("", {"description": "edited", "services": [{"id": "other", "resource": "s3"}]})


@pytest.mark.parametrize(("edit", "states"), [(rotate, ["unknown"]), (remove, []), (describe, ["unhealthy"])])
def test_an_edit_during_the_probes_is_not_overwritten(
    edit: Callable[[Installation], None], states: list[str], installation: Installation
) -> None:
    edited: list[dict[str, Any]] = []

    def check(_: str, target: Target) -> str | None:
        if not target.credentials:
            return None
        edit(installation)
        edited.append(installation.record())
        return "it is broken"

    installation.register("http://127.0.0.1:1", username="old", password="old")
    installation.tick(check=check)
    record = installation.record()
    [endpoint], credentials = record["services"][0]["endpoints"], record["services"][0]["credentials"]
    assert endpoint["status"]["health"]["state"] == "healthy"
    assert [(item["status"]["health"] or {"state": "unknown"})["state"] for item in credentials] == states
    for part in (endpoint, *credentials):
        part["status"]["health"] = None
    assert [record] == edited


def test_a_record_that_is_deleted_during_the_probes_stays_deleted(installation: Installation) -> None:
    def check(_resource: str, _target: Target) -> str | None:
        assert installation.registry.client.delete("/extensions/tool").status_code == 204
        return None

    installation.register("http://127.0.0.1:1")
    installation.tick(check=check)
    assert installation.registry.client.get("/extensions/tool").status_code == 404


def test_an_older_result_does_not_replace_a_newer_one(installation: Installation) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url)
        installation.tick()
        with installation.registry.store.read() as session:
            older = extensions.get(session, "tool")
        installation.tick()
        newer = installation.health()
    with installation.registry.store.write() as session:
        extensions.store_health(session, older)
    assert installation.health() == newer


def test_endpoints_are_checked_concurrently(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in range(1, 41)]
    service = {"id": "api", "endpoints": [{"url": url} for url in urls]}
    installation.registry.client.post("/extensions", json={"id": "tool", "services": [service]})

    # Nothing is answered before so many have been asked.
    together = threading.Barrier(8, timeout=PATIENCE)

    def answered_together(_resource: str, _target: Target) -> str | None:
        together.wait()
        return None

    monkeypatch.setattr("functions.housekeeper.health._SECONDS", PATIENCE)
    installation.tick(check=answered_together)
    assert {endpoint["status"]["health"]["state"] for endpoint in installation.record()["services"][0]["endpoints"]} == {"healthy"}


def test_the_least_recently_checked_endpoint_comes_first(installation: Installation) -> None:
    dead, alive = f"http://127.0.0.1:{closed_port()}", "http://127.0.0.1:1"
    installation.register(dead)
    installation.tick(check=lambda *_: None)
    installation.put("/services/api", {"endpoints": [{"url": alive}]})
    checked: list[str] = []

    def check(_: str, target: Target) -> str | None:
        checked.append(target.url)
        return None

    installation.tick(check=check)
    assert checked == [alive], "only the changed part is due"
    installation.tick(check=check)
    assert checked == [alive, dead, alive]


def row(installation: Installation, name: str = "tool") -> extension_rows.ExtensionRecord:
    with installation.registry.store.read() as session:
        found = session.get(extension_rows.ExtensionRecord, name)
        assert found is not None
        return found


def test_a_check_without_a_change_leaves_the_document_alone(installation: Installation) -> None:
    installation.register("http://127.0.0.1:1", username="ada", password=CANARY)
    installation.tick(check=lambda *_: None)
    first, document = installation.record(), row(installation).document
    installation.tick(check=lambda *_: None)
    assert row(installation).document == document
    seen = [installation.health(collection)["seen"] for collection in ("endpoints", "credentials")]
    assert min(seen) == max(seen) > first["services"][0]["endpoints"][0]["status"]["health"]["seen"]
    [listed] = installation.registry.client.get("/extensions").get_json()
    assert listed == installation.record()
    installation.tick(check=lambda *_: "it is broken")
    assert installation.health("credentials")["seen"] == seen[1], "credentials have no result without a healthy endpoint"
    assert (installation.health()["state"], installation.health()["cause"]) == ("unhealthy", "it is broken")


def test_a_tool_that_stays_dead_is_checked_less_often_until_its_record_changes(installation: Installation) -> None:
    installation.register("http://127.0.0.1:1")
    pauses: list[float] = []
    for _ in range(6):
        with installation.registry.store.write() as session:
            session.exec(sqlmodel.update(extension_rows.ExtensionRecord).values(check_due="2026"))
        before = clock.now()
        installation.tick(interval=1000, check=lambda *_: "it is broken")
        pauses.append(times.between(before, row(installation).check_due) / 1000)
    assert [round(pause) for pause in pauses[:2]] == [1, 2]
    assert 3.5 < pauses[-1] < 4.5
    installation.put("/services/api", {"endpoints": [{"url": "http://127.0.0.1:2"}]})
    assert (row(installation).check_due, row(installation).check_failures) == ("", 0)
    installation.tick(interval=1000, check=lambda *_: None)
    assert times.between(clock.now(), row(installation).check_due) < 1200


def test_a_tool_that_stays_dead_is_not_asked_until_it_answers(installation: Installation) -> None:
    def asked() -> list[str]:
        with installation.registry.store.read() as session:
            return list(extensions.answering(session, "mlflow-tracking"))

    installation.register("http://127.0.0.1:1", resource="mlflow-tracking")
    found = [asked()]
    for problem in ("it is broken", "it is broken", None):
        with installation.registry.store.write() as session:
            session.exec(sqlmodel.update(extension_rows.ExtensionRecord).values(check_due="2026"))
        installation.tick(check=lambda *_, problem=problem: problem)
        found.append(asked())
    assert found == [["tool"], ["tool"], [], ["tool"]]


def test_a_tick_checks_a_bounded_number_of_records(installation: Installation) -> None:
    count = 450
    with installation.registry.store.write() as session:
        for number in range(count):
            service = extension.Service(id="api", endpoints=(extension.Endpoint(url=f"http://127.0.0.1:{number + 1}"),))
            extensions.add(session, extension.Extension(id=f"tool-{number}", services=(service,)), clock.now())
    checked: collections.Counter[str] = collections.Counter()

    def check(_: str, target: Target) -> str | None:
        checked[target.url] += 1
        return "it is broken"

    for after in (200, 400, count, count):
        installation.tick(interval=1000, check=check)
        assert checked.total() == after
    assert set(checked.values()) == {1}


def test_a_tick_during_a_sweep_is_answered_at_once(installation: Installation) -> None:
    installation.register("http://127.0.0.1:1")
    begun, finish = threading.Event(), threading.Event()
    sweeping = threading.Lock()

    def check(_: str, target: Target) -> str | None:
        begun.set()
        assert finish.wait(PATIENCE)
        return None

    def never(_: str, target: Target) -> str | None:
        raise AssertionError("two sweeps at a time")

    first = threading.Thread(target=lambda: installation.tick(check=check, sweeping=sweeping))
    first.start()
    assert begun.wait(PATIENCE)
    installation.tick(check=never, sweeping=sweeping)
    finish.set()
    first.join()
    assert not sweeping.locked()


def test_the_command_shows_state_time_and_cause(installation: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tools.serve(tools.gitea()) as git:
        installation.register(git.url, username="fuseml", password="old")
        installation.tick()
    with extensions_app.serve(installation.registry.app) as url:
        assert main.run(["extension", "get", "tool"], {"FUSEML_SERVER_URL": url, "FUSEML_CONFIG": str(tmp_path / "none")}) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in lines if "HEALTH" in line] == [
        ["URL", "TYPE", "HEALTH", "SEEN"],
        ["ID", "SCOPE", "KEYS", "HEALTH"],
    ]
    assert any(git.url in line and " healthy " in line and " ago" in line for line in lines)
    assert any(" unhealthy " in line and "refuses these credentials" in line for line in lines)
