"""Decisions about runs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import plans
from fuseml.engines.local import decisions, journal
from tests.contract import engines


@st.composite
def graphs(draw: st.DrawFn) -> plans.Plan:
    """Plans whose steps need some earlier steps, in any document order; the conditions of some steps do not hold."""
    steps: list[plans.StepPlan] = []
    for number in range(draw(st.integers(1, 7))):
        needs = draw(st.sets(st.sampled_from([step.name for step in steps]))) if steps else set()
        text = draw(st.sampled_from(["yes", "yes", "yes", "no"]))
        when = (plans.Condition(input=plans.text(text), values=(plans.text("yes"),)),)
        steps.append(engines.shell(f"s{number}", "true", needs=tuple(sorted(needs)), when=when))
    return engines.make_plan(*draw(st.permutations(steps)))


@given(graphs(), st.data())
def test_every_step_of_any_graph_ends_after_the_steps_that_it_needs(plan: plans.Plan, data: st.DataObject) -> None:
    records = {step.name: journal.StepRecord() for step in plan.steps}
    for _ in range(100):
        actions = decisions.actions(plan, records, 0.0)
        for name in actions.skip:
            records[name] = journal.StepRecord(state="skipped")
        running = [name for name, record in records.items() if record.state == "running"]
        if not (actions.start or actions.skip or running):
            break
        for name in actions.start:
            assert all(records[need].state == "succeeded" for need in plan.step(name).needs)
            records[name] = journal.StepRecord(state="running")
        for name in data.draw(st.sets(st.sampled_from(sorted(running)), min_size=1)) if running else set():
            records[name] = journal.StepRecord(state="succeeded")
    disabled = {step.name for step in plan.steps if step.when[0].input == plans.text("no")}
    for step in plan.steps:
        skipped = step.name in disabled or any(records[need].state == "skipped" for need in step.needs)
        assert records[step.name].state == ("skipped" if skipped else "succeeded")


def test_a_retry_starts_when_it_is_due() -> None:
    plan = engines.make_plan(engines.shell("s", "true"))
    records = {"s": journal.StepRecord(retry_at=10.0)}
    assert decisions.actions(plan, records, 9.0) == decisions.Actions(due=10.0)
    assert decisions.actions(plan, records, 10.0) == decisions.Actions(start=["s"])


def test_the_backoff_doubles_up_to_a_minute() -> None:
    assert [decisions.backoff(1.0, failed) for failed in (1, 2, 3, 7, 5000)] == [1.0, 2.0, 4.0, 60.0, 60.0]


def test_a_condition_on_a_missing_output_fails_the_step() -> None:
    condition = plans.Condition(input=engines.out("a", "o"), values=(plans.text("x"),))
    plan = engines.make_plan(engines.shell("s", "true", when=(condition,)))
    assert "'o'" in decisions.actions(plan, {"s": journal.StepRecord()}, 0.0).fail["s"]
