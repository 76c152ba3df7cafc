"""The states of a run: any order of observations ends in the same state."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, events, outputs, runs
from fuseml.domain.labels import RUN_LABEL
from fuseml.domain.plans import identity
from fuseml.domain.plans.identity import execution_id, execution_of
from fuseml.engines.tekton.events import CHECK_CONTAINER, PROBLEM, STEP_LABEL, observe
from tests import deliveries

RANK = {"queued": 0, "waiting": 1, "running": 1}


def at(second: int) -> str:
    return f"2026-11-21T12:00:{second:02}.000000Z"


def step(state: runs.State, second: int, **more: object) -> runs.Observation:
    return dataclasses.replace(runs.Observation("id", "trainer", state, at(second)), **more)  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn) -> list[runs.Observation]:
    """Observations of one step, in the order in which they happen."""
    end = draw(st.sampled_from(("succeeded", "failed", "cancelled", "skipped", "cancelled-before-start")))
    seen = [step("queued", 0)] if draw(st.booleans()) else []
    if end == "skipped":
        return [*seen, step("skipped", 9)]
    if end == "cancelled-before-start":
        return [*seen, step("cancelled", 9, finished=at(9), cause="wrong data")]
    attempts = draw(st.integers(1, 3))
    for number in range(1, attempts + 1):
        # Tekton gives each attempt a start time of its own, and an attempt is pending until its pod exists.
        seen.append(step("queued", number, started=at(number), attempts=number, cause=draw(st.sampled_from([None, "no GPU", "no memory"]))))
        seen.append(step("running", number + 1, started=at(number), attempts=number))
    outputs = {"model": "models:/m/1"} if end == "succeeded" else {}
    cause = None if end == "succeeded" else "broken"
    final: runs.State = "succeeded" if end == "succeeded" else "failed" if end == "failed" else "cancelled"
    last = step(final, 9, started=at(attempts), finished=at(8), attempts=attempts, outputs=outputs, cause=cause)
    return [*seen, last]


def place(progress: runs.Progress) -> tuple[float, int]:
    """The attempt that the state belongs to, and the rank of the state: only a later attempt is queued again."""
    if progress.state in runs.FINISHED:
        return math.inf, 0
    return progress.attempts + 1 if progress.state == "queued" else max(1, progress.attempts), RANK[progress.state]


def fold(seen: Sequence[runs.Observation], progress: runs.Progress | None = None) -> runs.Progress:
    progress = progress or runs.Progress()
    for observation in seen:
        after = runs.advance(progress, observation)
        assert place(after) >= place(progress), "a state moved backward within an attempt, or to an earlier attempt"
        assert progress.state not in runs.FINISHED or (after.state, after.finished, after.cause, after.outputs) == (
            progress.state,
            progress.finished,
            progress.cause,
            progress.outputs,
        ), "a finish was changed"
        assert after.attempts >= progress.attempts
        progress = after
    return progress


@given(histories(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_any_order_and_any_repetition_end_in_the_same_state(seen: list[runs.Observation], chance: random.Random, copies: int) -> None:
    expected = fold(seen)
    shuffled = seen * copies
    chance.shuffle(shuffled)
    assert fold(shuffled) == expected


@given(histories())
def test_repeated_observations_change_nothing(seen: list[runs.Observation]) -> None:
    once = fold(seen)
    assert fold(seen, once) == once


@given(histories(), st.randoms(use_true_random=False))
def test_the_last_observation_alone_finishes_a_step(seen: list[runs.Observation], chance: random.Random) -> None:
    kept = [observation for observation in seen[:-1] if chance.random() < 0.5] + seen[-1:]
    assert fold(kept).state == seen[-1].state
    assert fold(kept).outputs == fold(seen).outputs


def test_a_late_start_is_filled_in() -> None:
    finished = runs.advance(runs.Progress(), step("failed", 9, finished=at(9), cause="broken"))
    assert (finished.started, finished.attempts) == (None, 0)
    filled = runs.advance(finished, step("running", 3, started=at(2), attempts=1))
    assert (filled.state, filled.started, filled.attempts, filled.cause) == ("failed", at(2), 1, "broken")


def test_a_queued_step_has_the_cause_of_its_wait_until_it_runs() -> None:
    waiting = fold([step("queued", 1), step("queued", 2, cause="no GPU"), step("queued", 3)])
    assert (waiting.state, waiting.cause, waiting.attempts) == ("queued", "no GPU", 0)
    assert fold([step("running", 4, started=at(4)), step("queued", 2, cause="no GPU")], waiting).cause is None
    assert runs.infer(waiting, "cancelled") == runs.Progress("skipped")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_retry_that_waits_is_queued_with_its_cause_and_the_earlier_attempt_stays_known(order: tuple[int, ...]) -> None:
    wait = step("queued", 5, attempts=2, started=at(5), cause="no GPU")
    seen = [step("queued", 0, cause="no memory"), step("running", 1, started=at(1)), wait]
    waiting = fold([seen[index] for index in order])
    assert (waiting.state, waiting.cause, waiting.attempts, waiting.started) == ("queued", "no GPU", 1, at(1))
    running = fold([step("running", 6, attempts=2, started=at(6)), *seen], waiting)
    assert (running.state, running.cause, running.attempts) == ("running", None, 2)
    assert runs.infer(waiting, "failed").state == "cancelled"


def test_a_retry_that_waits_for_nothing_known_has_no_cause() -> None:
    assert fold([step("queued", 0, cause="no GPU"), step("queued", 3, attempts=2)]).cause is None


def test_an_approved_step_that_waits_for_a_resource_is_queued_with_its_cause() -> None:
    approved = fold([step("waiting", 1), step("queued", 2)])
    assert approved.state == "waiting"
    waiting = runs.advance(approved, step("queued", 3, cause="no GPU"))
    assert (waiting.state, waiting.cause, waiting.attempts) == ("queued", "no GPU", 0)
    assert fold([step("running", 4, started=at(4)), step("queued", 3, cause="no GPU")], waiting).state == "running"


def test_the_first_finish_wins() -> None:
    finished = runs.advance(runs.Progress(), step("failed", 8, finished=at(8), cause="broken"))
    for second in (step("succeeded", 9, finished=at(9), outputs={"a": "1"}), step("skipped", 9), step("cancelled", 7, finished=at(7))):
        assert runs.advance(finished, second) == finished


def test_a_step_that_never_ran_has_no_start_and_no_attempt() -> None:
    skipped = runs.advance(runs.Progress(), step("skipped", 5))
    assert (skipped.state, skipped.started, skipped.finished, skipped.attempts) == ("skipped", None, at(5), 0)


def test_a_run_waits_for_an_approval_and_continues() -> None:
    waiting = fold([step("running", 1, started=at(1)), step("waiting", 2)])
    assert waiting.state == "waiting"
    assert fold([step("running", 3, started=at(1))], waiting).state == "running"


def tekton(kind: str, status: object, labels: object = None, name: str = "taskrun", **event: str) -> events.Event:
    body = {"metadata": {"labels": {RUN_LABEL: "id", STEP_LABEL: "trainer"} if labels is None else labels}, "status": status}
    return events.Event(f"{events.TEKTON_PREFIX}{name}.running.v1", "/s", "1", None, event.get("time", at(1)), {kind: body})


def delivery(name: str) -> events.Event:
    """A delivery that was recorded from Tekton's own code, with the labels of a run of FuseML."""
    headers, body = deliveries.read("tekton", name)
    data = json.loads(body)
    next(iter(data.values()))["metadata"]["labels"][RUN_LABEL] = "id"
    return events.Event(headers["Ce-Type"], headers["Ce-Source"], headers["Ce-Id"], headers["Ce-Subject"], headers["Ce-Time"], data)


def _whole(state: runs.State, **more: object) -> runs.Observation:
    return dataclasses.replace(runs.Observation("id", None, state, ""), started="2026-11-20T10:00:00.000000Z", **more)  # type: ignore[arg-type]


def _step(state: runs.State, **more: object) -> runs.Observation:
    return dataclasses.replace(runs.Observation("id", "trainer", state, ""), started="2026-11-20T10:00:01.000000Z", **more)  # type: ignore[arg-type]


_RUN_END, _STEP_END = {"finished": "2026-11-20T10:02:00.000000Z"}, {"finished": "2026-11-20T10:01:55.000000Z"}
_MODEL = {"outputs": {"model-uri": "models:/m-9b3a3cf55b7d4337a3d028bf9bf29a41"}}
RECORDED = {
    "pipelinerun.queued.http": runs.Observation("id", None, "queued", ""),
    "pipelinerun.started.http": _whole("running"),
    "pipelinerun.running.http": _whole("running"),
    "pipelinerun.successful.http": _whole("succeeded", **_RUN_END, **_MODEL),
    "pipelinerun.completed-with-skips.http": _whole("succeeded", **_RUN_END, skipped=("optional",)),
    "pipelinerun.failed.http": _whole("failed", **_RUN_END, cause="Tasks Completed: 1 (Failed: 1, Cancelled 0), Skipped: 0"),
    "pipelinerun.cancelled.http": _whole("cancelled", **_RUN_END, cause='Cancelled: PipelineRun "wf-mnist-x7k2p" was cancelled'),
    "pipelinerun.timeout.http": _whole(
        "failed",
        finished="2026-11-20T11:00:00.000000Z",
        cause="PipelineRunTimeout: timed out after 3600 s",
    ),
    "taskrun.running.http": _step("running"),
    "taskrun.successful.http": _step("succeeded", **_STEP_END, **_MODEL),
    "taskrun.failed.http": _step("failed", **_STEP_END, cause='"step-run" exited with code 1: Error'),
    "taskrun.cancelled.http": _step(
        "cancelled",
        **_STEP_END,
        cause='TaskRunCancelled: TaskRun "wf-mnist-x7k2p-trainer" was cancelled. '
        "TaskRun cancelled as the PipelineRun it belongs to has been cancelled.",
    ),
    "taskrun.unknown-pending.http": _step("queued"),
    "taskrun.unknown-toberetried.http": _step("running"),
    "customrun.started.http": None,
    "customrun.successful.http": None,
}


@pytest.mark.parametrize("name", RECORDED)
def test_a_delivery_of_tekton_becomes_an_observation(name: str) -> None:
    event, expected = delivery(name), RECORDED[name]
    seen = observe(event)
    assert seen == (expected and dataclasses.replace(expected, time=event.time[:26] + "Z"))


def test_every_recorded_delivery_is_in_the_table() -> None:
    assert deliveries.names("tekton") == sorted(RECORDED)


@pytest.mark.parametrize(
    ("event", "case"),
    [
        (tekton("taskRun", {}, labels={}), "a run of another system"),
        (tekton("taskRun", {}, labels={RUN_LABEL: "id"}), "a TaskRun outside of a pipeline"),
        (
            tekton("taskRun", {}, labels={RUN_LABEL: "id", STEP_LABEL: "fuseml-clone"}),
            "a task of the engine's own that has not failed",
        ),
        (tekton("customRun", {}), "a kind without meaning"),
        (events.Event("dev.tekton.event.taskrun.running.v1", "/s", "1", None, at(1), {}), "no object at all"),
        (events.Event("org.other.taskrun", "/s", "1", None, at(1), tekton("taskRun", {}).data), "another type"),
    ],
)
def test_an_event_about_no_run_of_fuseml_is_ignored(event: events.Event, case: str) -> None:
    assert observe(event) is None, case


def test_a_failed_clone_is_the_cause_of_the_run_s_failure() -> None:
    labels = {RUN_LABEL: "id", STEP_LABEL: "fuseml-clone-x-0123"}
    refused = {"type": "Succeeded", "status": "False", "reason": "TaskRunImagePullFailed", "message": "no such image"}
    counted = {
        "type": "Succeeded",
        "status": "False",
        "reason": "Failed",
        "message": "Tasks Completed: 1 (Failed: 1, Cancelled 0), Skipped: 3",
    }
    seen = observe(tekton("taskRun", {"conditions": [refused]}, labels=labels))
    after = observe(tekton("pipelineRun", {"conditions": [counted]}, labels=labels))
    assert seen is not None and after is not None
    assert (seen.step, seen.state) == (None, "failed")
    assert fold([seen, after]).cause == "fuseml-clone-x-0123 failed: TaskRunImagePullFailed: no such image"
    given_up = {**refused, "reason": "TaskRunCancelled"}
    assert observe(tekton("taskRun", {"conditions": [given_up]}, labels=labels)) is None


@pytest.mark.parametrize(
    "event",
    [
        tekton("taskRun", [1]),
        tekton("taskRun", {}, labels=[1]),
        tekton("taskRun", {"startTime": "yesterday"}),
        tekton("taskRun", {"conditions": 3}),
        tekton("taskRun", {"taskResults": [{"value": 1}]}),
        tekton("taskRun", {}, time="noon"),
        events.Event("dev.tekton.event.taskrun.running.v1", "/s", "1", None, at(1), {"taskRun": None}),
    ],
)
def test_data_of_another_shape_is_refused_and_not_retried(event: events.Event) -> None:
    with pytest.raises(errors.InvalidError, match="does not have Tekton's"):
        observe(event)


def test_results_that_are_no_text_become_json() -> None:
    status = {"conditions": [{"type": "Succeeded", "status": "True"}], "taskResults": [{"name": "a", "value": ["x", "y"]}]}
    seen = observe(tekton("taskRun", status))
    assert seen is not None
    assert seen.outputs == {"a": '["x", "y"]'}


def test_the_same_meaning_is_the_same_run() -> None:
    same = identity.identity("w", 1, {"a": "1", "b": "2"}, "t")
    assert same == identity.identity("w", 1, {"b": "2", "a": "1"}, "t")
    others = [
        ("v", 1, {"a": "1", "b": "2"}, "t"),
        ("w", 2, {"a": "1", "b": "2"}, "t"),
        ("w", 1, {"a": "1"}, "t"),
        ("w", 1, {"a": "1", "b": "2"}, "u"),
    ]
    assert len({same, *(identity.identity(*other) for other in others)}) == 5
    assert len(same) == 32
    assert int(same, 16)


@pytest.mark.parametrize(
    ("own", "check", "problem", "message"),
    [
        (0, 1, outputs.TOO_LARGE, outputs.TOO_LARGE),
        (0, 137, "", f"its outputs could not be checked: {CHECK_CONTAINER} exited with code 137; see its log"),
        (3, 1, "", "exited with code 3"),
        (3, 0, "", "exited with code 3"),
    ],
)
def test_a_fault_of_outputs_is_the_cause(own: int, check: int, problem: str, message: str) -> None:
    status = {
        "conditions": [{"type": "Succeeded", "status": "False", "reason": "StepFailed", "message": f"exited with code {own or check}"}],
        "steps": [
            {"name": "run", "terminated": {"exitCode": own}},
            {
                "name": CHECK_CONTAINER,
                "terminated": {"exitCode": check},
                "results": [{"name": PROBLEM, "type": "string", "value": problem}] if problem else None,
            },
        ],
    }
    labels = {RUN_LABEL: "r1", STEP_LABEL: "train"}
    data = {"taskRun": {"metadata": {"labels": labels}, "status": status}}
    event = events.Event("dev.tekton.event.taskrun.failed.v1", "/", "1", None, "2026-11-21T12:00:00Z", data)
    seen = observe(event)
    assert seen is not None
    assert seen.cause == message


def test_a_run_is_blamed_on_the_first_step_that_failed() -> None:
    counted = "Tasks Completed: 2 (Failed: 1, Cancelled 0), Skipped: 1"
    failed = runs.Progress("failed", cause="exited with code 3")
    assert (
        runs.blame(counted, {"a": runs.Progress("succeeded"), "b": failed, "c": runs.Progress("skipped")})
        == "step 'b' failed: exited with code 3"
    )
    assert runs.blame(counted, {"a": runs.Progress("running")}) == counted
    assert runs.blame("cancelled by Ada", {"b": failed}) == "cancelled by Ada"
    assert runs.blame(None, {"b": failed}) is None


def test_an_execution_has_the_run_s_id_with_a_number_and_the_first_one_the_bare_id() -> None:
    assert [execution_id("0a1b", number) for number in (0, 1, 2, 12)] == ["0a1b", "0a1b", "0a1b.2", "0a1b.12"]
    for name, expected in {"0a1b": ("0a1b", 1), "0a1b.2": ("0a1b", 2), "a.b.3": ("a.b", 3), "a.b": ("a.b", 1), "a.02": ("a.02", 1)}.items():
        assert execution_of(name) == expected
    seen = observe(tekton("taskRun", {}, labels={RUN_LABEL: "id.3", STEP_LABEL: "trainer"}))
    assert seen is not None
    assert (seen.run_id, seen.execution) == ("id", 3)
