"""Only FuseML's own events have an effect: every type at every consumer, through the event endpoints and the broker, and over rotations."""

from __future__ import annotations

import base64
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.events import app as events_app
from functions.events import deps as events_deps
from functions.events import recording
from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.run_tracker import app as tracker_app
from functions.run_tracker import deps as tracker_deps
from functions.sources import app as sources_app
from functions.sources import deps as sources_deps
from fuseml.domain import errors, events, signature
from fuseml.embedded import broker
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, catalog, cloudevents, secrets, signing
from fuseml.runtime.telemetry import conditions, metrics
from fuseml.store import database, deliveries, outbox
from fuseml.store.tables import ledger_rows, outbox_rows
from tests import databases
from tests.component import endpoint, queues, triggering
from tests.contract import test_event_contract as contract
from tests.event_keys import FORGER, SIGNER

store, begin = queues.store, queues.begin
ADMIN = {"Authorization": "Bearer admin"}
PAIRS = [
    (type, consumer)
    for type, entry in contract.CATALOGUE.items()
    for consumer in (*entry["consumers"], "events", "run_tracker", "housekeeper")
]


class System:
    """Every consumer of events over one database, with a recording engine and broker."""

    def __init__(self, store: database.Database, folder: pathlib.Path, signer: signing.Signer = SIGNER) -> None:
        self.store, self.engine, self.publisher = store, triggering.Engine(), endpoint.Publisher()
        common: dict[str, Any] = {"store": store, "publisher": self.publisher, "signer": signer}
        git, keyring = EmbeddedGitHost(folder / "git", "http://git"), secrets.Keyring([secrets.new_key()])
        tokens = auth.Tokens({auth.digest_of("admin"): auth.Caller("admin", "admin")})
        self.functions: dict[str, flask.Flask] = {
            "artifacts": artifacts_app.create_app(artifacts_deps.Deps(**common, tokens=tokens, keyring=keyring)),
            "dispatcher": dispatcher_app.create_app(
                dispatcher_deps.Deps(**common, git=git, engine=self.engine, keyring=keyring, zone="", namespace="workloads")
            ),
            "events": events_app.create_app(events_deps.Deps(**common, tokens=tokens)),
            "sources": sources_app.create_app(
                sources_deps.Deps(**common, git=git, keyring=keyring, tokens=tokens, conditions=conditions.Conditions())
            ),
            "run_tracker": tracker_app.create_app(tracker_deps.Deps(**common, engine=self.engine)),
            "housekeeper": housekeeper_app.create_app(
                housekeeper_deps.Deps(**common, git=git, engine=self.engine, keyring=keyring, check=lambda *_: ())  # type: ignore[arg-type]
            ),
        }

    def post(self, consumer: str, event: events.Event, path: str = catalog.EVENTS, **extensions: str) -> Any:
        headers, body = cloudevents.encode(dataclasses.replace(event, extensions={**event.extensions, **extensions}))
        return self.functions[consumer].test_client().post(path, headers=headers, data=body)

    def api(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        response = self.functions["events"].test_client().open(path, method=method, headers=ADMIN, **more)
        assert response.status_code == status, response.text
        return response.json

    def effects(self) -> tuple[int, ...]:
        tables = (outbox_rows.HandledEvent, outbox_rows.Outbox, ledger_rows.LedgerEvent)
        return (*(endpoint.count(self.store, table) for table in tables), len(self.publisher.events), len(self.engine.submissions))


@pytest.fixture
def system(sqlite_store: database.Database, tmp_path: pathlib.Path) -> System:
    return System(sqlite_store, tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for many tests of refusals, which leave no trace."""
    folder = tmp_path_factory.mktemp("shared")
    store = databases.on_sqlite(folder / "fuseml.db")
    yield System(store, folder)
    store.close()


def counted(consumer: str, type: str) -> int:
    return metrics.EVENTS._counts.get((consumer, type, "unsigned"), 0)


def replaced(**changes: Any) -> Callable[[events.Event], events.Event]:
    return lambda signed: dataclasses.replace(signed, **changes)


FORGERIES: dict[str, Callable[[events.Event], events.Event]] = {
    "unsigned": signature.detach,
    "another key": FORGER.sign,
    "the signature of another event": lambda signed: signature.attach(
        signed, signature.of(SIGNER.sign(dataclasses.replace(signed, id="another")))
    ),
    "another subject": replaced(subject="p/another"),
    "no subject": replaced(subject=None),
    "another source": replaced(source="/runs/another"),
    "an old event with a new id": replaced(id="new"),
    "another time": replaced(time="2030-01-01T00:00:00.000000Z"),
    "another cause": lambda signed: dataclasses.replace(signed, extensions={**signed.extensions, **events.caused_by("/x", "1")}),
    "other data": lambda signed: dataclasses.replace(signed, data={**signed.data, "project": "another", "run": "another-1"}),
    "another type": lambda signed: dataclasses.replace(
        signed, type=next(type for type in contract.TYPES if type != signed.type and type.split(".")[2] != signed.type.split(".")[2])
    ),
    "an unknown type": replaced(type="org.fuseml.run.exploded.v1"),
}


@pytest.mark.parametrize(("type", "consumer"), PAIRS, ids=[f"{type}-{consumer}" for type, consumer in PAIRS])
def test_a_forged_event_has_no_effect_at_any_consumer(shared: System, type: str, consumer: str) -> None:
    signed = SIGNER.sign(contract.sample(type))
    before = shared.effects()
    for name, forge in FORGERIES.items():
        forged = forge(signed)
        label = forged.type if forged.type in events.PAYLOADS else "other"
        count = counted(consumer, label)
        response = shared.post(consumer, forged)
        # Brokers do not repeat a delivery that is answered with 400.
        assert response.status_code == 400, (name, response.text)
        assert "the event is not proven to be FuseML's" in response.text, name
        assert counted(consumer, label) == count + 1, name
    assert shared.effects() == before


def test_signed_events_are_recorded_without_their_signatures(system: System) -> None:
    for type in contract.TYPES:
        assert system.post("events", SIGNER.sign(contract.sample(type))).status_code == 204
    assert [system.api("GET", f"/events/{number + 1}")["type"] for number in range(len(contract.TYPES))] == contract.TYPES
    assert [system.api("GET", f"/events/{number + 1}")["extensions"] for number in range(len(contract.TYPES))] == [{}] * len(contract.TYPES)


def test_replies_are_signed_also_repeated_ones(system: System) -> None:
    pushed = SIGNER.sign(contract.sample(events.CodesetPushed.TYPE))
    for _ in range(2):
        response = system.post("artifacts", pushed)
        assert response.status_code == 200, response.text
        reply = cloudevents.decode(dict(response.headers), response.data)
        assert (reply.type, SIGNER.check(reply)) == (events.ArtifactRecorded.TYPE, True)


# Dead letters and their replay on Knative


CANCEL = events.event(events.RunCancelRequested(run="w-1", reason="no"), "2026-11-21T12:00:02.000000Z")


def dead_letter(system: System, event: events.Event, cause: str) -> None:
    address = "http://broker-filter.knative-eventing.svc.cluster.local/triggers/fuseml/dispatcher/5d0a"
    encoded = base64.b64encode(cause.encode()).decode()
    response = system.post(
        "events", event, catalog.DEAD_LETTERS, knativeerrordest=address, knativeerrorcode="400", knativeerrordata=encoded
    )
    assert response.status_code == 204, response.text


def test_a_forged_event_becomes_a_dead_letter_that_cannot_be_replayed(system: System) -> None:
    refused = system.post("dispatcher", CANCEL)
    dead_letter(system, CANCEL, refused.text)
    [letter] = system.api("GET", "/events/dead-letters")
    [delivery] = letter["deliveries"]
    assert (letter["source"], letter["id"]) == (f"unproven:{CANCEL.source}", CANCEL.id)
    assert delivery["error"] == "status 400: the event is not proven to be FuseML's: it has no signature"
    for query in ("", "?all=true"):
        answer = system.api("POST", f"/events/{letter['number']}/replay{query}", 409)
        assert "fuseml events send" in answer["message"]
    assert system.publisher.events == []
    assert system.api("DELETE", f"/events/dead-letters/{letter['number']}")["outcome"] == "dropped"


def test_a_forged_event_does_not_stand_for_the_genuine_one(system: System) -> None:
    dead_letter(system, CANCEL, "forged")
    with system.store.read() as session:
        assert not deliveries.is_known(session, CANCEL)
    assert system.post("events", SIGNER.sign(CANCEL)).status_code == 204
    with system.store.read() as session:
        assert deliveries.is_known(session, CANCEL)
    genuine, forged = system.api("GET", "/events")
    assert (genuine["source"], genuine["outcome"], forged["outcome"]) == (CANCEL.source, "", "dead")
    # A forged report of a failure does not touch the genuine event either.
    dead_letter(system, dataclasses.replace(SIGNER.sign(CANCEL), data={"run": "w-1", "reason": "other"}), "again")
    assert system.api("GET", f"/events/{genuine['number']}")["deliveries"] == []


def test_a_refused_event_with_a_signature_is_replayed_with_a_new_one(system: System) -> None:
    dead_letter(system, SIGNER.sign(CANCEL), "there is no run named 'w-1'")
    [letter] = system.api("GET", "/events/dead-letters")
    assert letter["source"] == CANCEL.source
    system.api("POST", f"/events/{letter['number']}/replay", 202)
    # The publisher of a function signs.
    assert system.publisher.events == [CANCEL]


def test_the_number_of_forged_dead_letters_is_bounded_and_they_are_forgotten(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "UNPROVEN_BOUND", 3)
    for number in range(5):
        dead_letter(system, dataclasses.replace(CANCEL, id=str(number)), "forged")
    dead_letter(system, SIGNER.sign(CANCEL), "genuine")
    assert len(system.api("GET", "/events/dead-letters")) == 4
    with system.store.write() as session:
        deliveries.forget(session, "2999-01-01T00:00:00.000000Z")
    assert [letter["source"] for letter in system.api("GET", "/events/dead-letters")] == [CANCEL.source]


# Sending


def test_sending_needs_an_administrator_and_signs(sqlite_store: database.Database, tmp_path: pathlib.Path) -> None:
    system = System(sqlite_store, tmp_path)
    app = events_app.create_app(
        events_deps.Deps(
            store=sqlite_store,
            publisher=cloudevents.SigningPublisher(system.publisher, SIGNER),
            signer=SIGNER,
            tokens=auth.Tokens({auth.digest_of("admin"): auth.Caller("a", "admin")}),
        )
    ).test_client()
    body = {"type": "run.cancel_requested", "data": {"run": "w-1", "reason": "enough"}}
    for token, status in (("", 401), ("Bearer wrong", 401), (f"Bearer {auth.STEP_PREFIX}a.b", 403), ("Bearer admin", 202)):
        response = app.post("/events", json=body, headers={"Authorization": token} if token else {})
        assert response.status_code == status, response.text
    [sent] = system.publisher.events
    assert SIGNER.check(sent)
    assert sent.cause == ("/events", "send")


# The embedded broker


def test_the_broker_takes_no_forged_event(begin: queues.Begin, store: database.Database) -> None:
    subscriber = queues.Subscriber()
    queue = begin({"s": subscriber}, queues.trigger("s"), signer=SIGNER)
    signed = SIGNER.sign(CANCEL)
    for name, forge in FORGERIES.items():
        with pytest.raises(errors.UnauthenticatedError):
            queue.publish(forge(signed))
        assert endpoint.count(store, ledger_rows.LedgerEvent) == 0, name
    hint = events.Event(f"{events.TEKTON_PREFIX}x.v1", "/ping", "1", None, endpoint.NOON, {})
    with pytest.raises(errors.UnauthenticatedError):
        # Its delivery would get a valid signature.
        queue.publish(FORGER.sign(hint))
    queue.publish(hint)
    queue.publish(signed)
    queues.wait_for_done(store, 2)
    assert sorted((taken.type, SIGNER.check(taken)) for taken in subscriber.taken) == [(hint.type, False), (CANCEL.type, True)]


@pytest.mark.parametrize("forge", [signature.detach, FORGER.sign])
def test_a_forged_reply_is_refused_once(
    begin: queues.Begin, store: database.Database, forge: Callable[[events.Event], events.Event]
) -> None:
    headers, body = cloudevents.encode(forge(SIGNER.sign(CANCEL)))
    subscriber = queues.Subscriber(last=broker.Answer(200, headers, body))
    begin({"s": subscriber}, queues.trigger("s", "a"), signer=SIGNER).publish(queues.event(1))
    queues.wait_for_dead(store)
    assert len(subscriber.taken) == 1
    assert endpoint.count(store, ledger_rows.LedgerEvent) == 1


# Rotation and upgrade


@pytest.fixture
def ring() -> secrets.Keyring:
    return secrets.Keyring([secrets.new_key()])


@pytest.fixture
def rotated(store: database.Database, ring: secrets.Keyring, tmp_path: pathlib.Path) -> Iterator[System]:
    yield System(store, tmp_path, signing.Signer(ring.event_keys))


def rotate(ring: secrets.Keyring, times: int) -> None:
    for _ in range(times):
        ring.adopt(secrets.new_key())


@pytest.mark.parametrize("rotations", [0, 1, 2, 5])
def test_no_event_of_the_outbox_or_queue_is_lost_by_rotations(
    rotated: System, ring: secrets.Keyring, begin: queues.Begin, rotations: int
) -> None:
    signer = signing.Signer(ring.event_keys)
    subscriber = queues.Subscriber()
    queue = begin({"s": subscriber}, queues.trigger("s"), signer=signer, started=False)
    publisher = cloudevents.SigningPublisher(queue, signer)
    publisher.publish(CANCEL)
    queue.publish(signer.sign(events.Event(f"{events.TEKTON_PREFIX}x.v1", "/engine", "1", None, endpoint.NOON, {})))
    pushed = contract.sample(events.CodesetPushed.TYPE)
    with rotated.store.write() as session:
        outbox.add(session, [pushed], endpoint.NOON)
    reply = rotated.post("artifacts", signer.sign(pushed))
    rotate(ring, rotations)
    assert cloudevents.sweep(rotated.store, publisher, "2999-01-01T00:00:00.000000Z") == 1
    queue.start()
    queues.wait_for_done(rotated.store, 3)
    queue.stop()
    assert all(signer.check(taken) for taken in subscriber.taken)
    # The reply to a redelivery is recorded, its signature is not.
    again = rotated.post("artifacts", signer.sign(pushed))
    first, second = (cloudevents.decode(dict(response.headers), response.data) for response in (reply, again))
    assert (signature.detach(first), signer.check(second)) == (signature.detach(second), True)


@pytest.mark.parametrize(("rotations", "status"), [(0, 200), (1, 200), (2, 400)])
def test_a_signature_is_valid_until_the_second_rotation(rotated: System, ring: secrets.Keyring, rotations: int, status: int) -> None:
    pushed = signing.Signer(ring.event_keys).sign(contract.sample(events.CodesetPushed.TYPE))
    rotate(ring, rotations)
    assert rotated.post("artifacts", pushed).status_code == status


def test_what_a_version_without_signatures_has_stored_is_delivered_and_replayed(begin: queues.Begin, store: database.Database) -> None:
    """Outbox, queue and dead letters of an embedded server before the upgrade: rows without a signature."""
    subscriber = queues.Subscriber()
    later = [dataclasses.replace(CANCEL, id=str(number)) for number in range(3)]
    with store.write() as session:
        outbox.add(session, [later[0]], endpoint.NOON)
        deliveries.accept(session, later[1], ["s"], endpoint.NOON, 0)
        deliveries.accept(session, later[2], ["s"], endpoint.NOON, 0)
        [waiting] = deliveries.due(session, "s", 1e12, 1, [2])
        deliveries.settle(session, dataclasses.replace(waiting, sequence=2), state="dead", due=0, error="down")
    queue = begin({"s": subscriber}, queues.trigger("s"), signer=SIGNER)
    publisher = cloudevents.SigningPublisher(queue, SIGNER)
    cloudevents.sweep(store, publisher, "2999-01-01T00:00:00.000000Z")
    deps = events_deps.Deps(store=store, publisher=publisher, signer=SIGNER, tokens=auth.Tokens({}, anonymous=True), queued=True)
    answer = events_app.create_app(deps).test_client().post("/events/2/replay")
    assert answer.status_code == 202, answer.text
    queues.wait_for_done(store, 3)
    assert sorted((taken.id, SIGNER.check(taken)) for taken in subscriber.taken) == [("0", True), ("1", True), ("2", True)]
