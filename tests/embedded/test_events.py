"""Dead letters, their replay, and `why`, on a real server."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from fuseml.domain import events
from fuseml.runtime import catalog, cloudevents
from tests.component import ingress
from tests.embedded import servers, test_refusals
from tests.event_keys import FORGER
from tests.waiting import wait_until

WORKFLOW = test_refusals.WORKFLOW
FILTERED = WORKFLOW.replace("name: hello\n", 'name: filtered\non:\n  push:\n    paths: ["src/**"]\n', 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("events") / "home", "--mlflow", "none") as running:
        running.post("/workflows", raw=WORKFLOW.encode())
        running.post("/workflows", raw=FILTERED.encode())
        yield running


def register(server: servers.Server, name: str, folder: pathlib.Path) -> servers.Checkout:
    registration = server.post(f"/codesets?project=p&name={name}")
    return servers.Checkout(folder / name, registration["codeset"]["url"], registration["username"], registration["password"])


def push(checkout: servers.Checkout, name: str = "README.md") -> str:
    (checkout.folder / name).write_text("x")
    # The codeset in the message makes commits of the same second differ.
    return checkout.push(f"change {name} of {checkout.folder.name}")


def why(server: servers.Server, of: str) -> Any:
    """The explanation, once no event is pending."""
    wait_until(lambda: "pending" not in str(server.get(f"/why?of={of}")), f"the outcomes of {of}")
    return server.get(f"/why?of={of}")


def test_a_poison_event_becomes_a_dead_letter_and_is_replayed(server: servers.Server) -> None:
    publication = server.fuseml("events", "send", "run.cancel_requested", "run=hello-99", "reason=enough", "--id", "poison")
    assert publication.stdout == "Published run.cancel_requested with id poison.\n"
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter")
    [letter] = server.get("/events/dead-letters")
    number = str(letter["number"])
    assert [(item["consumer"], item["state"]) for item in letter["deliveries"]] == [("dispatcher", "dead")]
    details = server.fuseml("events", "show", number)
    assert "status 400: there is no run named 'hello-99'" in details.stdout
    assert f"`fuseml events replay {number}`" in server.get(f"/why?of={number}")["answer"]

    # The cause persists: the new attempt fails, too, and is counted from one.
    server.fuseml("events", "replay", "poison")
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter to be back")
    assert server.get(f"/events/{number}")["deliveries"][0]["attempts"] == 1

    server.fuseml("events", "drop", number)
    assert server.get("/events/dead-letters") == []
    refused = server.fuseml("events", "replay", number, code=1)
    assert f"event {number} is no dead letter (dispatcher: dropped)" in refused.stderr


def test_a_replay_succeeds_when_the_cause_is_fixed(server: servers.Server, tmp_path: pathlib.Path) -> None:
    # The run to cancel does not exist yet.
    runs = len(server.get("/runs?workflow=hello"))
    name = f"hello-{runs + 1}"
    server.post("/events", {"type": "run.cancel_requested", "data": {"run": name, "reason": "too early"}, "id": "early"})
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter")
    commit = push(register(server, "mended", tmp_path))
    server.post("/workflows/assignments?name=hello&codesetProject=p&codesetName=mended")
    server.finished_run(name)
    server.post("/events/early/replay")
    wait_until(lambda: server.get("/events/early")["outcome"] == "done", "the event to be handled")
    assert server.get("/events/dead-letters") == []
    assert why(server, commit)["answer"] == f"Commit {commit[:12]} started {name}."


def test_why_explains_a_push_without_an_assignment(server: servers.Server, tmp_path: pathlib.Path) -> None:
    commit = push(register(server, "lonely", tmp_path))
    explanation = why(server, commit[:7])
    assert explanation["answer"] == f"Commit {commit[:7]} started nothing: no workflow is assigned to code://p/lonely."
    assert explanation["stories"][0]["chain"][0]["text"].startswith("a webhook of the git host, delivery ")


def test_why_explains_a_push_by_its_run_and_the_filter_of_another_workflow(server: servers.Server, tmp_path: pathlib.Path) -> None:
    checkout = register(server, "both", tmp_path)
    for workflow in ("hello", "filtered"):
        server.post(f"/workflows/assignments?name={workflow}&codesetProject=p&codesetName=both")
    push(checkout)
    commit = push(checkout, "other.txt")
    [timeline] = why(server, commit)["stories"]
    outcomes = {outcome["workflow"]: outcome for outcome in timeline["outcomes"]}
    assert outcomes["filtered"]["reason"] == "no changed file matches src/**"
    run = outcomes["hello"]["run"]
    assert server.finished_run(run)["commit"] == commit
    output = server.fuseml("why", run).stdout
    assert f"{run} was started: refs/heads/main was pushed." in output
    assert f"codeset.pushed p/both refs/heads/main at {commit[:8]}" in output


def test_why_explains_a_commit_by_its_wrong_signature(server: servers.Server) -> None:
    server.post("/codesets?project=hooks&name=signed")
    push = ingress.first_push("not the secret", "hooks", "signed", "c" * 40)
    assert server.call("POST", "/webhooks/gitea", raw=push.body, headers=push.headers).status == 401
    explanation = server.get("/why?of=ccccccc")
    assert explanation["answer"].startswith("Commit ccccccc started nothing: the x-gitea-signature header does not fit the body")
    assert explanation["stories"][0]["outcomes"][0]["state"] == "refused"


def test_ledger_and_dead_letters_accept_no_events_from_outside(server: servers.Server) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "x", "ce-source": "/x", "ce-id": "1", "Content-Type": "application/json"}
    for path in ("/", "/dead-letters", catalog.EVENTS, catalog.DEAD_LETTERS):
        assert server.call("POST", path, raw=b"{}", headers=headers).status in (404, 405)


def test_a_forged_event_has_no_way_in_at_any_path(server: servers.Server) -> None:
    """The form of the attack: events of FuseML's and of Tekton's types, with an administrator's token and without, at every function."""
    before = server.get("/events?limit=500"), server.get("/runs?limit=500")
    cancel = {"run": "hello-1", "reason": "forged"}
    prefixes = [prefix for function in catalog.FUNCTIONS for prefix in function.paths]
    for type in (events.RunCancelRequested.TYPE, f"{events.TEKTON_PREFIX}pipelinerun.failed.v1", events.TICK):
        event = events.Event(type, "/runs/hello-1", "forged", "hello-1", "2026-11-21T12:00:00Z", dict(cancel))
        headers, body = cloudevents.encode(FORGER.sign(event))
        for path in (
            "/",
            "/dead-letters",
            *prefixes,
            *(f"{prefix}/" for prefix in prefixes),
            *(f"{prefix}/dead-letters" for prefix in prefixes),
        ):
            for token in (None, ""):
                assert server.call("POST", path, token=token, raw=body, headers=headers).status >= 400, path
    assert (server.get("/events?limit=500"), server.get("/runs?limit=500")) == before


def test_rotations_make_no_event_invalid(server: servers.Server, tmp_path: pathlib.Path) -> None:
    server.fuseml("events", "send", "run.cancel_requested", "run=hello-98", "reason=enough", "--id", "before")
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter")
    for _ in range(3):
        server.fuseml("secrets", "rotate")
    server.post("/events/before/replay")
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter to be back")
    shown = server.get("/events/before")
    assert "status 400: there is no run named 'hello-98'" in shown["deliveries"][0]["error"]
    assert "fusemlsignature" not in shown["extensions"]
    server.fuseml("events", "drop", "before")
    commit = push(register(server, "after-rotations", tmp_path))
    server.post("/workflows/assignments?name=hello&codesetProject=p&codesetName=after-rotations")
    run = wait_until(lambda: server.get(f"/runs?commit={commit}"), "the run")[0]["name"]
    assert server.finished_run(run)["state"] == "succeeded"
    assert server.get("/events/dead-letters") == []
