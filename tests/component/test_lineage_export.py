"""The export of lineage: each event reaches a real server once, through its deaths and those of the sender, in order and valid."""

from __future__ import annotations

import collections
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from functions.housekeeper import deps as housekeeper_deps
from functions.housekeeper import lineage as export
from functions.housekeeper import service
from fuseml.domain import errors, events
from fuseml.exports import openlineage
from fuseml.runtime import clock
from fuseml.store import artifacts, database, lineage, lineage_exports, outbox, runs, watermarks
from tests import commands, openlineage_schemas
from tests.component import archiving
from tests.component.lineage_receiver import Receiver

MODEL, CODE = "model://p/wine/1", f"code://p/wine/{'a' * 40}"
TYPES = ["WORKFLOW/START", "STEP/START", "STEP/COMPLETE", "STEP/START", "STEP/FAIL", "WORKFLOW/FAIL"]


@pytest.fixture
def receiver(tmp_path: pathlib.Path) -> Iterator[Receiver]:
    receiver = Receiver(tmp_path)
    receiver.start()
    yield receiver
    receiver.kill()


class Exporting:
    """A housekeeper that exports to the receiver. The export was switched on long ago."""

    def __init__(self, store: database.Database, folder: pathlib.Path, url: str, **options: Any) -> None:
        self.store = store
        self.installation = archiving.Installation(store, folder)
        options = {"lineage": openlineage.Receiver(url, "canary"), "lineage_pause": 0.0, "public_url": "http://fuseml", **options}
        self.deps: housekeeper_deps.Deps = self.installation.housekeeper(**options)
        with store.write() as session:
            watermarks.move(session, "openlineage", "2000-01-01T00:00:00.000000Z")

    def run(self, name: str, *, age: float = 120) -> None:
        """A failed run, whose first step has made a model."""
        self.installation.run(name, "failed", clock.ago(age), fit="succeeded", check="failed")
        with self.store.write() as session:
            row = artifacts.Artifact(
                address=f"model://p/wine/{name}",
                kind="model",
                project="p",
                name="wine",
                version=name,
                run=name,
                step="fit",
                digest=f"sha256:{'1' * 64}",
                created=clock.now(),
            )
            artifacts.record(session, row, {"r2": 0.5})
            lineage.link(session, CODE, row.address, name, "fit")

    def tick(self) -> None:
        export.send_lineage(self.deps, archiving.TICK)


def types(found: list[dict[str, Any]]) -> list[str]:
    return [f"{event['job']['facets']['jobType']['jobType']}/{event['eventType']}" for event in found]


def identity(event: dict[str, Any]) -> tuple[str, str]:
    return event["run"]["runId"], event["eventType"]


def test_each_event_of_a_run_is_sent_once_with_the_token_and_is_valid(
    store: database.Database, tmp_path: pathlib.Path, receiver: Receiver
) -> None:
    exporting = Exporting(store, tmp_path, receiver.url)
    exporting.run("w-1")
    exporting.run("w-2")
    for _ in range(3):
        exporting.tick()
    found = receiver.accepted()
    assert types(found) == TYPES * 2
    for event in found:
        openlineage_schemas.check(event)
    assert {(item["path"], item["authorization"]) for item in receiver.received()} == {("/api/v1/lineage", "Bearer canary")}
    assert "canary" not in str(found) + repr(exporting.deps.lineage)
    [fit] = [event for event in found if event["outputs"] and event["job"]["name"].endswith(".fit") and "w-1" in str(event)]
    assert fit["outputs"][0]["facets"]["fuseml_artifact"]["address"] == "model://p/wine/w-1"
    assert fit["job"]["facets"]["lineage"]["entries"][0]["inputs"] == [{"namespace": "code://p", "name": "wine", "type": "DATASET"}]


def test_the_receiver_dies_and_nothing_is_lost_or_doubled(store: database.Database, tmp_path: pathlib.Path, receiver: Receiver) -> None:
    exporting = Exporting(store, tmp_path, receiver.url)
    exporting.run("w-1")
    exporting.tick()
    receiver.kill()
    exporting.run("w-2")
    for _ in range(3):
        with pytest.raises(errors.TemporaryError, match="does not answer"):
            exporting.tick()
    receiver.start()
    receiver.answers({"STEP/FAIL": 503})
    with pytest.raises(errors.TemporaryError, match="503"):
        exporting.tick()
    receiver.kill()
    receiver.answers()
    receiver.start()
    exporting.tick()
    assert types(receiver.accepted()) == TYPES * 2
    assert set(collections.Counter(map(identity, receiver.accepted())).values()) == {1}


SENDER = """
import os, pathlib, signal, sys
from tests.component import test_lineage_export as tested
from fuseml.store import database
from fuseml.exports import openlineage

class Dying(openlineage.Receiver):
    left = int(sys.argv[4])
    def send(self, event):
        super().send(event)
        Dying.left -= 1
        if not Dying.left:
            os.kill(os.getpid(), signal.SIGKILL)

url = sys.argv[3]
tested.Exporting(database.Database(sys.argv[1]), pathlib.Path(sys.argv[2]), url, lineage=Dying(url)).tick()
"""


def test_the_sender_dies_after_each_event_and_sends_the_same_one_again(
    store: database.Database, database_url: str, tmp_path: pathlib.Path, receiver: Receiver
) -> None:
    exporting = Exporting(store, tmp_path, receiver.url)
    exporting.run("w-1")
    for number in (1, 2, 3):
        commands.python(SENDER, database_url, tmp_path, receiver.url, str(number), code=-9)
    exporting.tick()
    found = receiver.accepted()
    # Each death repeats the event that was accepted and not recorded, with exactly its content.
    repeated = collections.Counter(map(str, found))
    assert len(repeated) == len(set(map(identity, found))) == len(TYPES)
    assert sum(repeated.values()) == len(TYPES) + 3
    assert types(list({identity(event): event for event in found}.values())) == TYPES


def test_a_refused_event_is_given_up_and_the_others_go_on(
    sqlite_store: database.Database, tmp_path: pathlib.Path, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers({"STEP/COMPLETE": 422})
    exporting = Exporting(sqlite_store, tmp_path, receiver.url)
    exporting.run("w-1")
    exporting.tick()
    exporting.run("w-2")
    exporting.tick()
    assert types(receiver.accepted()) == ["WORKFLOW/START", "STEP/START"] * 2, "each run waits for its own event only"
    with caplog.at_level(logging.WARNING):
        for _ in range(6):
            exporting.tick()
    assert types(receiver.accepted()).count("WORKFLOW/FAIL") == 2
    assert "STEP/COMPLETE" not in types(receiver.accepted())
    assert caplog.messages == [
        f"the event step/fit/END of run {run} is not exported: the OpenLineage endpoint {receiver.url} refuses the event with status 422"
        for run in ("w-1", "w-2")
    ]
    requests = len(receiver.received())
    exporting.tick()
    assert len(receiver.received()) == requests


@pytest.mark.parametrize("status", [307, 401, 404, 429, 500])
def test_a_wrong_or_overloaded_endpoint_gets_one_event_after_each_pause(
    sqlite_store: database.Database, tmp_path: pathlib.Path, receiver: Receiver, status: int
) -> None:
    receiver.answers({"WORKFLOW/START": status})
    exporting = Exporting(sqlite_store, tmp_path, receiver.url, lineage_pause=3600.0)
    exporting.run("w-1")
    exporting.run("w-2")
    with pytest.raises(errors.TemporaryError, match=str(status)):
        exporting.tick()
    for _ in range(3):
        exporting.tick()
    assert len(receiver.received()) == 1
    waiting = Exporting(sqlite_store, tmp_path, receiver.url)
    receiver.answers()
    with sqlite_store.write() as session:
        row = session.get_one(watermarks.watermark_rows.Watermark, "openlineage attempt")
        row.moment = clock.now()
    waiting.tick()
    assert types(receiver.accepted()) == TYPES * 2


def test_a_dead_endpoint_stops_no_other_repair(sqlite_store: database.Database, tmp_path: pathlib.Path, receiver: Receiver) -> None:
    receiver.kill()
    exporting = Exporting(sqlite_store, tmp_path, receiver.url)
    exporting.run("w-1")
    service.sweep(exporting.deps, archiving.TICK)
    with sqlite_store.read() as session:
        assert all(step.archived for step in runs.steps(session, ["id-w-1"]))
    receiver.start()
    service.sweep(exporting.deps, archiving.TICK)
    assert types(receiver.accepted()) == TYPES


def test_the_end_of_a_step_is_sent_with_its_lineage_once_its_artifacts_are_recorded(
    store: database.Database, tmp_path: pathlib.Path, receiver: Receiver
) -> None:
    exporting = Exporting(store, tmp_path, receiver.url)
    exporting.installation.run("w-1", "running", clock.now(), fit="succeeded", check="running")
    exporting.tick()
    assert types(receiver.accepted()) == ["WORKFLOW/START", "STEP/START", "STEP/START"]
    finished = events.RunStepFinished(run="w-1", workflow="w", project="p", step="fit", state="succeeded")
    with store.write() as session:
        outbox.record_handled(session, "artifacts", events.event(finished, ""), None, clock.now())
    exporting.tick()
    assert types(receiver.accepted())[3:] == ["STEP/COMPLETE"]


def test_nothing_is_exported_unless_it_is_configured_and_no_run_from_before(
    sqlite_store: database.Database, tmp_path: pathlib.Path, receiver: Receiver
) -> None:
    installation = archiving.Installation(sqlite_store, tmp_path)
    installation.run("w-1", "succeeded", clock.ago(120), fit="succeeded")
    service.sweep(installation.housekeeper(), archiving.TICK)
    with sqlite_store.read() as session:
        assert lineage_exports.fresh(session, "2000", 10) == [("id-w-1", 1)]
    switched_on = installation.housekeeper(lineage=openlineage.Receiver(receiver.url), public_url="http://fuseml")
    export.send_lineage(switched_on, archiving.TICK)
    installation.run("w-2", "running", fit="running")
    export.send_lineage(switched_on, archiving.TICK)
    assert {event["run"]["facets"].get("fuseml_run", {}).get("name", "w-2") for event in receiver.accepted()} == {"w-2"}
    assert types(receiver.accepted()) == ["WORKFLOW/START", "STEP/START"]


@pytest.mark.parametrize(
    ("url", "token"),
    [("ftp://host", ""), ("host:80", ""), ("http://ada:canary@host", ""), ("http://host?x=canary", ""), ("http://host", "canary\n")],
)
def test_a_wrong_setting_is_refused_without_its_secret(url: str, token: str) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_OPENLINEAGE") as caught:
        openlineage.Receiver(url, token)
    assert "ada" not in caught.value.message and (not token or "canary" not in caught.value.message)
