"""The lifecycle of a run with approvals: any order of events ends in the same state, without superfluous requests or executions."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, runs
from fuseml.domain.plans import Approval, Condition, OutputPart, StepPlan, holds, text
from fuseml.domain.runs import approval, lifecycle

NOW = "2026-11-21T12:00:00.000000Z"
RANK = {"queued": 0, "waiting": 1, "running": 1, "succeeded": 2, "failed": 2, "cancelled": 2, "skipped": 2}


def step(name: str, *needs: str, needs_approval: bool = False, when: bool | None = None, asks: bool | None = None) -> StepPlan:
    """`asks` is whether the condition of the approval holds; None: it has none. It reads the output of the first step in `needs`, if any."""
    conditions = () if when is None else (Condition(input=text("a"), values=(text("a" if when else "b"),)),)
    read, held = ((OutputPart(step=needs[0], output="out"),), needs[0]) if needs else (text("x"), "x")
    asked = () if asks is None else (Condition(input=read, operator="in" if asks else "notin", values=(text(held),)),)
    approval_plan = Approval(message=text(f"{name}?"), when=asked, expires=60) if needs_approval else None
    return StepPlan(name=name, image=text("i"), needs=needs, approval=approval_plan, when=conditions)


def begin(*steps: StepPlan) -> lifecycle.Lifecycle:
    return lifecycle.settle(lifecycle.Lifecycle(runs.Progress(), {item.name: lifecycle.Step() for item in steps}), steps, NOW)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A scenario: the end of each step in an engine, and the decision on each approval."""

    steps: tuple[StepPlan, ...]
    ends: Mapping[str, runs.State]
    answers: Mapping[str, approval.Decision]

    @property
    def is_faultless(self) -> bool:
        return not {"failed", "rejected", "expired"} & {*self.ends.values(), *self.answers.values()}


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    names = "abcdef"[: draw(st.integers(1, 6))]
    steps = []
    for index, name in enumerate(names):
        needs = draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else []
        conditions = {"when": draw(st.sampled_from((None, None, True, False))), "asks": draw(st.sampled_from((None, True, False)))}
        steps.append(step(name, *needs, needs_approval=draw(st.booleans()), **conditions))
    ends: dict[str, runs.State] = {
        name: draw(st.sampled_from(("succeeded", "succeeded", "succeeded", "skipped", "failed"))) for name in names
    }
    answers: dict[str, approval.Decision] = {
        name: draw(st.sampled_from(("approved", "approved", "approved", "rejected", "expired"))) for name in names
    }
    return Scenario(tuple(steps), ends, answers)


def is_asked(planned: StepPlan) -> bool | None:
    """Whether the step of a scenario needs its approval; None without one."""
    if planned.approval is None:
        return None
    return all(condition.operator == "in" for condition in planned.approval.when)


class World:
    """A lifecycle, its engine, and the reports in transit. Every move is checked against the laws."""

    def __init__(self, scenario: Scenario, chance: random.Random | None) -> None:
        self.scenario, self._chance = scenario, chance
        self.state = lifecycle.Lifecycle(runs.Progress(), {item.name: lifecycle.Step() for item in scenario.steps})
        self.sent: list[runs.Observation] = []
        self.waiting: list[runs.Observation] = []
        self.executions: list[set[str]] = []
        self.change(lambda current: current)

    def change(self, apply: Callable[[lifecycle.Lifecycle], lifecycle.Lifecycle]) -> None:
        before = self.state
        self.state = lifecycle.settle(apply(before), self.scenario.steps, NOW)
        assert lifecycle.settle(self.state, self.scenario.steps, NOW) == self.state, "a settled lifecycle settles to itself"
        self._check(before, self.state)
        if self.state.execution > before.execution:
            self._execute()

    def _check(self, before: lifecycle.Lifecycle, after: lifecycle.Lifecycle) -> None:
        pairs = [(before.run, after.run), *((before.steps[name].progress, item.progress) for name, item in after.steps.items())]
        for was, now in pairs:
            assert RANK[now.state] >= RANK[was.state], "a state moved backward"
            assert not was.is_final or now == dataclasses.replace(was, started=now.started, attempts=now.attempts), (
                "a reported end was changed"
            )
        if after.run.state in runs.FINISHED:
            assert {item.progress.state for item in after.steps.values()} <= runs.FINISHED, "a finished run has an open step"
        if {before.run.state, after.run.state} == {"running", "waiting"}:
            assert self._facts(after) > self._facts(before), "a change between running and waiting without a new fact"
        if after.run.state == "waiting":
            assert after.pending_approvals
            assert not after.is_active
        assert after.execution - after.executed in (0, 1), "more than one execution at a time"

    @staticmethod
    def _facts(current: lifecycle.Lifecycle) -> int:
        finished = sum(item.progress.state in runs.FINISHED for item in current.steps.values())
        answered = sum(item.approval is not None and not item.approval.is_open for item in current.steps.values())
        return current.execution + current.executed + answered + finished

    def _execute(self) -> None:
        """The engine executes the steps with the ends of the scenario, and reports everything."""
        number, plans = self.state.execution, {item.name: item for item in self.scenario.steps}
        names = [name for name, item in self.state.steps.items() if item.execution == number]
        for name in names:
            item = self.state.steps[name]
            assert is_asked(plans[name]) is not False or item.approval is None, "a needless question"
            assert not is_asked(plans[name]) or (item.approval is not None and item.approval.decision == "approved"), "not approved"
            assert all(
                self.state.steps[need].progress.state == "succeeded" or self.state.steps[need].execution == number
                for need in plans[name].needs
            ), "executed too early"
        self.executions.append(set(names))
        reports: list[runs.Observation] = [self._seen(None, "queued"), self._seen(None, "running")]
        ended: dict[str, runs.State] = {}
        for name in names:
            needed = {ended[need] for need in plans[name].needs if need in ended}
            if "failed" in ended.values() or "skipped" in needed or (plans[name].when and not holds(plans[name].when[0], {})):
                ended[name] = "skipped"
            else:
                ended[name] = self.scenario.ends[name]
            if ended[name] != "skipped":
                reports += [self._seen(name, "queued"), self._seen(name, "running")]
                reports.append(self._seen(name, ended[name], outputs={"out": name} if ended[name] == "succeeded" else {}))
        skipped = tuple(name for name, state in ended.items() if state == "skipped")
        outputs = {f"{name}-out": name for name, state in ended.items() if state == "succeeded"}
        failed = "failed" in ended.values()
        reports.append(self._seen(None, "failed" if failed else "succeeded", skipped=skipped, outputs={} if failed else outputs))
        self.sent += reports
        self.waiting += reports

    def _seen(self, name: str | None, state: runs.State, **more: object) -> runs.Observation:
        defaults = {"started": None if state == "queued" else NOW, "cause": "broken" if state == "failed" else None, **more}
        return runs.Observation("id", name, state, NOW, execution=self.state.execution, **defaults)  # type: ignore[arg-type]

    def deliver(self, observation: runs.Observation) -> None:
        self.change(lambda current: lifecycle.observe(current, self.scenario.steps, observation))

    def decide(self, name: str) -> None:
        decision = self.scenario.answers[name]
        by = None if decision == "expired" else "ada"
        self.change(lambda current: lifecycle.decide(current, name, decision, by=by, comment="", now=NOW)[1])

    def moves(self) -> Iterator[Callable[[], None]]:
        """The next possible moves: a report arrives, as the only or as one of several copies, or an approval is decided."""
        for index, observation in enumerate(self.waiting):
            yield lambda index=index: self.deliver(self.waiting.pop(index))  # type: ignore[misc]
            if self._chance is None:
                return
            yield lambda observation=observation: self.deliver(observation)  # type: ignore[misc]
        for name in self.state.pending_approvals:
            yield lambda name=name: self.decide(name)  # type: ignore[misc]

    def run_to_the_end(self) -> World:
        """Move until no move is possible. Without chance, everything happens in its order."""
        for _ in range(10_000):
            possible = list(self.moves())
            if not possible:
                return self
            (possible[0] if self._chance is None else self._chance.choice(possible))()
        raise AssertionError("it never ends")


def summary(world: World) -> object:
    now = world.state
    return now.run.state, now.run.outputs, {name: (item.progress.state, item.progress.outputs) for name, item in now.steps.items()}


@given(scenarios(), st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_end_in_the_same_state(scenario: Scenario, chance: random.Random) -> None:
    orderly, wild = World(scenario, None).run_to_the_end(), World(scenario, chance).run_to_the_end()
    assert wild.state.run.state in runs.FINISHED
    assert wild.state.run.state == orderly.state.run.state
    assert all(item.progress.is_final for item in wild.state.steps.values())
    if scenario.is_faultless:
        # With a fault, the steps that have begun before it depend on the order.
        assert summary(wild) == summary(orderly)
    assert sum(map(len, wild.executions)) == len(set().union(*wild.executions)), "a step was executed twice"
    end = wild.state
    for observation in wild.sent:
        wild.deliver(observation)
    assert wild.state == end, "repeated reports change nothing"


@given(scenarios(), st.randoms(use_true_random=False), st.integers(0, 12))
def test_a_cancelled_run_begins_no_further_execution(scenario: Scenario, chance: random.Random, after: int) -> None:
    world = World(scenario, chance)
    for _ in range(after):
        possible = list(world.moves())
        if possible:
            chance.choice(possible)()
    if world.state.run.state in runs.FINISHED:
        return
    executions = world.state.execution
    if not world.state.is_active:
        world.change(lambda current: lifecycle.stop(current, "cancelled", "wrong data", NOW))
        assert (world.state.run.state, world.state.run.cause) == ("cancelled", "wrong data")
        assert not world.state.pending_approvals
    world.change(lambda current: dataclasses.replace(current, cancelled="wrong data"))
    for name in world.state.pending_approvals:
        with pytest.raises(errors.ConflictError, match="the run is being cancelled: wrong data"):
            world.decide(name)
    while world.waiting:
        world.deliver(world.waiting.pop(chance.randrange(len(world.waiting))))
    assert world.state.run.state in runs.FINISHED
    assert world.state.execution == executions


@dataclasses.dataclass(frozen=True)
class History:
    """The observations of a run without approvals, in their order, and the end of each step.

    Tekton does not name the steps that a cancelled run skips.
    """

    observations: tuple[runs.Observation, ...]
    ends: Mapping[str, runs.Progress]

    def after(self, observations: Sequence[runs.Observation]) -> lifecycle.Lifecycle:
        """The run after these observations. At no moment has a finished one an open step, and no reported end is changed."""
        current = begin(*(step(name) for name in self.ends))
        for observation in observations:
            before, current = current, lifecycle.settle(lifecycle.observe(current, (), observation), (), NOW)
            if current.run.state in runs.FINISHED:
                assert {item.progress.state for item in current.steps.values()} <= runs.FINISHED, "a finished run has an open step"
            for name, item in current.steps.items():
                earlier = before.steps[name].progress
                assert RANK[item.progress.state] >= RANK[earlier.state], "a state moved backward"
                assert not earlier.is_final or item.progress.outputs == earlier.outputs, "a reported end was changed"
        return current


@st.composite
def histories(draw: st.DrawFn) -> History:
    end: runs.State = draw(st.sampled_from(("succeeded", "failed", "cancelled")))
    others: tuple[runs.State, ...] = ("succeeded", "skipped") if end == "succeeded" else ("succeeded", "skipped", end)
    names = "abcd"[: draw(st.integers(1, 4))]
    ends: dict[str, runs.State] = {name: draw(st.sampled_from(others)) for name in names}
    observations = [runs.Observation("id", None, "running", NOW, started=NOW)]
    for name in names:
        if ends[name] != "skipped":
            observations.append(runs.Observation("id", name, "running", NOW, started=NOW))
            outputs = {"model": f"models:/{name}/1"} if ends[name] == "succeeded" else {}
            observations.append(runs.Observation("id", name, ends[name], NOW, started=NOW, finished=NOW, outputs=outputs))
    skipped = tuple(name for name in names if ends[name] == "skipped") if end != "cancelled" else ()
    observations.append(runs.Observation("id", None, end, NOW, started=NOW, finished=NOW, skipped=skipped))
    return History(tuple(observations), {name: runs.Progress(state) for name, state in ends.items()})


@given(histories(), st.data())
def test_the_end_of_a_run_settles_its_steps_in_any_order_of_events(history: History, data: st.DataObject) -> None:
    orderly = history.after(history.observations)
    shuffled = data.draw(st.permutations(history.observations))
    assert history.after([*shuffled, *data.draw(st.lists(st.sampled_from(history.observations)))]) == orderly
    assert {name: item.progress.state for name, item in orderly.steps.items()} == {name: item.state for name, item in history.ends.items()}
    for name, item in orderly.steps.items():
        assert item.progress.outputs == ({"model": f"models:/{name}/1"} if item.progress.state == "succeeded" else {})


@given(histories(), st.data())
def test_the_end_of_a_run_settles_the_steps_whose_reports_are_lost(history: History, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(history.observations)))
    lossy = history.after([*kept, history.observations[-1]])
    assert lossy.run.state == history.observations[-1].state
    reported = {item.step for item in kept if item.state in runs.FINISHED} | set(history.observations[-1].skipped)
    assert {name for name, item in lossy.steps.items() if item.progress.is_final} == reported - {None}
    # After the sweep, the engine reports everything again.
    assert history.after([*kept, history.observations[-1], *history.observations]) == history.after(history.observations)


@pytest.mark.parametrize(
    ("end", "started", "state", "attempts"),
    [
        ("succeeded", None, "succeeded", 1),
        ("succeeded", NOW, "succeeded", 2),
        ("failed", None, "skipped", 0),
        ("failed", NOW, "cancelled", 2),
        ("cancelled", None, "skipped", 0),
        ("cancelled", NOW, "cancelled", 2),
    ],
)
def test_an_unreported_end_is_inferred_until_the_report_replaces_it(
    end: runs.State, started: str | None, state: runs.State, attempts: int
) -> None:
    open_ = runs.Progress("running", started, attempts=2) if started else runs.Progress()
    inferred = runs.infer(open_, end)
    assert inferred == runs.Progress(state, started, None, None, attempts)
    late = runs.Observation("id", "a", "failed", NOW, started=NOW, finished=NOW, cause="broken", attempts=2)
    reported = runs.advance(inferred, late)
    assert reported == runs.Progress("failed", NOW, NOW, "broken", 2)
    assert runs.infer(reported, end) == reported


def test_a_step_of_a_succeeded_execution_counts_as_succeeded_however_its_run_ends() -> None:
    steps = (step("a"), step("b", "a", needs_approval=True))
    report = runs.Observation("id", "a", "succeeded", NOW, started=NOW)
    waiting = lifecycle.settle(lifecycle.observe(begin(*steps), steps, runs.Observation("id", None, "succeeded", NOW)), steps, NOW)
    assert (waiting.run.state, waiting.executed, waiting.steps["a"].progress.state) == ("queued", 1, "queued")
    cancelled = lifecycle.stop(waiting, "cancelled", "wrong data", NOW)
    assert {name: item.progress.state for name, item in cancelled.steps.items()} == {"a": "succeeded", "b": "skipped"}
    assert [item.progress.is_final for item in cancelled.steps.values()] == [False, True]
    assert lifecycle.settle(lifecycle.observe(cancelled, steps, report), steps, NOW).steps["a"].progress.is_final


def test_a_run_without_approvals_is_one_execution_and_ends_with_it() -> None:
    steps = (step("a"), step("b", "a"))
    begun = begin(*steps)
    assert (begun.run.state, begun.execution, [item.execution for item in begun.steps.values()]) == ("queued", 1, [1, 1])
    end = runs.Observation("id", None, "succeeded", NOW, started=NOW, finished=NOW, outputs={"x": "1"})
    after = lifecycle.settle(lifecycle.observe(begun, steps, end), steps, NOW)
    assert (after.run.state, after.run.outputs, after.executed) == ("succeeded", {"x": "1"}, 0)


def test_a_run_that_begins_with_an_approval_waits_and_executes_nothing() -> None:
    begun = begin(step("a", needs_approval=True), step("b", "a"))
    assert (begun.run.state, begun.execution, begun.pending_approvals) == ("waiting", 0, ["a"])
    assert begun.steps["a"].approval == approval.Approval(message="a?", asked=NOW, deadline="2026-11-21T12:01:00.000000Z")
    assert begun.steps["b"].progress.state == "queued"


def test_the_condition_of_an_approval_decides_once_the_steps_before_it_have_ended() -> None:
    message = (*text("gate gave "), OutputPart(step="gate", output="verdict"))
    condition = Condition(input=(OutputPart(step="gate", output="passed"),), values=(text("false"),))
    serve = step("serve", "gate").model_copy(update={"approval": Approval(message=message, when=(condition,))})
    steps = (step("gate"), serve)
    for passed, state, executed in (("true", "running", 2), ("false", "waiting", 1)):
        begun = begin(*steps)
        assert [item.execution for item in begun.steps.values()] == [1, 0]
        outputs = {"passed": passed, "verdict": "rmse 57 > 55"}
        reports = (
            runs.Observation("id", "gate", "succeeded", NOW, started=NOW, outputs=outputs),
            runs.Observation("id", None, "succeeded", NOW),
        )
        for report in reports:
            begun = lifecycle.settle(lifecycle.observe(begun, steps, report), steps, NOW)
        assert (begun.run.state, begun.execution) == (state, executed)
        assert [item.approval.message for item in begun.steps.values() if item.approval] == ["gate gave rmse 57 > 55"] * (passed == "false")


def test_a_condition_on_a_missing_output_fails_the_step() -> None:
    unknown = Condition(input=(OutputPart(step="x", output="o"),), values=())
    failed = begin(step("a").model_copy(update={"approval": Approval(when=(unknown,))}))
    assert (failed.run.state, failed.run.cause) == ("failed", "step 'a' failed: step 'x' finished without writing its output 'o'")


def test_no_approval_is_requested_for_a_step_that_will_not_run() -> None:
    begun = begin(step("a", needs_approval=True, when=False), step("b", "a"))
    assert begun.run.state == "succeeded"
    assert {item.progress.state for item in begun.steps.values()} == {"skipped"}
    unknown = Condition(input=(OutputPart(step="x", output="o"),), values=())
    failed = begin(step("a", needs_approval=True).model_copy(update={"when": (unknown,)}))
    assert (failed.run.state, failed.run.cause) == ("failed", "step 'a' failed: step 'x' finished without writing its output 'o'")


def test_a_run_with_running_steps_is_running_while_another_step_waits() -> None:
    steps = (step("a"), step("long"), step("b", "a", needs_approval=True))
    now = begin(*steps)
    for observation in (
        runs.Observation("id", "a", "succeeded", NOW, started=NOW),
        runs.Observation("id", "long", "running", NOW, started=NOW),
    ):
        now = lifecycle.settle(lifecycle.observe(now, steps, observation), steps, NOW)
    assert (now.run.state, now.pending_approvals) == ("running", ["b"])

    _, now = lifecycle.decide(now, None, "approved", by="ada", comment="", now=NOW)
    now = lifecycle.settle(now, steps, NOW)
    assert (now.run.state, now.execution, now.steps["b"].progress.state) == ("running", 1, "waiting")
    for observation in (runs.Observation("id", None, "succeeded", NOW), runs.Observation("id", "long", "succeeded", NOW)):
        now = lifecycle.settle(lifecycle.observe(now, steps, observation), steps, NOW)
    assert (now.run.state, now.execution, now.executed, now.steps["b"].execution) == ("running", 2, 1, 2)


def test_a_rejection_fails_the_run_once_its_running_steps_have_ended() -> None:
    steps = (step("a"), step("long"), step("b", "a", needs_approval=True), step("c", "b"))
    now = begin(*steps)
    now = lifecycle.settle(lifecycle.observe(now, steps, runs.Observation("id", "a", "succeeded", NOW, started=NOW)), steps, NOW)
    _, now = lifecycle.decide(now, "b", "rejected", by="ada", comment="too slow", now=NOW)
    now = lifecycle.settle(now, steps, NOW)
    assert (now.run.state, now.steps["b"].progress.state, now.steps["c"].progress.state) == ("running", "failed", "skipped")
    # The execution was cancelled; however it ends, the rejection is the cause.
    for end in ("cancelled", "succeeded", "failed"):
        ended = lifecycle.observe(now, steps, runs.Observation("id", None, end, NOW, cause="Cancelled"))
        assert (ended.run.state, ended.run.cause) == ("failed", "step 'b' failed: rejected by ada: too slow")


WAITING = begin(step("a", needs_approval=True), step("b", needs_approval=True), step("c", "b"))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (None, errors.InvalidError, "several steps wait for an approval: a, b; name one of them"),
        ("x", errors.NotFoundError, "the run has no step 'x'; its steps are a, b, c"),
        ("c", errors.ConflictError, "step 'c' cannot be approved: it is queued and does not wait for an approval"),
    ],
)
def test_a_decision_without_a_waiting_step_is_refused(name: str | None, error: type[errors.FusemlError], message: str) -> None:
    with pytest.raises(error, match=message):
        lifecycle.decide(WAITING, name, "approved", by="ada", comment="", now=NOW)


def test_a_second_decision_is_refused_with_the_first() -> None:
    steps = (step("a", needs_approval=True),)
    _, now = lifecycle.decide(begin(*steps), "a", "approved", by="ada", comment="", now=NOW)
    with pytest.raises(errors.ConflictError, match=f"step 'a' cannot be rejected: it was approved by ada at {NOW}"):
        lifecycle.decide(now, "a", "rejected", by="bob", comment="", now=NOW)
    with pytest.raises(errors.ConflictError, match=f"no step of it waits for an approval; step 'a' was approved by ada at {NOW}"):
        lifecycle.decide(lifecycle.settle(now, steps, NOW), None, "approved", by="bob", comment="", now=NOW)
