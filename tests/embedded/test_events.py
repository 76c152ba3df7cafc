"""Dead letters, their replay, and `why`, on a real server: what went wrong is found and mended from outside."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded import servers, test_refusals
from tests.waiting import wait_until

WORKFLOW = test_refusals.WORKFLOW
FILTERED = WORKFLOW.replace("name: hello\n", 'name: filtered\non:\n  push:\n    paths: ["src/**"]\n', 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.running(tmp_path_factory.mktemp("events") / "home", "--mlflow", "none") as running:
        running.post("/workflows", raw=WORKFLOW.encode())
        running.post("/workflows", raw=FILTERED.encode())
        yield running


def registered(server: servers.Server, name: str, folder: pathlib.Path) -> servers.Checkout:
    answer = server.post(f"/codesets?project=p&name={name}")
    return servers.Checkout(folder / name, answer["codeset"]["url"], answer["username"], answer["password"])


def pushed(checkout: servers.Checkout, name: str = "README.md") -> str:
    (checkout.folder / name).write_text("x")
    # Two codesets with the same words in the same second would have the same commit.
    return checkout.push(f"change {name} of {checkout.folder.name}")


def why(server: servers.Server, of: str) -> Any:
    """The answer, once nothing is on its way any more."""
    wait_until(lambda: "pending" not in str(server.get(f"/why?of={of}")), f"the story of {of} to end")
    return server.get(f"/why?of={of}")


def test_a_poison_event_becomes_a_dead_letter_and_is_replayed(server: servers.Server) -> None:
    sent = server.fuseml("events", "send", "run.cancel_requested", "run=hello-99", "reason=enough", "--id", "poison")
    assert sent.stdout == "Sent run.cancel_requested with id poison.\n"
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter")
    [letter] = server.get("/events/dead-letters")
    number = str(letter["number"])
    assert [(item["consumer"], item["state"]) for item in letter["deliveries"]] == [("dispatcher", "dead")]
    shown = server.fuseml("events", "show", number)
    assert "status 400: there is no run named 'hello-99'" in shown.stdout
    assert f"`fuseml events replay {number}`" in server.get(f"/why?of={number}")["answer"]

    # What was wrong is still wrong: the new attempt fails again, with its own count.
    server.fuseml("events", "replay", "poison")
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter to be back")
    assert server.get(f"/events/{number}")["deliveries"][0]["attempts"] == 1

    server.fuseml("events", "drop", number)
    assert server.get("/events/dead-letters") == []
    refused = server.fuseml("events", "replay", number, code=1)
    assert f"event {number} is no dead letter (dispatcher: dropped)" in refused.stderr


def test_a_replay_is_handled_when_what_was_wrong_is_mended(server: servers.Server, tmp_path: pathlib.Path) -> None:
    # The run does not exist yet when somebody wants it cancelled.
    runs = len(server.get("/runs?workflow=hello"))
    wanted = f"hello-{runs + 1}"
    server.post("/events", {"type": "run.cancel_requested", "data": {"run": wanted, "reason": "too early"}, "id": "early"})
    wait_until(lambda: server.get("/events/dead-letters"), "the dead letter")
    commit = pushed(registered(server, "mended", tmp_path))
    server.post("/workflows/assignments?name=hello&codesetProject=p&codesetName=mended")
    server.finished_run(wanted)
    server.post("/events/early/replay")
    wait_until(lambda: server.get("/events/early")["outcome"] == "done", "the event to be handled")
    assert server.get("/events/dead-letters") == []
    assert why(server, commit)["answer"] == f"Commit {commit[:12]} started {wanted}."


def test_a_push_without_an_assignment_says_so(server: servers.Server, tmp_path: pathlib.Path) -> None:
    commit = pushed(registered(server, "lonely", tmp_path))
    answer = why(server, commit[:7])
    assert answer["answer"] == f"Commit {commit[:7]} started nothing: no workflow is assigned to code://p/lonely."
    assert answer["stories"][0]["chain"][0]["text"].startswith("a webhook of the git host, delivery ")


def test_a_push_tells_the_run_and_the_filter_that_kept_another(server: servers.Server, tmp_path: pathlib.Path) -> None:
    checkout = registered(server, "both", tmp_path)
    for workflow in ("hello", "filtered"):
        server.post(f"/workflows/assignments?name={workflow}&codesetProject=p&codesetName=both")
    pushed(checkout)
    commit = pushed(checkout, "other.txt")
    [story] = why(server, commit)["stories"]
    told = {outcome["workflow"]: outcome for outcome in story["outcomes"]}
    assert told["filtered"]["reason"] == "no changed file matches src/**"
    run = told["hello"]["run"]
    assert server.finished_run(run)["commit"] == commit
    shown = server.fuseml("why", run)
    assert f"{run} was started: refs/heads/main was pushed." in shown.stdout
    assert f"codeset.pushed p/both refs/heads/main at {commit[:8]}" in shown.stdout


def test_a_wrong_signature_is_the_answer_for_its_commit(server: servers.Server) -> None:
    server.post("/codesets?project=hooks&name=signed")
    body, headers = test_refusals.signed_push(server, "not the secret")
    assert server.call("POST", "/webhooks/gitea", raw=body, headers=headers).status == 401
    answer = server.get("/why?of=ccccccc")
    assert answer["answer"].startswith("Commit ccccccc started nothing: the x-gitea-signature header does not fit the body")
    assert answer["stories"][0]["outcomes"][0]["state"] == "refused"


def test_ledger_and_dead_letters_take_no_events_from_outside(server: servers.Server) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "x", "ce-source": "/x", "ce-id": "1", "Content-Type": "application/json"}
    for path in ("/", "/dead-letters"):
        assert server.call("POST", path, raw=b"{}", headers=headers).status in (404, 405)
