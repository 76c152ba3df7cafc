"""`GET /why`: from an event back to its first cause, and on to its outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import sqlmodel

from functions.events import app as events_app
from functions.events import deps as events_deps
from fuseml.domain import events
from fuseml.domain.runs import Observation
from fuseml.runtime import auth, catalog
from fuseml.store import codesets, database, decisions, deliveries, outbox, runs, workflows
from fuseml.store.tables import codeset_rows, run_rows
from fuseml.usecases import lifecycle
from tests import event_keys
from tests.component import endpoint, test_decisions
from tests.component.test_decisions import COMMIT, NOON, PUSHED, assign, deliver

ADMIN = {"Authorization": "Bearer admin"}
keyring, dispatcher = test_decisions.keyring, test_decisions.dispatcher


@pytest.fixture
def client(store: database.Database) -> Any:
    with store.write() as session:
        codesets.create_project(session, "demo", "", NOON)
        codesets.add_codeset(session, codeset_rows.Codeset(project="demo", name="x", url="u", webhook_secret="", created=NOON))
    tokens = auth.Tokens({auth.digest_of("admin"): auth.Caller("admin", "admin")})
    return events_app.create_app(
        events_deps.Deps(store=store, publisher=endpoint.Publisher(), signer=event_keys.SIGNER, tokens=tokens, queued=True)
    ).test_client()


def why(client: Any, of: str, status: int = 200, **query: str) -> Any:
    answer = client.get("/why", query_string={"of": of, **query}, headers=ADMIN)
    assert answer.status_code == status, answer.json
    return answer.json


def accept(store: database.Database, event: events.Event, *consumers: str) -> None:
    with store.write() as session:
        deliveries.accept(session, event, consumers, NOON, 0)


def caused_by(payload: events.Payload, source: str, id: str, time: str = NOON) -> events.Event:
    return events.event(payload, time, events.caused_by(source, id))


def handle(dispatcher: Any, event: events.Event) -> None:
    headers, body = event_keys.encode(event)
    assert dispatcher.post(catalog.EVENTS, headers=headers, data=body).status_code in (200, 204)


def timelines(answer: Mapping[str, Any]) -> list[tuple[list[str], list[tuple[str, str | None, str]]]]:
    return [
        ([link["text"] for link in story["chain"]], [(item["state"], item["run"], item["reason"]) for item in story["outcomes"]])
        for story in answer["stories"]
    ]


WEBHOOK = caused_by(PUSHED, "/webhooks/gitea", "d-1")
CHAIN = ["a webhook of the git host, delivery d-1", f"codeset.pushed demo/x refs/heads/main at {COMMIT[:8]}"]


def test_a_run_is_traced_to_the_delivery_that_started_it(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store)
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    answer = why(client, "train-1")
    assert (answer["kind"], answer["answer"]) == ("run", "train-1 was started: refs/heads/main was pushed.")
    assert timelines(answer) == [(CHAIN, [("queued", "train-1", "refs/heads/main was pushed")])]


def test_a_run_whose_step_waits_for_devices_shows_the_wait(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store)
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    with store.write() as session:
        run = runs.get(session, "train-1")
        observed = Observation(run.id, runs.steps(session, [run.id])[0].name, "queued", NOON, cause="waits for 1 nvidia.com/gpu")
        lifecycle.apply_observation(session, run, observed)
    reason = "refs/heads/main was pushed; step fit waits for 1 nvidia.com/gpu"
    assert why(client, "train-1")["answer"] == f"train-1 was started: {reason}."
    assert timelines(why(client, COMMIT)) == [(CHAIN, [("queued", "train-1", reason)])]


@pytest.mark.parametrize("of", [COMMIT, COMMIT[:7], WEBHOOK.id, "1"])
def test_a_commit_and_its_event_have_the_outcomes_of_their_assignments(
    of: str, client: Any, store: database.Database, dispatcher: Any
) -> None:
    assign(store, push={"paths": ["src/**"]})
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    answer = why(client, of)
    assert answer["answer"].endswith(" started nothing: no changed file matches src/**.")
    assert timelines(answer) == [(CHAIN, [("nothing", None, "no changed file matches src/**")])]
    assert answer["stories"][0]["outcomes"][0]["workflow"] == "train"


def test_a_push_that_the_sweep_detected_has_that_origin(client: Any, store: database.Database) -> None:
    accept(store, caused_by(PUSHED, "/embedded/pingsources/housekeeper", "tick:1"))
    assert why(client, COMMIT)["stories"][0]["chain"][0]["text"] == "the sweep detected it: its webhook was lost or late"


def test_a_model_is_traced_through_its_run_to_the_push(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store)
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    step = events.RunStepFinished(run="train-1", workflow="train", project="demo", step="fit", state="succeeded", outputs={})
    finished = caused_by(step, "/tekton", "e-1")
    accept(store, finished)
    recorded = events.ArtifactRecorded(address="model://demo/m/1", kind="model", project="demo", name="m", version="1")
    model = caused_by(recorded, finished.source, finished.id)
    accept(store, model)
    handle(dispatcher, model)
    answer = why(client, model.id)
    assert answer["answer"] == "Event 3 started nothing: no workflow is assigned to model://demo/m."
    assert timelines(answer)[0][0] == [
        *CHAIN,
        "train-1 of workflow train",
        "run.step_finished train-1",
        "artifact.recorded model://demo/m/1",
    ]


def test_the_outcomes_of_a_registered_model_include_those_of_its_artifact(client: Any, store: database.Database, dispatcher: Any) -> None:
    registered = caused_by(events.ModelRegistered(extension="mlflow", name="m", version="1"), "/webhooks/mlflow/mlflow", "d-7")
    recorded = caused_by(
        events.ArtifactRecorded(address="model://mlflow/m/1", kind="model", project="mlflow", name="m", version="1"),
        registered.source,
        registered.id,
    )
    accept(store, registered, "artifacts")
    with store.write() as session:
        outbox.record_handled(session, "artifacts", registered, recorded, NOON)
        [due] = deliveries.due(session, "artifacts", 1e12, 9, [])
        deliveries.settle(session, due, state="done", due=0, error=None)
    accept(store, recorded)
    handle(dispatcher, recorded)
    assert timelines(why(client, "1")) == [
        (
            ["a webhook of mlflow, delivery d-7", "model.registered m/1"],
            [("nothing", None, "no workflow is assigned to model://mlflow/m")],
        )
    ]


def test_a_requested_run_has_that_origin(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store)
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    requested = events.event(events.RunRequested(request="r-1", action="rerun", run="train-1"), NOON)
    accept(store, requested)
    handle(dispatcher, requested)
    chain = ["a request for a run", "run.requested rerun of train-1"]
    assert timelines(why(client, "train-2")) == [(chain, [("queued", "train-2", "a rerun of train-1 was requested")])]
    # The commit has both outcomes.
    assert why(client, COMMIT)["answer"] == f"Commit {COMMIT[:12]} started train-1, train-2."


def test_a_scheduled_run_has_that_origin(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store, schedule="0 3 * * *")
    reached = events.event(events.ScheduleReached(workflow="train", due="2026-11-21T03:00:00Z"), NOON)
    accept(store, reached)
    handle(dispatcher, reached)
    chain = ["the workflow's schedule", "schedule.reached train at 2026-11-21T03:00:00Z"]
    assert timelines(why(client, "train-1")) == [(chain, [("queued", "train-1", "its schedule reached 2026-11-21T03:00:00Z")])]


def test_a_run_past_the_retention_of_the_ledger_has_a_shorter_chain(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store)
    deliver(dispatcher, PUSHED)
    with store.write() as session:
        decisions.forget(session, "9")
    assert timelines(why(client, "train-1")) == [(["codeset.pushed, which is no longer in the ledger"], [("queued", "train-1", "")])]
    assert why(client, "train-1")["answer"] == "train-1 was started."
    assert why(client, COMMIT[:8])["answer"] == f"Commit {COMMIT[:8]} started train-1."


def test_a_run_that_failed_before_its_first_step_reports_its_cause(client: Any, store: database.Database, dispatcher: Any) -> None:
    document = {"name": "train", "steps": [{"name": "fit", "image": "i", "extensions": [{"name": "t", "service_resource": "s3"}]}]}
    with store.write() as session:
        workflows.add(session, "train", document, NOON)
        workflows.assign(session, "a1", "train", "code://demo/x", NOON)
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    [(_, [(state, run, reason)])] = timelines(why(client, COMMIT))
    assert (state, run) == ("failed", "train-1")
    assert reason.startswith("refs/heads/main was pushed; it failed: ")


@pytest.mark.parametrize(
    ("state", "error", "reason"),
    [
        ("pending", None, "delivery to dispatcher is pending"),
        ("pending", "status 503: busy", "delivery to dispatcher failed: status 503: busy; it will be retried"),
        ("dead", "status 400: no", "delivery to dispatcher failed for good: status 400: no; `fuseml events replay 1` delivers it again"),
    ],
)
def test_an_undelivered_event_has_its_delivery_as_outcome(
    state: str, error: str | None, reason: str, client: Any, store: database.Database
) -> None:
    accept(store, WEBHOOK, "dispatcher")
    if error:
        with store.write() as session:
            [due] = deliveries.due(session, "dispatcher", 1e12, 9, [])
            deliveries.settle(session, due, state=state, due=9, error=error)
    assert timelines(why(client, COMMIT)) == [(CHAIN, [(state, None, reason)])]


def test_an_event_without_a_decision_is_pending(client: Any, store: database.Database) -> None:
    accept(store, WEBHOOK)
    assert why(client, COMMIT)["answer"] == f"Commit {COMMIT[:12]} has started nothing yet: dispatcher has not handled it yet."


def test_an_event_in_the_outbox_is_pending(client: Any, store: database.Database) -> None:
    with store.write() as session:
        outbox.add(session, [WEBHOOK], NOON)
    assert timelines(why(client, COMMIT)) == [(CHAIN[1:], [("pending", None, "it is in the outbox, not yet with the broker")])]


def decline(store: database.Database, outcome: Any, reason: str, commit: str | None = COMMIT, subject: str = "demo/x") -> None:
    with store.write() as session:
        decisions.decline(
            session,
            NOON,
            ingress="gitea",
            subject=subject,
            registered=True,
            delivery="d-2",
            outcome=outcome,
            reason=reason,
            commit=commit,
        )


def test_a_refused_delivery_is_the_answer_for_its_commit(client: Any, store: database.Database) -> None:
    decline(store, "refused", "the signature does not fit")
    answer = why(client, COMMIT[:10])
    assert answer["answer"] == f"Commit {COMMIT[:10]} started nothing: the signature does not fit."
    assert timelines(answer) == [
        (["a webhook of the git host, delivery d-2, for demo/x"], [("refused", None, "the signature does not fit")])
    ]


def test_a_duplicate_does_not_hide_the_first_outcome(client: Any, store: database.Database, dispatcher: Any) -> None:
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    decline(store, "duplicate", "this push was delivered before")
    answer = why(client, COMMIT)
    assert answer["answer"] == f"Commit {COMMIT[:12]} started nothing: no workflow is assigned to code://demo/x."
    assert [outcomes[0][0] for _, outcomes in timelines(answer)] == ["nothing", "duplicate"]


def test_an_unknown_commit_lists_its_possible_causes(client: Any, store: database.Database) -> None:
    assert why(client, "abcdef1234567890")["answer"] == (
        "FuseML has no event of commit abcdef123456: was it pushed, to a registered codeset, and does its webhook reach FuseML?"
    )
    decline(store, "refused", "the signature does not fit", commit=None)
    decline(store, "ignored", "a release")
    answer = why(client, "abcdef1")
    assert answer["answer"].endswith(" These deliveries were refused recently; one of them may be the push.")
    assert [outcomes[0][0] for _, outcomes in timelines(answer)] == ["refused"]


def test_an_ambiguous_or_unknown_reference_is_refused(client: Any, store: database.Database) -> None:
    other = f"{COMMIT[:7]}{'0' * 33}"
    for commit in (COMMIT, other):
        accept(store, events.event(PUSHED.model_copy(update={"commit": commit}), NOON))
    assert why(client, COMMIT[:7], 409)["message"] == f"{COMMIT[:7]} is the prefix of 2 commits: {other}, {COMMIT}"
    assert why(client, "nothing", 404)["message"] == (
        "'nothing' matches no run, no commit (7 or more hex digits) and no event (its id or number)"
    )
    why(client, "", 400)


def test_a_superseded_run_names_its_successor(client: Any, store: database.Database, dispatcher: Any) -> None:
    assign(store)
    accept(store, WEBHOOK)
    handle(dispatcher, WEBHOOK)
    with store.write() as session:
        run = session.exec(sqlmodel.select(run_rows.Run)).one()
        run.state, run.cause = "cancelled", "superseded by train-2"
        session.add(run)
    [(_, [(_, _, reason)])] = timelines(why(client, COMMIT))
    assert reason == "refs/heads/main was pushed; it was cancelled: superseded by train-2"


def test_nothing_is_decided_while_one_consumer_or_the_reply_of_another_is_outstanding(
    client: Any, store: database.Database, dispatcher: Any
) -> None:
    """A client that waits for a push may stop only when no run can follow: not before both have been handled."""
    assign(store)
    accept(store, WEBHOOK)
    payload = events.ArtifactRecorded(address="dataset://demo/d/1", kind="dataset", project="demo", name="d", version="1")
    recorded = events.event(payload, NOON)

    def states() -> list[str]:
        return [state for _, outcomes in timelines(why(client, COMMIT)) for state, _, _ in outcomes]

    with store.write() as session:
        outbox.record_handled(session, "artifacts", WEBHOOK, recorded, NOON)
    assert states() == ["pending", "pending"]
    handle(dispatcher, WEBHOOK)
    assert states() == ["queued", "pending"]
    accept(store, recorded)
    assert states() == ["queued", "pending"]
    handle(dispatcher, recorded)
    assert states() == ["queued", "nothing"]
