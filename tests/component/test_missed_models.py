"""Models whose webhook was lost: the sweep publishes each once, as its webhook would have, and an unreachable server delays no other."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
from werkzeug import Request, Response

from functions.housekeeper import models
from fuseml.domain import events, times
from fuseml.runtime import clock
from tests.component import gitea
from tests.component.ingress import NOW, TRACKER_SECRET, Ingress, delivery
from tests.component.test_health import Installation
from tests.waiting import PATIENCE


@dataclass
class FakeRegistry:
    """MLflow's search for model versions, with its pages: a token is a position in the current list."""

    versions: list[dict[str, Any]] = field(default_factory=list)
    authorization: str | None = None
    broken: int = 0
    delay: float = 0
    gate: threading.Event | None = None
    requests: int = 0

    def add(self, name: str, version: int, created: int) -> None:
        self.versions.append({"name": name, "version": str(version), "creation_timestamp": created, "source": f"s3://{name}"})

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        self.requests += 1
        time.sleep(self.delay)
        if self.gate is not None:
            self.gate.wait(PATIENCE)
        if self.broken or (self.authorization and request.headers.get("Authorization") != self.authorization):
            return Response("{}", self.broken or 401)(environ, start_response)
        assert (request.path, request.args["order_by"]) == ("/api/2.0/mlflow/model-versions/search", "creation_timestamp DESC")
        begin, size = int(request.args.get("page_token", 0)), int(request.args["max_results"])
        newest = sorted(self.versions, key=lambda item: -item["creation_timestamp"])
        answer: dict[str, Any] = {"model_versions": newest[begin : begin + size]} if newest else {}
        if begin + size < len(newest):
            answer["next_page_token"] = str(begin + size)
        return Response(json.dumps(answer), content_type="application/json")(environ, start_response)


class Sweeper:
    """A housekeeper with tracking servers."""

    def __init__(self, folder: Path) -> None:
        self.installation = Installation(folder)

    def register(self, id: str, url: str, **secrets: str) -> None:
        service: dict[str, Any] = {"id": "tracking", "resource": "mlflow-tracking", "endpoints": [{"url": url}]}
        if secrets:
            service["credentials"] = [{"id": "account", "configuration": secrets}]
        assert self.installation.registry.client.post("/extensions", json={"id": id, "services": [service]}).status_code == 201

    def sweep(self) -> list[str]:
        """Run one sweep. Returns the ids of its events."""
        published = self.installation.registry.published.events
        before = len(published)
        self.installation.tick(interval=10_000)
        return [event.id for event in published[before:] if event.type == events.ModelRegistered.TYPE]


@pytest.fixture
def sweeper(tmp_path: Path) -> Iterator[Sweeper]:
    under_test = Sweeper(tmp_path)
    yield under_test
    under_test.installation.registry.store.close()


@pytest.fixture
def fake(sweeper: Sweeper) -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    with gitea.listening(registry) as server:
        sweeper.register("mlflow", f"http://127.0.0.1:{server.port}")
        yield registry


def now() -> int:
    return int(times.unix(clock.now()) * 1000) + 1


def test_versions_of_one_moment_are_published_once_each_over_all_pages(sweeper: Sweeper, fake: FakeRegistry) -> None:
    moment = now()
    for number in range(250):
        fake.add("m", number + 1, moment)
    assert sorted(sweeper.sweep()) == sorted(f"model.registered:m/{number + 1}:registered" for number in range(250))
    assert sweeper.sweep() == []
    # Of the same moment, and of a little earlier: the server stored them late.
    fake.add("m", 251, moment)
    fake.add("late", 1, moment - 1)
    assert sorted(sweeper.sweep()) == ["model.registered:late/1:registered", "model.registered:m/251:registered"]
    assert sweeper.sweep() == []


def test_versions_older_than_the_record_are_not_published(sweeper: Sweeper, fake: FakeRegistry) -> None:
    fake.add("old", 1, now() - 60_000)
    fake.add("new", 1, now())
    assert sweeper.sweep() == ["model.registered:new/1:registered"]


def test_a_walk_stops_at_its_watermark(sweeper: Sweeper, fake: FakeRegistry) -> None:
    for number in range(1000):
        fake.add("old", number, now() - 10_000_000)
    sweeper.sweep()
    fake.requests = 0
    sweeper.sweep()
    assert fake.requests == 1


def test_a_walk_out_of_time_continues_with_the_next_tick(sweeper: Sweeper, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_SECONDS", PATIENCE)
    for number in range(700):
        fake.add("m", number, now() + number)
    fake.delay = 1.2
    first = sweeper.sweep()
    assert 0 < len(first) < 700
    # A version that is created meanwhile is published too.
    fake.delay = 0
    fake.add("m", 700, now() + 5000)
    everything = [*first, *sweeper.sweep(), *sweeper.sweep()]
    assert sorted(everything) == sorted({f"model.registered:m/{number}:registered" for number in range(701)})


def test_an_unreachable_or_refusing_server_delays_no_other(sweeper: Sweeper, fake: FakeRegistry) -> None:
    unresponsive, refusing = FakeRegistry(gate=threading.Event()), FakeRegistry(broken=403)
    assert unresponsive.gate is not None
    fake.add("m", 1, now())
    with gitea.listening(unresponsive) as slow, gitea.listening(refusing) as closed:
        sweeper.register("slow", f"http://127.0.0.1:{slow.port}")
        sweeper.register("closed", f"http://127.0.0.1:{closed.port}")
        sweeper.register("away", "http://127.0.0.1:9")
        assert sweeper.sweep() == ["model.registered:m/1:registered"]
        refusing.broken = 0
        refusing.add("n", 1, now())
        assert sweeper.sweep() == ["model.registered:n/1:registered"]
        unresponsive.gate.set()


@pytest.mark.parametrize(
    ("secrets", "authorization"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "x"}, urllib3.make_headers(basic_auth="ada:x")["authorization"]),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
    ],
)
def test_the_credentials_of_the_record_are_sent(sweeper: Sweeper, secrets: dict[str, str], authorization: str) -> None:
    registry = FakeRegistry(authorization=authorization)
    with gitea.listening(registry) as server:
        sweeper.register("mlflow", f"http://127.0.0.1:{server.port}", **secrets)
        registry.add("m", 1, now())
        assert sweeper.sweep() == ["model.registered:m/1:registered"]


def test_a_published_version_is_not_published_again_and_a_late_webhook_is_a_duplicate(tmp_path: Path) -> None:
    sweeper = Sweeper(tmp_path)
    installed = sweeper.installation.registry
    ingress = Ingress(installed.store, publisher=installed.published, keyring=installed.keyring)
    registry = FakeRegistry()
    ingress.now = NOW

    def webhook(version: int) -> str:
        data = {"name": "m", "version": str(version), "source": "s3://m"}
        envelope = {"entity": "model_version", "action": "created", "timestamp": clock.now(), "data": data}
        answer = ingress.take(delivery("mlflow", envelope, TRACKER_SECRET, id=f"d{version}"))
        assert answer.status_code == 202, answer.text
        return str(answer.json["event"])

    delivered = webhook(1)
    with gitea.listening(registry) as server:
        sweeper.register("mlflow", f"http://127.0.0.1:{server.port}")
        registry.add("m", 1, now())
        registry.add("m", 2, now())
        (missed,) = sweeper.sweep()
        assert (delivered, missed) == ("model.registered:m/1:registered", "model.registered:m/2:registered")
    sweeper.installation.registry.client.delete("/extensions/mlflow?force=true")
    sweeper.installation.registry.store.close()


def test_versions_of_a_real_mlflow_are_published_with_run_and_tags(sweeper: Sweeper, mlflow_server: str) -> None:
    sweeper.register("mlflow", mlflow_server)
    api = f"{mlflow_server}/api/2.0/mlflow"

    def post(path: str, **body: object) -> Any:
        answer = urllib3.request("POST", f"{api}{path}", json=body)
        assert answer.status == 200, answer.data
        return answer.json()

    tags = [{"key": "fuseml.run", "value": "train-1"}, {"key": "mlflow.user", "value": "ada"}]
    run = post("/runs/create", experiment_id="0", start_time=now(), tags=tags)["run"]["info"]["run_id"]
    name = f"missed-{now()}"
    post("/registered-models/create", name=name)
    for number in range(2):
        post("/model-versions/create", name=name, source=f"s3://bucket/{number}", run_id=run, tags=[{"key": "stage", "value": str(number)}])
    own = [f"model.registered:{name}/{number}:registered" for number in (1, 2)]
    assert [id for id in sweeper.sweep() if name in id] == own
    published = [event for event in sweeper.installation.registry.published.events if event.id == own[1]]
    assert published[0].data == {
        "extension": "mlflow",
        "name": name,
        "version": "2",
        "model_source": "s3://bucket/1",
        "run_id": run,
        "tags": {"fuseml.run": "train-1", "stage": "1"},
    }
    assert [id for id in sweeper.sweep() if name in id] == []
