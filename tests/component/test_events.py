"""The ledger over HTTP, dead letters in Knative's form, and replay with either broker."""

from __future__ import annotations

import base64
import urllib.parse
from typing import Any

import pytest

from functions.events import app as events_app
from functions.events import deps as events_deps
from functions.events import recording
from fuseml.domain import events
from fuseml.runtime import auth, catalog, cloudevents
from fuseml.store import database, deliveries, outbox
from fuseml.store.tables import outbox_rows
from tests import event_keys
from tests.component import endpoint

ADMIN = {"Authorization": "Bearer admin"}
MODEL = events.event(
    events.ArtifactRecorded(address="model://demo/m/1", kind="model", project="demo", name="m", version="1"), "2026-11-21T12:00:00.000000Z"
)
TICK = events.Event(events.TICK, "/ping", "tick-1", None, "2026-11-21T12:00:01.000000Z", {})
CANCEL = events.event(events.RunCancelRequested(run="w-1", reason="no"), "2026-11-21T12:00:02.000000Z")


@pytest.fixture
def publisher() -> endpoint.Publisher:
    return endpoint.Publisher()


def client_of(store: database.Database, publisher: endpoint.Publisher, *, queued: bool) -> Any:
    callers = {auth.digest_of("admin"): auth.Caller("admin", "admin")}
    deps = events_deps.Deps(store=store, publisher=publisher, signer=event_keys.SIGNER, tokens=auth.Tokens(callers), queued=queued)
    return events_app.create_app(deps).test_client()


@pytest.fixture
def embedded(store: database.Database, publisher: endpoint.Publisher) -> Any:
    return client_of(store, publisher, queued=True)


@pytest.fixture
def knative(store: database.Database, publisher: endpoint.Publisher) -> Any:
    return client_of(store, publisher, queued=False)


def accept(store: database.Database, event: events.Event, *consumers: str, received: str = "") -> None:
    with store.write() as session:
        assert deliveries.accept(session, event, consumers, received or event.time, 0)


def settle(store: database.Database, consumer: str, state: str, error: str | None = None) -> None:
    with store.write() as session:
        for due in deliveries.due(session, consumer, 1e12, 9, []):
            deliveries.settle(session, due, state=state, due=0, error=error)


def get(client: Any, path: str, status: int = 200) -> Any:
    answer = client.get(path, headers=ADMIN)
    assert answer.status_code == status, answer.json
    return answer.json


def post(client: Any, path: str, status: int = 202, body: Any = None) -> Any:
    answer = client.post(path, headers=ADMIN, json=body)
    assert answer.status_code == status, answer.json
    return answer.json


def quoted(id: str) -> str:
    return urllib.parse.quote(urllib.parse.quote(id, safe=""), safe="")


def test_events_are_listed_newest_first_with_their_deliveries(store: database.Database, embedded: Any) -> None:
    accept(store, MODEL, "dispatcher")
    accept(store, TICK, "housekeeper")
    accept(store, CANCEL, "dispatcher", "other")
    settle(store, "other", "dead", "status 400: no")
    listed = get(embedded, "/events")
    assert [(item["number"], item["type"], item["outcome"]) for item in listed] == [(3, CANCEL.type, "dead"), (1, MODEL.type, "pending")]
    assert listed[0]["deliveries"] == [
        {"consumer": "dispatcher", "state": "pending", "attempts": 0, "error": None},
        {"consumer": "other", "state": "dead", "attempts": 1, "error": "status 400: no"},
    ]
    assert "data" not in listed[0]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("type=run.cancel_requested", [3]),
        ("type=org.fuseml.artifact.recorded.v1", [1]),
        ("type=run.*", [3]),
        ("type=org.fuseml.*", [3, 1]),
        (f"type={events.TICK}", [2]),
        ("type=%25", []),
        ("subject=model://demo/m/1", [1]),
        ("source=/artifacts", [1]),
        ("since=2026-11-21T12:00:02Z", [3]),
        ("since=2026-11-21T14:00:02%2B02:00", [3]),
        ("since=2026-11-21T12:00:00Z&type=run.*", [3]),
    ],
)
def test_lists_are_filtered(query: str, numbers: list[int], store: database.Database, embedded: Any) -> None:
    for event in (MODEL, TICK, CANCEL):
        accept(store, event)
    assert [item["number"] for item in get(embedded, f"/events?{query}")] == numbers


def test_a_time_without_a_zone_is_refused(embedded: Any) -> None:
    assert "since" in get(embedded, "/events?since=2026-11-21T12:00:00", 400)["message"]


def test_lists_come_in_pages(store: database.Database, embedded: Any) -> None:
    for number in range(5):
        accept(store, events.Event("x", "/s", f"e{number}", None, MODEL.time, {}))
    first = embedded.get("/events?limit=3", headers=ADMIN)
    assert [item["id"] for item in first.json] == ["e4", "e3", "e2"]
    following = first.headers["Link"].partition("<")[2].partition(">")[0].removeprefix("http://localhost")
    assert [item["id"] for item in get(embedded, following)] == ["e1", "e0"]


def test_an_event_is_found_by_an_id_with_slashes_and_by_its_number(store: database.Database, embedded: Any) -> None:
    accept(store, MODEL)
    assert "//" in MODEL.id
    for path in (f"/events/{quoted(MODEL.id)}", "/events/1", f"/events/{quoted(MODEL.id)}?source=/artifacts"):
        event = get(embedded, path)
        assert (event["id"], event["data"], event["number"]) == (MODEL.id, MODEL.data, 1)
    assert "there is no event 'nothing'" in get(embedded, "/events/nothing", 404)["message"]
    assert "there is no event '1' of /x" in get(embedded, "/events/1?source=/x", 404)["message"]
    get(embedded, "/events/99999999999999999999999", 404)


def test_an_id_of_two_sources_is_ambiguous_until_one_is_named(store: database.Database, embedded: Any) -> None:
    for source in ("/b", "/a"):
        accept(store, events.Event("x", source, "same", None, MODEL.time, {"from": source}))
    refused = get(embedded, "/events/same", 409)
    assert refused["message"] == "2 events have the id 'same'; give the source of one of them: /a, /b"
    assert get(embedded, "/events/same?source=/b")["data"] == {"from": "/b"}
    post(embedded, "/events/same/replay", 409)


def test_the_token_of_a_step_may_neither_read_nor_send_events(embedded: Any) -> None:
    step = {"Authorization": f"Bearer {auth.STEP_PREFIX}x"}
    assert embedded.get("/events", headers=step).status_code == 403
    assert embedded.post("/events", headers=step, json={"type": "run.started"}).status_code == 403
    assert embedded.get("/events").status_code == 401


# Replay


def dead_letter(store: database.Database) -> None:
    accept(store, CANCEL, "dispatcher", "artifacts")
    settle(store, "artifacts", "done")
    settle(store, "dispatcher", "dead", "status 400: there is no run named 'w-1'")


def test_a_dead_letter_is_shown_with_its_cause_and_delivered_again(
    store: database.Database, embedded: Any, publisher: endpoint.Publisher
) -> None:
    dead_letter(store)
    accept(store, MODEL, "dispatcher")
    [letter] = get(embedded, "/events/dead-letters")
    assert (letter["number"], letter["outcome"]) == (1, "dead")
    replayed = post(embedded, f"/events/{quoted(CANCEL.id)}/replay")
    assert replayed["outcome"] == "pending"
    assert [(item["consumer"], item["state"], item["attempts"], item["error"]) for item in replayed["deliveries"]] == [
        ("artifacts", "done", 1, None),
        ("dispatcher", "pending", 0, None),
    ]
    assert publisher.events == [CANCEL]
    with store.read() as session:
        assert [due.event for due in deliveries.due(session, "dispatcher", 1e12, 9, [])] == [MODEL, CANCEL]
    assert get(embedded, "/events/dead-letters") == []
    # It fails again, with another cause.
    settle(store, "dispatcher", "dead", "status 400: something else")
    [letter] = get(embedded, "/events/dead-letters?type=run.*")
    assert [item["error"] for item in letter["deliveries"] if item["state"] == "dead"] == ["status 400: something else"]


def test_an_event_without_a_dead_letter_is_replayed_only_with_all(
    store: database.Database, embedded: Any, publisher: endpoint.Publisher
) -> None:
    dead_letter(store)
    post(embedded, "/events/1/replay")
    refused = post(embedded, "/events/1/replay", 409)
    assert refused["message"] == ("event 1 is no dead letter (artifacts: done, dispatcher: pending); --all delivers it again anyway")
    assert len(publisher.events) == 1
    replayed = post(embedded, "/events/1/replay?all=true")
    assert {item["state"] for item in replayed["deliveries"]} == {"pending"}


def test_a_dropped_dead_letter_leaves_the_list_and_stays_in_the_ledger(store: database.Database, embedded: Any) -> None:
    dead_letter(store)
    path = f"/events/dead-letters/{quoted(CANCEL.id)}"
    dropped = embedded.delete(path, headers=ADMIN)
    assert (dropped.status_code, dropped.json["outcome"]) == (200, "dropped")
    assert get(embedded, "/events/dead-letters") == []
    assert embedded.delete(path, headers=ADMIN).status_code == 409
    post(embedded, "/events/1/replay", 409)
    assert get(embedded, "/events/1")["deliveries"][1]["error"] == "status 400: there is no run named 'w-1'"


# Knative


def deliver(client: Any, path: str, event: events.Event, **extensions: str) -> None:
    headers, body = event_keys.encode(event)
    answer = client.post(path, headers={**headers, **{f"ce-{name}": value for name, value in extensions.items()}}, data=body)
    assert (answer.status_code, answer.data) == (204, b"")


def deliver_dead_letter(client: Any, event: events.Event, cause: str, uid: str = "5d0a") -> None:
    deliver(
        client,
        catalog.DEAD_LETTERS,
        event,
        knativeerrordest=f"http://broker-filter.knative-eventing.svc.cluster.local/triggers/fuseml/dispatcher/{uid}",
        knativeerrorcode="400",
        knativeerrordata=base64.b64encode(cause.encode()).decode(),
    )


def test_every_event_is_recorded_once_without_validation(store: database.Database, knative: Any) -> None:
    broken = events.Event(CANCEL.type, "/s", "broken", None, CANCEL.time, {"unreadable": True}, {"causesource": "/x"})
    for event in (MODEL, MODEL, broken):
        deliver(knative, catalog.EVENTS, event)
    listed = get(knative, "/events")
    assert [(item["id"], item["outcome"], item["deliveries"]) for item in listed] == [("broken", "", []), (MODEL.id, "", [])]
    assert get(knative, "/events/broken")["extensions"] == {"causesource": "/x"}
    assert endpoint.count(store, outbox_rows.HandledEvent) == 0


def test_a_handled_event_is_read_from_the_records_of_the_consumers(store: database.Database, knative: Any) -> None:
    deliver(knative, catalog.EVENTS, MODEL)
    with store.write() as session:
        outbox.record_handled(session, "run_tracker", MODEL, None, MODEL.time)
        outbox.record_handled(session, "run_tracker", CANCEL, None, MODEL.time)
    [item] = get(knative, "/events")
    assert item["deliveries"] == [{"consumer": "run-tracker", "state": "done", "attempts": 0, "error": None}]
    assert item["outcome"] == "done"


def test_a_delivery_that_knative_gives_up_is_a_dead_letter_with_its_cause(store: database.Database, knative: Any) -> None:
    deliver_dead_letter(knative, CANCEL, "there is no run named 'w-1'\n")
    [letter] = get(knative, "/events/dead-letters")
    assert letter["deliveries"] == [
        {"consumer": "dispatcher", "state": "dead", "attempts": 0, "error": "status 400: there is no run named 'w-1'"}
    ]
    # The ledger has the event once, also when it comes after its dead letter.
    deliver(knative, catalog.EVENTS, CANCEL)
    assert get(knative, "/events/1")["extensions"] == {}
    assert len(get(knative, "/events")) == 1


def test_a_replay_publishes_the_event_again_and_a_new_failure_has_a_new_cause(
    store: database.Database, knative: Any, publisher: endpoint.Publisher
) -> None:
    deliver_dead_letter(knative, CANCEL, "first")
    replayed = post(knative, "/events/1/replay")
    assert (replayed["outcome"], publisher.events) == ("", [CANCEL])
    post(knative, "/events/1/replay", 409)
    deliver_dead_letter(knative, CANCEL, "second")
    deliver_dead_letter(knative, CANCEL, "second")
    [letter] = get(knative, "/events/dead-letters")
    assert [item["error"] for item in letter["deliveries"]] == ["status 400: second"]
    post(knative, "/events/1/replay?all=true")
    assert post(knative, "/events/1/replay?all=true")["outcome"] == ""
    assert publisher.events == [CANCEL] * 3


def test_a_replay_while_the_broker_is_unreachable_stays_in_the_outbox(
    store: database.Database, knative: Any, publisher: endpoint.Publisher
) -> None:
    deliver_dead_letter(knative, CANCEL, "first")
    publisher.up = False
    post(knative, "/events/1/replay")
    publisher.up = True
    assert cloudevents.sweep(store, publisher, "2999-01-01T00:00:00.000000Z") == 1
    assert publisher.events == [CANCEL]


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        ("http://broker-filter.knative-eventing.svc.cluster.local/triggers/fuseml/run-tracker/5d0a-1", "run-tracker"),
        ("http://dispatcher.fuseml.svc.cluster.local", "dispatcher"),
        ("http://dispatcher.fuseml.svc.cluster.local:8080/", "dispatcher"),
        ("", "unknown"),
    ],
)
def test_the_consumer_is_read_from_the_address(destination: str, name: str) -> None:
    assert recording.consumer(destination) == name


@pytest.mark.parametrize(
    ("extensions", "error"),
    [
        ({}, "no cause reported"),
        ({"knativeerrorcode": "503"}, "status 503"),
        ({"knativeerrordata": "plain, as older channels send it"}, "plain, as older channels send it"),
        ({"knativeerrordata": base64.b64encode(b"cut off here").decode()[:-2]}, "cut off h"),
    ],
)
def test_the_cause_is_made_of_the_reported_parts(extensions: dict[str, str], error: str, knative: Any) -> None:
    deliver(knative, catalog.DEAD_LETTERS, CANCEL, **extensions)
    [letter] = get(knative, "/events/dead-letters")
    assert [item["error"] for item in letter["deliveries"]] == [error]


def test_an_invalid_event_is_refused(knative: Any) -> None:
    for path in (catalog.EVENTS, catalog.DEAD_LETTERS):
        assert knative.post(path, data=b"x").status_code == 400


# Sending


def test_an_event_is_sent_with_an_id_that_is_derived_from_its_data(
    store: database.Database, embedded: Any, publisher: endpoint.Publisher
) -> None:
    sent = post(embedded, "/events", body={"type": "run.cancel_requested", "data": {"run": "w-1", "reason": "enough"}})
    [event] = publisher.events
    assert (event.type, event.source, event.data["reason"]) == (CANCEL.type, "/runs/w-1", "enough")
    assert sent == {"type": event.type, "source": event.source, "id": event.id, "subject": "w-1", "duplicate": False}
    assert event.cause == ("/events", "send")


def test_an_event_with_the_same_data_is_a_duplicate_unless_it_gets_another_id(store: database.Database, embedded: Any) -> None:
    accept(store, MODEL)
    body = {"type": MODEL.type, "data": MODEL.data}
    assert post(embedded, "/events", body=body)["duplicate"] is True
    again = post(embedded, "/events", body={**body, "id": "again"})
    assert (again["id"], again["duplicate"]) == ("again", False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "run.exploded"}, "'run.exploded' is not a type of FuseML's events; they are artifact.deleted, "),
        ({"type": "run.finished", "data": {"run": "w-1"}}, "data of org.fuseml.run.finished.v1 is not valid"),
        ({"data": {}}, "type"),
        ({"type": "run.started", "dta": {}}, "dta"),
    ],
)
def test_an_event_of_another_type_or_shape_is_not_sent(body: Any, message: str, embedded: Any, publisher: endpoint.Publisher) -> None:
    assert message in post(embedded, "/events", 400, body=body)["message"]
    assert publisher.events == []
