"""Decisions: the reasons for which events started runs, or none, are recorded when they are made."""

from __future__ import annotations

import hashlib
import hmac
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlmodel
from cryptography import fernet

from functions.dispatcher import app as dispatcher_app
from functions.dispatcher import deps as dispatcher_deps
from functions.gitea_ingress import app as gitea_app
from functions.gitea_ingress import deps as gitea_deps
from functions.mlflow_ingress import app as mlflow_app
from functions.mlflow_ingress import deps as mlflow_deps
from fuseml.domain import events
from fuseml.engines import local
from fuseml.githosts import embedded
from fuseml.runtime import catalog, secrets
from fuseml.store import codesets, database, decisions, outbox, workflows
from fuseml.store.tables import codeset_rows, decision_rows
from tests import event_keys
from tests.component import endpoint

NOON = endpoint.NOON
COMMIT = "3f2a91c4" * 5
WORKFLOW: dict[str, Any] = {"name": "train", "steps": [{"name": "fit", "image": "fuseml.local/shell:1", "script": "true"}]}


@pytest.fixture
def keyring() -> secrets.Keyring:
    return secrets.Keyring([fernet.Fernet.generate_key().decode()])


@pytest.fixture(autouse=True)
def codeset(store: database.Database, keyring: secrets.Keyring) -> None:
    with store.write() as session:
        codesets.create_project(session, "demo", "", NOON)
        secret = keyring.seal("s3cret")
        codesets.add_codeset(session, codeset_rows.Codeset(project="demo", name="x", url="u", webhook_secret=secret, created=NOON))


@pytest.fixture
def dispatcher(store: database.Database, keyring: secrets.Keyring, tmp_path: pathlib.Path) -> Iterator[Any]:
    engine = local.LocalEngine(
        root=tmp_path / "runs",
        emit=lambda _: None,
        checkout=lambda *_: (),
        seal=lambda secret: secret,
        unseal=lambda sealed: sealed,
        environments=tmp_path / "environments",
        environment={},
    )
    deps = dispatcher_deps.Deps(
        store=store,
        publisher=endpoint.Publisher(),
        signer=event_keys.SIGNER,
        git=embedded.EmbeddedGitHost(tmp_path, "http://git"),
        engine=engine,
        keyring=keyring,
        zone="",
        namespace="fuseml-workloads",
    )
    yield dispatcher_app.create_app(deps).test_client()


def deliver(client: Any, payload: events.Payload, time: str = NOON) -> events.Event:
    event = events.event(payload, time)
    headers, body = event_keys.encode(event)
    assert client.post(catalog.EVENTS, headers=headers, data=body).status_code in (200, 204)
    return event


def reasons_of(store: database.Database, event: events.Event) -> Sequence[tuple[str | None, str | None, str]]:
    with store.read() as session:
        return [(row.workflow, row.run, row.reason) for row in decisions.of_event(session, event.source, event.id)]


def assign(store: database.Database, pattern: str = "code://demo/x", **on: Any) -> None:
    document = {**WORKFLOW, **({"on": on} if on else {})}
    with store.write() as session:
        workflows.add(session, "train", document, NOON)
        workflows.assign(session, "a1", "train", pattern, NOON)


PUSHED = events.CodesetPushed(project="demo", codeset="x", ref="refs/heads/main", commit=COMMIT, paths=["README.md"])


def test_a_push_without_an_assigned_workflow_records_that_reason(store: database.Database, dispatcher: Any) -> None:
    event = deliver(dispatcher, PUSHED)
    assert reasons_of(store, event) == [(None, None, "no workflow is assigned to code://demo/x")]


def test_a_path_filter_is_recorded_as_the_reason(store: database.Database, dispatcher: Any) -> None:
    assign(store, push={"paths": ["src/**"]})
    assert reasons_of(store, deliver(dispatcher, PUSHED)) == [("train", None, "no changed file matches src/**")]
    with store.read() as session:
        assert [row.reason for row in decisions.of_commit(session, COMMIT[:7])] == ["no changed file matches src/**"]


def test_a_removed_codeset_is_recorded_as_the_reason(store: database.Database, dispatcher: Any) -> None:
    gone = PUSHED.model_copy(update={"codeset": "gone"})
    assert reasons_of(store, deliver(dispatcher, gone)) == [(None, None, "codeset demo/gone was removed, or removed and registered again")]


def test_a_run_is_recorded_with_its_reason_and_again_for_a_second_event(store: database.Database, dispatcher: Any) -> None:
    assign(store)
    assert reasons_of(store, deliver(dispatcher, PUSHED)) == [("train", "train-1", "refs/heads/main was pushed")]
    other = PUSHED.model_copy(update={"ref": "refs/heads/other"})
    [(workflow, run, reason)] = reasons_of(store, deliver(dispatcher, other))
    assert (workflow, run) == ("train", "train-1")
    assert reason == "train-1 exists already for the same revision and inputs"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("code://demo/x", "nothing was pushed to the default branch of demo/x yet; the first push starts it"),
        ("model://*", "it starts with the next artifact that matches model://*"),
        ("code://*", "it starts with the next artifact that matches code://*"),
        ("code://demo/*", "nothing was pushed to the default branch of demo/x yet; the first push starts it"),
        ("code://other/*", "there is no codeset that matches code://other/* yet"),
    ],
)
def test_an_assignment_that_starts_nothing_yet_records_which_event_will(
    pattern: str, reason: str, store: database.Database, dispatcher: Any
) -> None:
    assign(store, pattern)
    event = deliver(dispatcher, events.WorkflowAssigned(workflow="train", pattern=pattern, assignment="a1"))
    assert reasons_of(store, event) == [("train", None, reason)]
    event = deliver(dispatcher, events.WorkflowAssigned(workflow="train", pattern=pattern, assignment="a2"))
    assert reasons_of(store, event) == [("train", None, "the assignment was removed")]


def test_a_model_starts_the_assigned_workflow_or_records_the_reason(store: database.Database, dispatcher: Any) -> None:
    recorded = {"kind": "model", "project": "demo", "name": "m"}
    first = deliver(dispatcher, events.ArtifactRecorded(address="model://demo/m/1", version="1", **recorded))
    assert reasons_of(store, first) == [(None, None, "no workflow is assigned to model://demo/m")]
    assign(store, "model://demo/*")
    second = deliver(dispatcher, events.ArtifactRecorded(address="model://demo/m/2", version="2", **recorded))
    assert reasons_of(store, second) == [("train", "train-1", "model://demo/m/2 was recorded")]


# Deliveries that become no event


def push_body(codeset: str = "x", after: str = COMMIT) -> bytes:
    repository = {"name": codeset, "owner": {"login": "demo"}}
    return json.dumps(
        {"ref": "refs/heads/main", "before": "0" * 40, "after": after, "commits": [], "repository": repository, "pusher": {"login": "ada"}}
    ).encode()


def signed(body: bytes, secret: str = "s3cret", event: str = "push", delivery: str = "d-1") -> dict[str, Any]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Gitea-Event": event, "X-Gitea-Delivery": delivery, "X-Gitea-Signature": signature, "Content-Type": "application/json"}
    return {"headers": headers, "data": body}


@pytest.fixture
def ingress(store: database.Database, keyring: secrets.Keyring) -> Any:
    return gitea_app.create_app(gitea_deps.Deps(store=store, publisher=endpoint.Publisher(), keyring=keyring)).test_client()


def declined(store: database.Database) -> list[tuple[str, str, str | None]]:
    with store.read() as session:
        return [(row.subject, row.outcome, row.commit) for row in decisions.declined(session)]


def test_a_refused_delivery_is_recorded_without_body_and_signature(store: database.Database, ingress: Any) -> None:
    body = push_body()
    assert ingress.post("/webhooks/gitea", **signed(body, secret="other")).status_code == 401
    with store.read() as session:
        [row] = decisions.declined(session, commit=COMMIT[:7])
    assert (row.ingress, row.subject, row.delivery, row.outcome, row.commit) == ("gitea", "demo/x", "d-1", "refused", COMMIT)
    assert row.reason.startswith("the x-gitea-signature header does not fit the body")
    stored = row.model_dump_json()
    assert "pusher" not in stored
    assert hmac.new(b"other", body, hashlib.sha256).hexdigest() not in stored


def test_an_ignored_delivery_is_recorded_with_its_reason(store: database.Database, ingress: Any) -> None:
    assert ingress.post("/webhooks/gitea", **signed(push_body(after="0" * 40))).status_code == 202
    with store.read() as session:
        [row] = decisions.declined(session, subject="demo/x")
    assert (row.outcome, row.reason) == ("ignored", "refs/heads/main was deleted: there is no commit to work on")


def test_a_push_that_was_delivered_before_is_a_duplicate(store: database.Database, ingress: Any) -> None:
    assert ingress.post("/webhooks/gitea", **signed(push_body())).status_code == 202
    assert declined(store) == []
    for delivery in ("d-1", "d-2"):
        assert ingress.post("/webhooks/gitea", **signed(push_body(), delivery=delivery)).status_code == 202
    assert declined(store) == [("demo/x", "duplicate", COMMIT)] * 2
    with store.read() as session:
        reasons = {row.delivery: row.reason for row in decisions.declined(session)}
    assert reasons["d-1"] == f"this push was delivered before: refs/heads/main at {COMMIT[:12]}, delivery d-1"
    assert reasons["d-2"] == "this push was delivered before under another id, and as far as is known its ref has not returned since"


def test_an_event_names_the_delivery_that_caused_it(store: database.Database, keyring: secrets.Keyring) -> None:
    publisher = endpoint.Publisher()
    client = gitea_app.create_app(gitea_deps.Deps(store=store, publisher=publisher, keyring=keyring)).test_client()
    assert client.post("/webhooks/gitea", **signed(push_body())).status_code == 202
    assert [event.cause for event in publisher.events] == [("/webhooks/gitea", "d-1")]


def test_deliveries_of_unknown_senders_displace_only_one_another(store: database.Database, ingress: Any) -> None:
    assert ingress.post("/webhooks/gitea", **signed(push_body(), secret="other")).status_code == 401
    for number in range(decisions.PER_BUCKET + 20):
        assert ingress.post("/webhooks/gitea", **signed(push_body(f"{'y' * 600}{number}"))).status_code == 401
    assert ingress.post("/webhooks/gitea", data=b"no JSON").status_code == 400
    with store.read() as session:
        rows = session.exec(sqlmodel.select(decision_rows.DeclinedDelivery)).all()
    assert len(rows) == decisions.PER_BUCKET + 1
    assert [row.subject for row in rows if row.bucket] == ["demo/x"]
    assert max(len(row.subject) for row in rows) == 500


def test_declined_deliveries_of_a_tracking_server_are_recorded(store: database.Database, keyring: secrets.Keyring) -> None:
    deps = mlflow_deps.Deps(store=store, publisher=endpoint.Publisher(), keyring=keyring, now=lambda: 0.0)
    client = mlflow_app.create_app(deps).test_client()
    response = client.post("/webhooks/mlflow/tracker", data=b"{}", headers={"X-MLflow-Delivery-Id": "d-9"})
    assert response.status_code == 401
    with store.read() as session:
        [row] = decisions.declined(session)
    assert (row.ingress, row.subject, row.bucket, row.delivery, row.outcome) == ("mlflow", "tracker", "", "d-9", "refused")
    assert "no webhook of tracker is known" in row.reason


def test_old_decisions_and_deliveries_are_deleted(store: database.Database) -> None:
    event = events.event(PUSHED, NOON)
    with store.write() as session:
        decisions.record(session, event, "old", "2020-01-01T00:00:00.000000Z")
        decisions.record(session, event, "new", "2021-01-01T00:00:00.000000Z")
        for received in ("2020-01-01T00:00:00.000000Z", "2021-01-01T00:00:00.000000Z"):
            decisions.decline(
                session, received, ingress="gitea", subject="", registered=False, delivery="", outcome="refused", reason=received
            )
    with store.write() as session:
        decisions.forget(session, "2020-06-01T00:00:00.000000Z")
    assert [reason for _, _, reason in reasons_of(store, event)] == ["new"]
    with store.read() as session:
        assert [row.reason[:4] for row in decisions.declined(session)] == ["2021"]
        assert outbox.pending(session, 0, 9) == []
