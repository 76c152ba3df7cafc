"""Models whose webhook was lost: the sweep tells them once, as the webhook would have, and nobody waits for a server that is away."""

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
from tests.component.test_health import House
from tests.waiting import PATIENCE


@dataclass
class FakeRegistry:
    """MLflow's search for model versions, with pages as it makes them: a token is a position in the list as it is then."""

    versions: list[dict[str, Any]] = field(default_factory=list)
    authorization: str | None = None
    broken: int = 0
    delay: float = 0
    gate: threading.Event | None = None
    asked: int = 0

    def add(self, name: str, version: int, created: int) -> None:
        self.versions.append({"name": name, "version": str(version), "creation_timestamp": created, "source": f"s3://{name}"})

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        self.asked += 1
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


class Swept:
    """A housekeeper with tracking servers."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)

    def register(self, id: str, url: str, **secrets: str) -> None:
        service: dict[str, Any] = {"id": "tracking", "resource": "mlflow-tracking", "endpoints": [{"url": url}]}
        if secrets:
            service["credentials"] = [{"id": "account", "configuration": secrets}]
        assert self.house.registry.client.post("/extensions", json={"id": id, "services": [service]}).status_code == 201

    def told(self) -> list[str]:
        """What one more sweep tells."""
        published = self.house.registry.published.events
        before = len(published)
        self.house.tick(interval=10_000)
        return [event.id for event in published[before:] if event.type == events.ModelRegistered.TYPE]


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Swept]:
    made = Swept(tmp_path)
    yield made
    made.house.registry.store.close()


@pytest.fixture
def fake(swept: Swept) -> Iterator[FakeRegistry]:
    registry = FakeRegistry()
    with gitea.listening(registry) as server:
        swept.register("mlflow", f"http://127.0.0.1:{server.port}")
        yield registry


def now() -> int:
    return int(times.unix(clock.now()) * 1000) + 1


def test_versions_of_one_moment_are_told_once_each_over_all_pages(swept: Swept, fake: FakeRegistry) -> None:
    moment = now()
    for number in range(250):
        fake.add("m", number + 1, moment)
    assert sorted(swept.told()) == sorted(f"model.registered:m/{number + 1}:registered" for number in range(250))
    assert swept.told() == []
    # At the same moment still, and a little before: the server wrote them down late.
    fake.add("m", 251, moment)
    fake.add("late", 1, moment - 1)
    assert sorted(swept.told()) == ["model.registered:late/1:registered", "model.registered:m/251:registered"]
    assert swept.told() == []


def test_versions_older_than_the_record_are_not_told(swept: Swept, fake: FakeRegistry) -> None:
    fake.add("old", 1, now() - 60_000)
    fake.add("new", 1, now())
    assert swept.told() == ["model.registered:new/1:registered"]


def test_a_reading_goes_no_further_down_than_it_must(swept: Swept, fake: FakeRegistry) -> None:
    for number in range(1000):
        fake.add("old", number, now() - 10_000_000)
    swept.told()
    fake.asked = 0
    swept.told()
    assert fake.asked == 1


def test_a_walk_that_takes_too_long_goes_on_where_it_was(swept: Swept, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_SECONDS", PATIENCE)
    for number in range(700):
        fake.add("m", number, now() + number)
    fake.delay = 1.2
    first = swept.told()
    assert 0 < len(first) < 700
    # What is new meanwhile is not lost either.
    fake.delay = 0
    fake.add("m", 700, now() + 5000)
    everything = [*first, *swept.told(), *swept.told()]
    assert sorted(everything) == sorted({f"model.registered:m/{number}:registered" for number in range(701)})


def test_a_server_that_is_away_or_refuses_delays_nobody(swept: Swept, fake: FakeRegistry) -> None:
    hanging, refusing = FakeRegistry(gate=threading.Event()), FakeRegistry(broken=403)
    assert hanging.gate is not None
    fake.add("m", 1, now())
    with gitea.listening(hanging) as slow, gitea.listening(refusing) as closed:
        swept.register("slow", f"http://127.0.0.1:{slow.port}")
        swept.register("closed", f"http://127.0.0.1:{closed.port}")
        swept.register("away", "http://127.0.0.1:9")
        assert swept.told() == ["model.registered:m/1:registered"]
        refusing.broken = 0
        refusing.add("n", 1, now())
        assert swept.told() == ["model.registered:n/1:registered"]
        hanging.gate.set()


@pytest.mark.parametrize(
    ("secrets", "authorization"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "x"}, urllib3.make_headers(basic_auth="ada:x")["authorization"]),
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
    ],
)
def test_a_server_that_wants_credentials_gets_those_of_its_record(swept: Swept, secrets: dict[str, str], authorization: str) -> None:
    registry = FakeRegistry(authorization=authorization)
    with gitea.listening(registry) as server:
        swept.register("mlflow", f"http://127.0.0.1:{server.port}", **secrets)
        registry.add("m", 1, now())
        assert swept.told() == ["model.registered:m/1:registered"]


def test_what_a_webhook_told_is_not_told_again_and_a_late_webhook_is_the_same_event(tmp_path: Path) -> None:
    swept = Swept(tmp_path)
    ingress = Ingress(swept.house.registry.store, publisher=swept.house.registry.published, keyring=swept.house.registry.keyring)  # type: ignore[arg-type]
    registry = FakeRegistry()
    ingress.now = NOW

    def webhook(version: int) -> str:
        data = {"name": "m", "version": str(version), "source": "s3://m"}
        envelope = {"entity": "model_version", "action": "created", "timestamp": clock.now(), "data": data}
        answer = ingress.take(delivery("mlflow", envelope, TRACKER_SECRET, id=f"d{version}"))
        assert answer.status_code == 202, answer.text
        return str(answer.json["event"])

    told = webhook(1)
    with gitea.listening(registry) as server:
        swept.register("mlflow", f"http://127.0.0.1:{server.port}")
        registry.add("m", 1, now())
        registry.add("m", 2, now())
        (missed,) = swept.told()
        assert (told, missed) == ("model.registered:m/1:registered", "model.registered:m/2:registered")
    swept.house.registry.client.delete("/extensions/mlflow?force=true")
    swept.house.registry.store.close()


def test_a_real_mlflow_is_compared_with_run_and_tags(swept: Swept, mlflow_server: str) -> None:
    swept.register("mlflow", mlflow_server)
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
    assert [id for id in swept.told() if name in id] == own
    told = [event for event in swept.house.registry.published.events if event.id == own[1]]
    assert told[0].data == {
        "extension": "mlflow",
        "name": name,
        "version": "2",
        "model_source": "s3://bucket/1",
        "run_id": run,
        "tags": {"fuseml.run": "train-1", "stage": "1"},
    }
    assert [id for id in swept.told() if name in id] == []
