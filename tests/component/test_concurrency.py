"""Runs of one concurrency group never overlap, in any order of events: they queue, or new ones cancel older ones."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import sqlmodel
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuseml.domain import events
from fuseml.store import runs
from fuseml.store.tables import run_rows
from tests.component import triggering

A, B, C = (letter * 40 for letter in "abc")


def document(policy: str, name: str = "train", group: str = "") -> str:
    return f"""
name: {name}
inputs:
  - {{name: code, type: codeset}}
  - {{name: stage, default: test}}
concurrency: {{group: "{group}", policy: {policy}}}
steps:
  - name: fit
    image: shell:1
    inputs: [{{codeset: {{name: code}}}}, {{name: stage, value: "{{{{ inputs.stage }}}}"}}]
"""


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[triggering.World]:
    running = triggering.World(tmp_path)
    yield running
    running.store.close()


def assign_workflow(world: triggering.World, policy: str, name: str = "train", group: str = "", approval: str = "") -> None:
    world.workflow(document(policy, name, group) + approval)
    world.assign(name, "code://p/code")
    world.settle()


def submitted(world: triggering.World) -> list[str]:
    with world.store.read() as session:
        rows = [runs.find(session, run_id) for run_id in world.engine.submitted]
    return [row.name for row in rows if row]


def test_runs_of_a_group_queue_and_name_the_run_before_them(world: triggering.World) -> None:
    assign_workflow(world, "queue")
    for commit in (A, B, C):
        world.push(commit)
    world.settle()
    assert submitted(world) == ["train-1"]
    waiting = [(run["name"], run["waits_for"], run["concurrency_group"]) for run in world.get("/runs")]
    assert waiting == [("train-3", "train-2", "train@p/code"), ("train-2", "train-1", "train@p/code"), ("train-1", None, "train@p/code")]
    assert world.run("train-3")["waits_for"] == "train-2"

    world.finish("train-1", "failed")
    world.settle()
    assert submitted(world) == ["train-1", "train-2"]
    world.finish("train-2")
    world.settle()
    assert submitted(world) == ["train-1", "train-2", "train-3"]
    assert world.run("train-3")["waits_for"] is None


def test_a_run_that_waits_for_approval_blocks_its_group(world: triggering.World) -> None:
    assign_workflow(world, "queue")
    world.push(A)
    world.push(B)
    world.settle()
    with world.store.write() as session:
        runs.get(session, "train-1").state = "waiting"
    world.push(C, ref="refs/heads/other")
    world.settle()
    assert submitted(world) == ["train-1"]
    assert world.run("train-2")["waits_for"] == "train-1"


def test_a_cancelled_run_leaves_the_queue(world: triggering.World) -> None:
    assign_workflow(world, "queue")
    for commit in (A, B, C):
        world.push(commit)
    world.settle()
    assert world.functions["runs"].test_client().post("/runs/train-2/cancel").status_code == 202
    world.settle()
    assert world.run("train-3")["waits_for"] == "train-1"
    world.finish("train-1")
    world.settle()
    assert submitted(world) == ["train-1", "train-3"]


def test_a_named_group_is_shared_by_workflows_and_depends_on_inputs(world: triggering.World) -> None:
    assign_workflow(world, "queue", "train", "gpu-{{ inputs.stage }}")
    assign_workflow(world, "queue", "serve", "gpu-{{ inputs.stage }}")
    world.push(A)
    world.settle()
    assert len(submitted(world)) == 1
    assert {run["concurrency_group"] for run in world.get("/runs")} == {"p/gpu-test"}
    request = {"workflow": "train", "project": "p", "codeset": "code", "inputs": {"stage": "live"}}
    assert world.functions["runs"].test_client().post("/runs", json=request).status_code == 202
    world.settle()
    assert submitted(world)[1:] == [run["name"] for run in world.get("/runs") if run["concurrency_group"] == "p/gpu-live"]


def test_a_requested_run_queues_like_any_other(world: triggering.World) -> None:
    assign_workflow(world, "queue")
    world.push(A)
    world.settle()
    assert world.functions["runs"].test_client().post("/runs/train-1/rerun").status_code == 202
    world.settle()
    assert (submitted(world), world.run("train-2")["waits_for"]) == (["train-1"], "train-1")


def test_a_new_run_cancels_older_ones_and_starts_after_their_end(world: triggering.World) -> None:
    assign_workflow(world, "cancel")
    for commit in (A, B, C):
        world.push(commit)
    world.settle()
    # The second one was never submitted; the engine has to cancel the first one.
    assert world.states() == {"train-1": "queued", "train-2": "cancelled", "train-3": "queued"}
    assert world.run("train-2")["cause"] == "superseded by train-3"
    assert list(world.engine.cancelled.values()) == ["superseded by train-2"]
    assert submitted(world) == ["train-1"]
    world.finish("train-1", "cancelled")
    world.settle()
    assert submitted(world) == ["train-1", "train-3"]


@pytest.mark.parametrize("is_over", [False, True], ids=["while it runs", "after its end"])
def test_a_delayed_push_is_superseded_by_the_newer_one(world: triggering.World, is_over: bool) -> None:
    assign_workflow(world, "cancel")
    late = world.push(A)
    world.events.clear()
    world.push(B)
    world.settle()
    if is_over:
        world.finish("train-1")
        world.settle()
    world.deliver(late)
    world.settle()

    superseded = world.run("train-2")
    assert (superseded["commit"], superseded["state"], superseded["cause"]) == (A, "cancelled", "superseded by train-1")
    assert world.run("train-1")["state"] == ("succeeded" if is_over else "queued")
    assert (submitted(world), world.engine.cancelled) == (["train-1"], {})


def test_a_delayed_push_to_another_branch_is_not_superseded(world: triggering.World) -> None:
    assign_workflow(world, "cancel")
    late = world.push(A, ref="refs/heads/other")
    world.events.clear()
    world.push(B)
    world.settle()
    world.deliver(late)
    world.settle()
    assert (world.run("train-2")["state"], list(world.engine.cancelled.values())) == ("queued", ["superseded by train-2"])


def test_a_run_that_cannot_start_supersedes_nothing(world: triggering.World) -> None:
    assign_workflow(world, "cancel")
    world.push(A)
    world.settle()
    changed = document("cancel") + "    extensions: [{name: store, service_resource: s3}]\n"
    assert world.functions["workflows"].test_client().put("/workflows/train", data=changed).status_code == 200
    world.push(B)
    world.settle()
    assert (world.states(), world.engine.cancelled) == ({"train-1": "queued", "train-2": "failed"}, {})


def test_the_sweep_recovers_a_lost_end_of_a_run(world: triggering.World) -> None:
    assign_workflow(world, "queue")
    world.push(A)
    world.push(B)
    world.settle()
    with world.store.read() as session:
        assert runs.unsubmitted(session) == [], "the sweep skips queued runs"
    world.finish("train-1")
    world.events.clear()
    with world.store.read() as session:
        [row] = runs.unsubmitted(session)
    world.publish(events.event(events.RunRequested(request="tick/1", run=row.name), triggering.NOON))
    world.settle()
    assert submitted(world) == ["train-1", "train-2"]


class Row(NamedTuple):
    """A run, as far as the invariants concern it."""

    id: str
    name: str
    workflow: str
    commit: str
    state: str
    cause: str | None
    finished: str | None


class Interleaving(RuleBasedStateMachine):
    """Pushes, ends and duplicates of events in any order, on two workflows of one group."""

    policy = "queue"
    approval = ""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.world = triggering.World(pathlib.Path(self._folder.name))
        self.delivered: list[events.Event] = []
        self.commits = 0

    def teardown(self) -> None:
        self.world.store.close()
        self._folder.cleanup()

    @initialize()
    def assign(self) -> None:
        for name in ("train", "serve"):
            assign_workflow(self.world, self.policy, name, "gpu", self.approval)

    @rule()
    def push(self) -> None:
        self.commits += 1
        self.world.push(f"{self.commits:040x}")

    @precondition(lambda self: self.world.events)
    @rule(data=st.data())
    def deliver_any(self, data: st.DataObject) -> None:
        event = self.world.events.pop(data.draw(st.integers(0, len(self.world.events) - 1)))
        self.delivered.append(event)
        self.world.deliver(event)

    @precondition(lambda self: self.delivered)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        self.world.deliver(data.draw(st.sampled_from(self.delivered)))

    @precondition(lambda self: self.active())
    @rule()
    def finish_one(self) -> None:
        [row] = self.active()
        self.world.finish(row.name, "cancelled" if row.id in self.world.engine.cancelled else "succeeded")

    def rows(self) -> Sequence[Row]:
        # Without the plan, inputs and steps of the runs: reading them would be a third of the time of these tests.
        columns = (getattr(run_rows.Run, name) for name in Row._fields)
        with self.world.store.read() as session:
            found = session.exec(sqlmodel.select(*columns).order_by(run_rows.Run.sequence))
            return [Row(*row) for row in found]

    def active(self) -> list[Row]:
        """The unfinished runs of the engine."""
        return [row for row in self.rows() if row.id in self.world.engine.submitted and row.finished is None]

    @precondition(lambda self: self.awaiting_approval())
    @rule()
    def approve_one(self) -> None:
        [name] = self.awaiting_approval()
        assert self.world.functions["runs"].test_client().post(f"/runs/{name}/approve").status_code == 202

    def awaiting_approval(self) -> list[str]:
        """The runs with an open approval."""
        return [run["name"] for run in self.world.get("/runs?state=waiting") if run["steps"][0]["approval"]["decision"] is None]

    @invariant()
    def at_most_one_runs_or_waits(self) -> None:
        assert len({row.id for row in self.active()} | {row.id for row in self.rows() if row.state == "waiting"}) <= 1

    @invariant()
    def the_order_is_that_of_creation(self) -> None:
        order = [row.id for row in self.rows() if row.id in self.world.engine.submitted]
        assert order == self.world.engine.submitted

    def drained(self) -> Sequence[Row]:
        """Deliver all events and finish all runs."""
        self.world.settle()
        while self.active() or self.awaiting_approval():
            if self.awaiting_approval():
                self.approve_one()
            else:
                self.finish_one()
            self.world.settle()
            self.at_most_one_runs_or_waits()
        return self.rows()


class Queueing(Interleaving):
    policy = "queue"

    def teardown(self) -> None:
        rows = self.drained()
        assert len(rows) == 2 * self.commits
        assert self.world.engine.submitted == [row.id for row in rows], "all runs are submitted, in order"
        assert {row.state for row in rows} <= {"succeeded"}
        super().teardown()


class Cancelling(Interleaving):
    policy = "cancel"

    def teardown(self) -> None:
        rows = self.drained()
        assert len(rows) == 2 * self.commits
        if rows:
            causes = {row.cause or "" for row in rows if row.state == "cancelled" and row.id not in self.world.engine.cancelled}
            assert all(cause.startswith("superseded by ") for cause in causes)
            # In any order of events, no older commit starts after a newer one of the same workflow.
            for name in ("train", "serve"):
                ran: list[Any] = [row.commit for row in rows if row.workflow == name and row.id in self.world.engine.submitted]
                assert ran == sorted(ran)
            assert rows[-1].state == "succeeded" or any(row.state == "succeeded" for row in rows)
        super().teardown()


class QueueingWithApprovals(Queueing):
    approval = '    approval: {message: "fit?"}\n'


class CancellingWithApprovals(Cancelling):
    approval = QueueingWithApprovals.approval


TestQueueing = Queueing.TestCase
TestQueueingWithApprovals = QueueingWithApprovals.TestCase
TestCancellingWithApprovals = CancellingWithApprovals.TestCase
TestCancelling = Cancelling.TestCase
TestQueueing.settings = TestCancelling.settings = settings(max_examples=10, stateful_step_count=25)
TestQueueingWithApprovals.settings = TestCancellingWithApprovals.settings = settings(max_examples=5, stateful_step_count=25)
