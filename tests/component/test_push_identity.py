"""What is one push and what is another: deliveries of git hosts to `gitea_ingress`, the sweep beside them, and the runs of both."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import alembic.command
import pytest

from functions.housekeeper import deps as housekeeper_deps
from functions.housekeeper import pushes as sweep
from fuseml import githosts
from fuseml.domain import events
from fuseml.engines import local
from fuseml.runtime import secrets
from fuseml.store import codesets, database, decisions, migrations, moves
from fuseml.webhooks import gitea, wire
from tests import event_keys
from tests.component import endpoint, ingress, triggering
from tests.component.ingress import SECRET, Ingress, delivery

A, B, C, ZERO = "a" * 40, "b" * 40, "c" * 40, "0" * 40
MAIN = "refs/heads/main"
TICK = events.Event(events.TICK, "/test", "tick", None, endpoint.NOON, {})


def body(before: str, after: str, ref: str = MAIN, **fields: object) -> dict[str, Any]:
    repository = {"name": "mnist", "full_name": "workspace/mnist", "owner": {"login": "workspace"}}
    return {"ref": ref, "before": before, "after": after, "commits": [], "repository": repository, "pusher": {"login": "ada"}, **fields}


def take(ingress: Ingress, before: str, after: str, id: str, host: str = "gitea", ref: str = MAIN, **fields: object) -> Any:
    answer = ingress.take(delivery(host, body(before, after, ref, **fields), SECRET, id=id))
    assert answer.status_code == 202, answer.text
    return answer.json


def published(ingress: Ingress) -> list[str]:
    return [event.data["commit"][0] for event in ingress.publisher.events]


@pytest.mark.parametrize("host", ["gitea", "github"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_a_ref_that_returns_is_pushed_again_and_each_delivery_counts_once(ingress: Ingress, host: str, order: tuple[int, ...]) -> None:
    history = [(ZERO, A), (A, B), (B, A), (A, C)]
    ids = [set[str](), set[str](), set[str](), set[str]()]
    for _ in range(5):
        for number in order:
            before, after = history[number]
            ids[number].add(str(take(ingress, before, after, f"id-{number}", host)["event"]))
    assert [len(found) for found in ids] == [1, 1, 1, 1]
    assert len(set.union(*ids)) == len(ingress.publisher.events) == 4
    assert sorted(published(ingress)) == ["a", "a", "b", "c"]
    with ingress.store.read() as session:
        assert codesets.commits(session, "workspace", "mnist") == {MAIN: C}


MOVES = {
    "a force push and its repetition": [(MAIN, ZERO, A), (MAIN, A, B), (MAIN, B, A), (MAIN, A, B)],
    "a moved tag": [("refs/tags/v1", ZERO, A), ("refs/tags/v1", A, B), ("refs/tags/v1", B, A)],
    "a moved annotated tag": [("refs/tags/v1", ZERO, A), ("refs/tags/v1", "1" * 40, B), ("refs/tags/v1", "2" * 40, A)],
    "a deleted and pushed branch": [(MAIN, ZERO, A), (MAIN, A, ZERO), (MAIN, ZERO, A), (MAIN, A, ZERO), (MAIN, ZERO, A)],
    "a history whose beginning is unknown": [(MAIN, A, B), (MAIN, B, C), (MAIN, C, A), (MAIN, A, B)],
}


@pytest.mark.parametrize("history", list(MOVES.values()), ids=list(MOVES))
@pytest.mark.parametrize("copies", [1, 2])
def test_every_move_of_a_ref_is_a_push_though_the_bodies_repeat(ingress: Ingress, history: list[tuple[str, str, str]], copies: int) -> None:
    for number, (ref, before, after) in enumerate(history):
        for copy in range(copies):
            # A host with two webhooks delivers each push under two ids.
            take(ingress, before, after, f"id-{number}-{copy}", ref=ref)
    assert published(ingress) == [after[0] for _, _, after in history if after != ZERO]


def test_gitea_deletes_a_branch_without_naming_its_commit(ingress: Ingress) -> None:
    deletion = {**body(A, ZERO), "ref": "main", "ref_type": "branch"}
    take(ingress, ZERO, A, "1")
    assert ingress.take(delivery("gitea", deletion, SECRET, event="delete", id="2")).json["event"] is None
    take(ingress, ZERO, A, "3")
    assert published(ingress) == ["a", "a"]


# The sweep of a host without a record


class Host:
    """A git host of which only the present refs are known, as of Gitea."""

    def __init__(self) -> None:
        self.refs: dict[str, str] = {}

    def heads(self, project: str, codeset: str) -> dict[str, str]:
        return dict(self.refs)

    def pushes(self, project: str, codeset: str, after: int) -> tuple[list[githosts.Push], int]:
        return [], after

    def changed_paths(self, *_: str) -> None:
        return None


class Swept:
    def __init__(self, ingress: Ingress, folder: Path) -> None:
        engine = local.LocalEngine(root=folder, emit=print, checkout=lambda *_: (), seal=bytes, unseal=bytes, environments=folder)
        self.ingress, self.host, self.number = ingress, Host(), 0
        self.deps = housekeeper_deps.Deps(
            store=ingress.store,
            publisher=ingress.publisher,
            signer=event_keys.SIGNER,
            git=self.host,  # type: ignore[arg-type]
            engine=engine,
            keyring=secrets.Keyring([secrets.new_key()]),
        )

    def push(self, commit: str | None, *, webhook: bool = True) -> tuple[str, str, str]:
        self.number += 1
        before = self.host.refs.pop(MAIN, ZERO)
        if commit:
            self.host.refs[MAIN] = commit
        sent = (before, commit or ZERO, f"id-{self.number}")
        if webhook:
            take(self.ingress, *sent)
        return sent

    def sweep(self) -> None:
        sweep.publish_missed_pushes(self.deps, TICK)


@pytest.fixture
def swept(ingress: Ingress, tmp_path: Path) -> Swept:
    return Swept(ingress, tmp_path / "runs")


def test_a_push_that_the_sweep_found_first_is_one_push(swept: Swept) -> None:
    late = swept.push(A, webhook=False)
    for _ in range(2):
        swept.sweep()
    for _ in range(3):
        answer = take(swept.ingress, *late)
    assert published(swept.ingress) == ["a"]
    assert answer["event"]
    with swept.ingress.store.read() as session:
        reasons = [row.reason for row in decisions.declined(session)]
    assert reasons[-1] == f"the sweep found this push before its delivery: {MAIN} at {A[:12]}"


def test_a_way_and_back_with_late_webhooks_and_sweeps_in_between(swept: Swept) -> None:
    swept.push(A)
    there = swept.push(B, webhook=False)
    swept.sweep()
    back = swept.push(A, webhook=False)
    swept.sweep()
    again = swept.push(B, webhook=False)
    for sent in (again, back, there, again):
        take(swept.ingress, *sent)
        swept.sweep()
    assert sorted(published(swept.ingress)) == ["a", "a", "b", "b"]


def test_lost_webhooks_of_a_roll_back_are_found(swept: Swept) -> None:
    for commit in (A, B, A, C, B):
        swept.push(commit, webhook=False)
        swept.sweep()
        swept.sweep()
    assert published(swept.ingress) == ["a", "b", "a", "c", "b"]


def test_a_lost_deletion_is_found(swept: Swept) -> None:
    swept.push(A)
    swept.push(None, webhook=False)
    swept.sweep()
    with swept.ingress.store.read() as session:
        assert codesets.commits(session, "workspace", "mnist") == {}
    swept.push(A, webhook=False)
    swept.sweep()
    assert published(swept.ingress) == ["a", "a"]


def test_forgotten_moves_make_no_new_push(swept: Swept) -> None:
    for commit in (A, B, A, C):
        swept.push(commit)
    with swept.ingress.store.write() as session:
        moves.forget(session, "9999")
        moves.forget(session, "9999")
    swept.sweep()
    swept.push(A)
    swept.push(C, webhook=False)
    swept.sweep()
    assert published(swept.ingress) == ["a", "b", "a", "c", "a", "c"]


# Runs


WORKFLOW = """
name: train
inputs: [{name: code, type: codeset}]
steps: [{name: fit, image: x, inputs: [{codeset: {name: code}}]}]
"""


@pytest.fixture
def world(tmp_path: Path) -> triggering.World:
    world = triggering.World(tmp_path)
    world.workflow(WORKFLOW)
    world.assign("train", "code://p/code")
    world.settle()
    return world


def test_each_push_of_a_commit_is_a_run_and_its_repetition_is_none(world: triggering.World) -> None:
    pushed = [world.push(commit, push=f"push-{number}") for number, commit in enumerate((A, B, A))]
    world.settle()
    for event in (*pushed, *reversed(pushed)):
        world.deliver(event)
    world.settle()
    assert [world.run(name)["commit"] for name in world.states()] == [A, B, A]


def test_a_commit_whose_run_was_superseded_runs_when_its_branch_returns(tmp_path: Path) -> None:
    world = triggering.World(tmp_path)
    world.workflow(f"{WORKFLOW}concurrency: {{policy: cancel}}\n")
    world.assign("train", "code://p/code")
    world.settle()
    for number, commit in enumerate((A, B, A)):
        world.push(commit, push=f"push-{number}")
        world.settle()
    causes = {name: world.run(name)["cause"] or world.engine.cancelled.get(world.run(name)["id"]) for name in world.states()}
    assert [world.run(name)["commit"] for name in causes] == [A, B, A]
    assert causes == {"train-1": "superseded by train-2", "train-2": "superseded by train-3", "train-3": None}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_newest_push_survives_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    world = triggering.World(tmp_path)
    world.workflow(f"{WORKFLOW}concurrency: {{policy: cancel}}\n")
    world.assign("train", "code://p/code")
    world.settle()
    pushed = [world.push(commit, push=f"push-{number}") for number, commit in enumerate((A, B, A))]
    world.events.clear()
    for number in order:
        world.deliver(pushed[number])
        world.settle()
    with world.store.read() as session:
        newest = codesets.last_push(session, "p", "code", MAIN)
    runs = [world.run(name) for name in world.states()]
    kept = [run for run in runs if not run["cause"] and run["id"] not in world.engine.cancelled]
    assert [run["trigger"]["push"] for run in kept] == [newest]


def test_an_assignment_and_the_push_under_way_start_one_run(tmp_path: Path) -> None:
    world = triggering.World(tmp_path)
    world.workflow(WORKFLOW)
    world.push(A, push="push-1")
    world.assign("train", "code://p/code")
    world.settle()
    assert list(world.states()) == ["train-1"]


@pytest.mark.parametrize("repeated", [False, True])
def test_an_assignment_to_all_codesets_of_a_project_starts_one_run_on_each_with_a_commit(tmp_path: Path, repeated: bool) -> None:
    world = triggering.World(tmp_path)
    world.workflow(WORKFLOW)
    for name in ("other", "empty"):
        world.codeset(name)
    world.push(A, push="push-1")
    world.push(B, push="push-2", codeset="other")
    world.assign("train", "code://p/*")
    world.events *= 2 if repeated else 1
    world.settle()
    assert {(world.run(name)["codeset"], world.run(name)["commit"]) for name in world.states()} == {("code", A), ("other", B)}
    assert len(world.states()) == 2
    # A codeset that comes later starts with its first push.
    world.codeset("later")
    world.push(A, codeset="later")
    world.settle()
    assert len(world.states()) == 3


def test_an_assignment_to_the_codesets_of_all_projects_starts_with_the_next_push(tmp_path: Path) -> None:
    world = triggering.World(tmp_path)
    world.workflow(WORKFLOW)
    world.push(A, push="push-1")
    world.settle()
    world.assign("train", "code://*")
    world.settle()
    assert list(world.states()) == []
    world.push(B, push="push-2")
    world.settle()
    assert len(world.states()) == 1


# Deliveries as real hosts send them


ODD: dict[str, dict[str, object]] = {
    "no pusher": {"pusher": None},
    "a pusher without a name": {"pusher": {"login": None, "name": None}},
    "forced is null": {"forced": None},
    "no commits": {"commits": None, "total_commits": None},
    "no head commit": {"head_commit": None},
    "a head commit without a message": {"head_commit": {"id": B, "message": None, "added": None, "removed": None, "modified": None}},
    "a commit without a message": {"commits": [{"id": B, "message": None}], "total_commits": 1},
    "a message of ten megabytes": {"head_commit": {"id": B, "message": "m" * (10 << 20)}},
}


@pytest.mark.parametrize("fields", list(ODD.values()), ids=list(ODD))
def test_what_hosts_leave_out_does_not_matter(ingress: Ingress, fields: dict[str, object]) -> None:
    answer = ingress.take(delivery("gitea", body(A, B, **fields), SECRET))  # type: ignore[arg-type]
    assert answer.status_code == 202, answer.text
    [event] = ingress.publisher.events
    assert len(json.dumps(event.data)) < 1 << 20


SPELLINGS = {
    "forgejo": {"X-Forgejo-Event": "push", "X-Forgejo-Delivery": "1", "X-Forgejo-Signature": "{mac}"},
    "gogs": {"X-Gogs-Event": "push", "X-Gogs-Delivery": "1", "X-Gogs-Signature": "{mac}"},
    "upper-case digits": {"X-GitHub-Event": "push", "X-GitHub-Delivery": "1", "X-Hub-Signature-256": "sha256={upper}"},
    "all upper-case": {"X-Gitea-Event": "push", "X-Gitea-Delivery": "1", "X-Gitea-Signature": "{upper}"},
}


@pytest.mark.parametrize("headers", list(SPELLINGS.values()), ids=list(SPELLINGS))
@pytest.mark.parametrize("secret", [SECRET, "another"])
def test_headers_of_all_hosts_are_understood(ingress: Ingress, headers: dict[str, str], secret: str) -> None:
    raw = json.dumps(body(A, B)).encode()
    mac = gitea.sign(secret, raw)
    sent = {name: value.format(mac=mac, upper=mac.upper()) for name, value in headers.items()}
    answer = ingress.take(ingress_delivery(sent, raw))
    assert answer.status_code == (202 if secret == SECRET else 401), answer.text
    assert len(ingress.publisher.events) == (secret == SECRET)


def ingress_delivery(headers: dict[str, str], raw: bytes) -> ingress.Delivery:
    return ingress.Delivery("gitea", {**headers, "Content-Type": "application/json"}, raw)


def test_the_ping_of_an_organisation_is_accepted(ingress: Ingress) -> None:
    ping = {"zen": "Design for failure.", "hook_id": 1, "hook": {"type": "Organization"}, "organization": {"login": "workspace"}}
    answer = ingress.take(delivery("github", ping, "any", event="ping"))
    assert (answer.status_code, answer.json["event"]) == (202, None)
    assert "webhook of an organisation" in answer.json["ignored"]


def large(size: int) -> bytes:
    """A push of forty thousand files, filled up to a size."""
    files = [f"data/part-{number % 97}/{number}-{'x' * 60}.csv" for number in range(40_000)]
    head = {"id": B, "message": "many", "added": files, "removed": [], "modified": []}
    content = body(A, B, commits=[head], total_commits=1, head_commit=head, filling="")
    content["filling"] = "f" * (size - len(json.dumps(content)))
    return json.dumps(content).encode()


def test_a_delivery_of_forty_thousand_files_is_a_push_of_unknown_files(ingress: Ingress) -> None:
    raw = large(gitea.MAX_BODY)
    assert len(raw) == gitea.MAX_BODY
    assert ingress.take(delivery("github", raw, SECRET)).status_code == 202
    [event] = ingress.publisher.events
    assert (event.data["commit"], event.data["paths"]) == (B, None)
    assert len(json.dumps(event.data)) < 4096


def test_a_delivery_beyond_what_hosts_send_is_refused(ingress: Ingress) -> None:
    answer = ingress.take(delivery("github", large(gitea.MAX_BODY + 1), SECRET))
    assert answer.status_code == 413
    assert str(gitea.MAX_BODY) in answer.json["message"]


@pytest.mark.parametrize("signed", [True, False])
def test_a_large_body_is_parsed_only_after_it_is_verified(ingress: Ingress, monkeypatch: pytest.MonkeyPatch, signed: bool) -> None:
    def parse(*_: object) -> None:
        raise AssertionError("the body of a stranger was parsed")

    monkeypatch.setattr(wire, "read_json", parse)
    sent = delivery("gitea", large(6 << 20), "of a stranger")
    if not signed:
        sent = sent.without(*ingress_signatures())
    answer = ingress.take(sent)
    assert answer.status_code == 401
    with ingress.store.read() as session:
        [row] = decisions.declined(session)
    assert (row.outcome, row.commit) == ("refused", B if signed else row.commit)


def ingress_signatures() -> tuple[str, ...]:
    return ("X-Gitea-Signature", "X-Gogs-Signature", "X-Hub-Signature", "X-Hub-Signature-256")


def test_a_body_whose_claims_name_another_repository_than_it_holds_is_refused(ingress: Ingress) -> None:
    # Signed with the secret of mnist, about another codeset.
    ingress.register("other", "secret of other")
    content = {"full_name": "workspace/mnist", **body(A, B)}
    content["repository"] = {**content["repository"], "name": "other", "full_name": "workspace/other"}
    answer = ingress.take(delivery("gitea", content, SECRET))
    assert (answer.status_code, ingress.publisher.events) == (401, [])


def test_an_unknown_repository_and_a_wrong_signature_look_alike(ingress: Ingress) -> None:
    unknown = {**body(A, B), "repository": {"name": "no", "full_name": "workspace/no", "owner": {"login": "workspace"}}}
    statuses = [ingress.take(delivery("gitea", content, "wrong")).status_code for content in (unknown, body(A, B))]
    assert statuses == [401, 401]


def test_refs_of_a_former_release_begin_with_their_commit(tmp_path: Path) -> None:
    store = database.Database(f"sqlite:///{tmp_path}/former.db")
    settings = migrations.config()
    with store.engine.begin() as connection:
        settings.attributes["connection"] = connection
        alembic.command.upgrade(settings, "0002")
        connection.exec_driver_sql("INSERT INTO project VALUES ('workspace', '', 'then')")
        connection.exec_driver_sql("INSERT INTO codeset VALUES ('workspace', 'mnist', '', '[]', 'u', 'sealed', 0, 'then')")
        connection.exec_driver_sql(f"INSERT INTO codeset_ref VALUES ('workspace', 'mnist', '{MAIN}', '{A}', 'then')")
    store.migrate()
    with store.write() as session:
        codeset = codesets.codeset(session, "workspace", "mnist")
        assert moves.observe(session, codeset, MAIN, A, endpoint.NOON) is None
        for before, commit in ((A, B), (B, A), (A, C)):
            push = events.CodesetPushed(project="workspace", codeset="mnist", ref=MAIN, before=before, commit=commit, push=commit)
            assert moves.take(session, codeset, push, commit, endpoint.NOON).published == [push]
            assert codesets.commits(session, "workspace", "mnist") == {MAIN: commit}
    store.close()
