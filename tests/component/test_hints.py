"""Unsigned events are hints: `run_tracker` asks the engine before it believes one of Tekton's kind, `housekeeper` sweeps no sooner."""

from __future__ import annotations

import dataclasses
import pathlib
import threading
from collections.abc import Sequence
from concurrent import futures
from typing import Any

import pytest

from functions.housekeeper import app as housekeeper_app
from functions.housekeeper import deps as housekeeper_deps
from functions.run_tracker import deps as tracker_deps
from functions.run_tracker import service
from fuseml.domain import errors, events
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines.tekton.events import STEP_LABEL, STEPS_ANNOTATION
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import catalog, clock, cloudevents, secrets
from fuseml.store import deliveries, runs
from fuseml.store.tables import outbox_rows, watermark_rows
from tests.component import endpoint, test_run_ends, triggering
from tests.event_keys import FORGER, SIGNER
from tests.waiting import PATIENCE, wait_until

world = test_run_ends.world


def post(world: triggering.World, event: events.Event, status: int = 204) -> Any:
    headers, body = cloudevents.encode(event)
    response = world.functions["run-tracker"].test_client().post(catalog.EVENTS, headers=headers, data=body)
    assert response.status_code == status, response.text
    return response


def run_id(world: triggering.World) -> str:
    with world.store.read() as session:
        return runs.get(session, "train-1").id


def state(world: triggering.World) -> tuple[str, str, int]:
    run = world.run("train-1")
    return run["state"], run["steps"][0]["state"], endpoint.count(world.store, outbox_rows.HandledEvent)


@pytest.fixture
def reports(world: triggering.World) -> Sequence[events.Event]:
    """What Tekton would send about a successful run, in its order."""
    return test_run_ends.reports_of_train(world)


def test_forged_reports_cost_a_read_and_change_nothing(world: triggering.World, reports: Sequence[events.Event]) -> None:
    """The attack of a pod that wants its run to succeed, or another's to end."""
    before = state(world)
    for forged in (*reports, *map(FORGER.sign, reports)):
        post(world, forged)
        assert state(world) == before
    assert world.engine.observed == [run_id(world)] * (2 * len(reports))
    assert world.events == []


def test_reports_about_unknown_runs_and_repeated_ones_cost_no_read(world: triggering.World, reports: Sequence[events.Event]) -> None:
    other = events.Event(
        reports[0].type,
        "/apis///x",
        "1",
        None,
        clock.now(),
        {"pipelineRun": {"metadata": {"labels": {RUN_LABEL: "0" * 32}}, "status": {}}},
    )
    post(world, other)
    assert world.engine.observed == []
    world.engine.reports = {run_id(world): reports}
    for report in reports:
        headers, body = cloudevents.encode(report)
        assert world.functions["run-tracker"].test_client().post(catalog.EVENTS, headers=headers, data=body).status_code in (200, 204)
    assert world.run("train-1")["state"] == "succeeded"
    # The first answer held the whole run.
    assert world.engine.observed == [run_id(world)]


@pytest.mark.parametrize("first", range(4))
def test_any_report_leads_to_all_that_the_engine_knows(world: triggering.World, reports: Sequence[events.Event], first: int) -> None:
    world.engine.reports = {run_id(world): reports}
    post(world, dataclasses.replace(reports[first], source="/forged", id="forged"))
    assert {event.cause for event in world.events} <= {(report.source, report.id) for report in reports}
    published = [event.type for event in world.events]
    assert published == [payload.TYPE for payload in (events.RunStarted, events.RunStepFinished, events.RunFinished)]
    assert world.run("train-1")["outputs"] == {"model": "models:/m/1"}


def test_a_redelivered_hint_gets_the_same_reply(world: triggering.World, reports: Sequence[events.Event]) -> None:
    world.engine.reports = {run_id(world): reports[:1]}
    first, again = (
        cloudevents.decode(dict(answer.headers), answer.data) for answer in (post(world, reports[0], 200), post(world, reports[0], 200))
    )
    assert (first, first.type) == (again, events.RunStarted.TYPE)
    assert SIGNER.check(first)
    assert len(world.engine.observed) == 1


def test_a_forged_hint_with_the_id_of_a_later_report_does_not_suppress_it(world: triggering.World, reports: Sequence[events.Event]) -> None:
    """A sender that knows the ids of reports cannot use them up."""
    world.engine.reports = {run_id(world): reports[:1]}
    end = reports[-1]
    post(world, end, 200)  # the engine knows of the start only
    assert world.run("train-1")["state"] == "running"
    world.engine.reports = {run_id(world): reports}
    post(world, SIGNER.sign(end), 200)
    assert world.run("train-1")["state"] == "succeeded"
    assert events.RunFinished.TYPE in [event.type for event in world.events]


def test_the_ledger_cannot_keep_the_sweep_from_a_repair(world: triggering.World, reports: Sequence[events.Event]) -> None:
    with world.store.write() as session:
        for report in reports:
            deliveries.accept(session, report, [], clock.now(), 0)
    world.engine.reports = {run_id(world): reports}
    world.deliver_to("housekeeper", events.Event(events.TICK, "/tick", "1", None, clock.now(), {}))
    assert [event.id for event in world.events] == [report.id for report in reports]
    assert all(SIGNER.has_signed(event) for event in world.events), "the engine itself has reported them"
    asked = len(world.engine.observed)
    for event in world.events:
        post(world, event, 200 if event.type.endswith(("started.v1", "successful.v1")) else 204)
    assert world.run("train-1")["state"] == "succeeded"
    assert len(world.engine.observed) == asked, "a signed report needs no read"


def test_an_unreachable_engine_is_asked_again(
    world: triggering.World, reports: Sequence[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_run: str) -> Sequence[events.Event]:
        raise errors.TemporaryError("the engine is away")

    world.engine.reports = {run_id(world): reports}
    with monkeypatch.context() as patched:
        patched.setattr(world.engine, "observe", away)
        post(world, reports[-1], 503)
    post(world, reports[-1])
    assert world.run("train-1")["state"] == "succeeded"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"pipelineRun": None},
        {"pipelineRun": []},
        {"pipelineRun": {"metadata": None}},
        {"pipelineRun": {"metadata": {"labels": {RUN_LABEL: 1}}}},
        {"pipelineRun": {"metadata": {"labels": {RUN_LABEL: "\0"}}}},
        {"pipelineRun": {"metadata": {"labels": {RUN_LABEL: "x"}, "annotations": {STEPS_ANNOTATION: "[" * 100_000}}}},
        {"pipelineRun": {"metadata": {"labels": {RUN_LABEL: "x"}}, "status": {"conditions": {"type": "Succeeded"}}}},
        {"taskRun": {"metadata": {"labels": {RUN_LABEL: "x", STEP_LABEL: ["a"]}}}},
    ],
)
def test_hostile_data_are_no_failure_of_the_function(world: triggering.World, data: dict[str, Any]) -> None:
    event = events.Event(f"{events.TEKTON_PREFIX}pipelinerun.successful.v1", "/x", "1", None, "0001-01-01T00:00:00+23:59", data)
    headers, body = cloudevents.encode(event)
    assert world.functions["run-tracker"].test_client().post(catalog.EVENTS, headers=headers, data=body).status_code in (204, 400)


class Slow(triggering.Engine):
    """Its reports wait for `gate`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def observe(self, run_id: str) -> Sequence[events.Event]:
        answer = super().observe(run_id)
        assert self.gate.wait(PATIENCE)
        return answer


def test_a_burst_shares_its_reads(world: triggering.World, reports: Sequence[events.Event]) -> None:
    engine, reads = Slow(), service.Reads()
    deps = tracker_deps.Deps(store=world.store, publisher=world, signer=SIGNER, engine=engine)
    with futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(service.facts, deps, reads, reports[-1], False)]
        wait_until(lambda: engine.observed, "the first read")
        answers += [pool.submit(service.facts, deps, reads, reports[-1], False) for _ in range(7)]
        wait_until(lambda: reads._waiting[run_id(world)] == len(answers), "all of them to wait")
        engine.gate.set()
        assert [list(answer.result()) for answer in answers] == [[]] * len(answers)
    # The read that was under way may have missed what they report, so one more follows for all of them.
    assert len(engine.observed) == 2
    assert (reads._turns, reads._begun, dict(reads._waiting)) == ({}, {}, {}), "nothing is kept of past hints"


def test_a_failed_read_answers_no_other_hint(world: triggering.World, reports: Sequence[events.Event]) -> None:
    reads = service.Reads()
    with pytest.raises(errors.TemporaryError), reads.turn("x"), reads.reading("x"):
        raise errors.TemporaryError("away")
    with reads.turn("x") as answered:
        assert not answered


# Ticks


def tick(number: int) -> events.Event:
    return events.Event(events.TICK, "/forged", f"forged-{number}", None, clock.now(), {})


@pytest.fixture
def swept(world: triggering.World, tmp_path: pathlib.Path) -> triggering.World:
    """With a `housekeeper` that waits between two sweeps. Each sweep asks the engine about the unfinished run."""
    world.functions["housekeeper"] = housekeeper_app.create_app(
        housekeeper_deps.Deps(
            store=world.store,
            publisher=world,
            signer=SIGNER,
            git=EmbeddedGitHost(tmp_path / "git", "http://git"),
            engine=world.engine,
            keyring=secrets.Keyring([secrets.new_key()]),
            check=lambda *_: (),  # type: ignore[arg-type]
            pause=3600.0,
        )
    )
    return world


def take(world: triggering.World, event: events.Event) -> int:
    """The number of sweeps so far, after the tick."""
    headers, body = cloudevents.encode(event)
    assert world.functions["housekeeper"].test_client().post(catalog.EVENTS, headers=headers, data=body).status_code == 204
    return len(world.engine.observed)


def test_ticks_cause_no_more_sweeps_than_their_source_would(swept: triggering.World) -> None:
    assert [take(swept, tick(number)) for number in range(5)] == [1] * 5
    with futures.ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda number: take(swept, tick(number)), range(5, 13))) == {1}
    with swept.store.write() as session:
        session.get_one(watermark_rows.Watermark, "sweep").moment = clock.ago(3601)
    assert take(swept, tick(13)) == 2
    # The embedded server's own tick.
    assert take(swept, SIGNER.sign(tick(14))) == 3


def test_nothing_is_read_of_an_unsigned_tick(swept: triggering.World) -> None:
    with swept.store.write() as session:
        row = runs.get(session, "train-1")
        row.submitted, row.created = None, clock.ago(3600)
    take(swept, tick(1))
    [request] = [event for event in swept.events if event.type == events.RunRequested.TYPE]
    assert request.data["request"].startswith("tick:")
    assert "forged" not in str(request)
