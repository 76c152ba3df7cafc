"""Deleted artifacts stay deleted, whatever events report about them late, again, or in another order; on SQLite and PostgreSQL."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import sqlmodel

from fuseml.domain import events
from fuseml.runtime import catalog, clock
from fuseml.store import artifact_names, artifacts, database, runs
from fuseml.store.tables import decision_rows
from tests import event_keys
from tests.component import triggering
from tests.component.registered import DIGEST, NOON, OTHER, Registered, path

MODEL, DATASET, CODE = "model://demo/wine/1", "dataset://demo/scored/1", f"code://demo/wine/{'a' * 40}"
TAGS = {"fuseml.project": "demo", "fuseml.run": "train-1"}


def finished(run: str = "train-1", step: str = "fit", **outputs: str) -> events.Payload:
    return events.RunStepFinished(run=run, workflow="train", project="demo", step=step, state="succeeded", outputs=outputs)


REPORTS: dict[str, tuple[str, events.Payload]] = {
    "a step's model": (MODEL, finished(model="models:/wine/1")),
    "a step's dataset": (DATASET, finished(dataset=DATASET, uri="s3://b/scored", digest=DIGEST)),
    "a registration": (MODEL, events.ModelRegistered(extension="mlflow", name="wine", version="1", tags={**TAGS, "fuseml.digest": DIGEST})),
    "a push": (CODE, events.CodesetPushed(project="demo", codeset="wine", ref="refs/heads/main", commit="a" * 40)),
}
_deliveries = itertools.count()


def deliver(api: Registered, payload: events.Payload, *, again: bool = False) -> int:
    """The status of the answer. A report that comes `again` is an event of its own, such as the sweep's."""
    event = events.event(payload, NOON)
    if again:
        event = dataclasses.replace(event, id=f"{event.id}-{next(_deliveries)}")
    headers, body = event_keys.encode(event)
    return api.client.post(catalog.EVENTS, headers=headers, data=body).status_code


@pytest.mark.parametrize("report", REPORTS)
def test_no_report_of_an_artifact_brings_it_back(store: database.Database, report: str) -> None:
    api, (address, payload) = Registered(store), REPORTS[report]
    assert deliver(api, payload) == 200
    api.call("DELETE", path(address), status=204)
    for again in (False, True):
        deliver(api, payload, again=again)
        api.call("GET", path(address), status=404)
    api.published.clear()
    other = f"{address.rpartition('/')[0]}/{'b' * 40}"
    api.register(other, digest=OTHER)
    assert [event.subject for event in api.published] == [other], "another version is another artifact"


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_that_comes_after_registration_and_deletion_records_nothing(store: database.Database, report: str) -> None:
    api, (address, payload) = Registered(store), REPORTS[report]
    api.register(address)
    api.call("DELETE", path(address), status=204)
    assert deliver(api, payload) == 204
    api.call("GET", path(address), status=404)
    assert api.call("GET", path(address).replace("artifacts", "lineage"), status=404)


def test_a_digest_holds_through_deletions_without_one(store: database.Database) -> None:
    api = Registered(store)
    api.register(MODEL, digest=DIGEST)
    api.call("DELETE", path(MODEL), status=204)
    # As a release did that took an artifact without a digest for another one.
    with store.write() as session:
        row = artifacts.Artifact(address=MODEL, kind="model", project="demo", name="wine", version="1", created=NOON)
        session.add(row)
    api.call("DELETE", path(MODEL), status=204)
    for fields in ({"digest": OTHER}, {}):
        assert DIGEST in api.register(MODEL, status=409, **fields)["message"]
    assert api.register(MODEL, digest=DIGEST)["digest"] == DIGEST
    with store.read() as session:
        assert artifact_names.deleted_digest(session, MODEL) == DIGEST
        assert (artifact_names.deletion(session, MODEL) or pytest.fail()).digest is None


def test_a_later_run_makes_the_deleted_dataset_again_and_no_other_in_its_place(store: database.Database) -> None:
    api = Registered(store)
    deliver(api, finished(dataset=DATASET, uri="s3://b/scored", digest=DIGEST))
    api.call("DELETE", path(DATASET), status=204)
    with store.write() as session:
        first = runs.get(session, "train-1")
        later = runs.Run(**{**first.model_dump(), "id": "later", "name": "train-2", "sequence": 9, "created": clock.now()})
        runs.add(session, later, ["fit", "score"])
    assert deliver(api, finished("train-2", dataset=DATASET, uri="s3://b/scored", digest=OTHER)) == 204
    api.call("GET", path(DATASET), status=404)
    assert deliver(api, finished("train-2", "score", dataset=DATASET, uri="s3://b/scored", digest=DIGEST)) == 200
    assert api.call("GET", path(DATASET))["run"] == "train-2"


def test_a_tag_of_a_deleted_model_is_handled(store: database.Database) -> None:
    api = Registered(store)
    tagged = events.ModelTagged(extension="mlflow", name="wine", version="1", key="fuseml.digest", value=DIGEST, delivery="1")
    assert deliver(api, tagged) >= 500, "the registration is on its way"
    deliver(api, REPORTS["a step's model"][1])
    api.call("DELETE", path(MODEL), status=204)
    assert deliver(api, tagged) == 204
    other = tagged.model_copy(update={"name": "ine", "delivery": "2"})
    assert deliver(api, other) >= 500, "another model"


def test_a_late_event_of_a_deleted_model_starts_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = triggering.World(tmp_path_factory.mktemp("world"))
    world.workflow("name: serve\ninputs: [{name: it, type: model}]\non: {patterns: ['model://*']}\nsteps: [{name: s, image: 'i:1'}]")
    client = world.functions["artifacts"].test_client()
    assert client.post("/artifacts", json={"address": "model://p/wine/1", "location": "s3://b/wine"}).status_code == 201
    assert client.delete("/artifacts/model/p/wine/1").status_code == 204
    world.settle()
    assert world.get("/runs?workflow=serve") == []
    with world.store.read() as session:
        assert [row.reason for row in session.exec(sqlmodel.select(decision_rows.Decision))] == ["model://p/wine/1 was deleted"]
    world.store.close()
