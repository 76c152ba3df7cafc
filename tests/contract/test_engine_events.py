"""The state of a run does not depend on the order and the repetition of its events."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.domain import events, plans
from fuseml.domain.runs import FINISHED
from tests.contract import engines


@pytest.fixture(scope="module", params=engines.PARAMS)
def under_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[engines.UnderTest]:
    with engines.ENGINES[request.param](tmp_path_factory.mktemp("engine")) as opened:
        yield opened


@pytest.fixture(scope="module")
def reported(under_test: engines.UnderTest) -> dict[str, list[events.Event]]:
    """The events of three runs with outputs, a retry, skips, a failure and a cancelled step."""
    condition = plans.Condition(input=plans.text("a"), values=(plans.text("b"),))
    write = 'echo 1 > "$FUSEML_ENV_RESULTS/o"'
    good = engines.make_plan(
        engines.shell("make", write, image=under_test.image, outputs=["o"]),
        engines.shell("never", "true", image=under_test.image, when=(condition,)),
        engines.shell("nor", "true", image=under_test.image, needs=("never",)),
        outputs={"o": engines.out("make", "o")},
    )
    bad = engines.make_plan(
        engines.shell("flaky", "echo no; exit 1", image=under_test.image, retries=1),
        engines.shell("next", "true", image=under_test.image, needs=("flaky",)),
    )
    late = engines.make_plan(engines.shell("slow", "sleep 60", image=under_test.image), timeout=round(under_test.delay))
    for plan in (good, bad, late):
        under_test.engine.submit(plan, {})
    runs = {}
    for name, plan in (("good", good), ("bad", bad), ("late", late)):
        under_test.inbox.finished(plan.id)
        runs[name] = under_test.inbox.of(plan.id)
    return runs


EXPECTED = {
    "good": ("succeeded", {"make": "succeeded", "never": "skipped", "nor": "skipped"}),
    "bad": ("failed", {"flaky": "failed", "next": "skipped"}),
    "late": ("failed", {"slow": "cancelled"}),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
@given(data=st.data())
@settings(max_examples=60)
def test_events_in_any_order_and_with_repeats_lead_to_the_same_state(
    reported: dict[str, list[events.Event]], name: str, data: st.DataObject
) -> None:
    repeated = reported[name] + data.draw(st.lists(st.sampled_from(reported[name]), max_size=5))
    progress = engines.fold(data.draw(st.permutations(repeated)))
    assert (progress.run.state, progress.states) == EXPECTED[name]
    assert without_skip_times(progress) == without_skip_times(engines.fold(reported[name]))


def without_skip_times(progress: engines.RunProgress) -> engines.RunProgress:
    # A skipped step has no event of its own; its time is that of the first event that lists it.
    steps = {name: dataclasses.replace(step, finished=None) if step.state == "skipped" else step for name, step in progress.steps.items()}
    return engines.RunProgress(progress.run, steps)


def test_events_contain_attempts_and_causes(under_test: engines.UnderTest, reported: dict[str, list[events.Event]]) -> None:
    flaky = engines.fold(reported["bad"]).steps["flaky"]
    assert flaky.attempts == 2
    for text in ("code 1", "no"):
        assert text in (flaky.cause or "")
    assert engines.fold(reported["good"]).run.outputs == {"o": "1"}


def test_no_event_after_the_end_changes_the_state_of_the_run(reported: dict[str, list[events.Event]]) -> None:
    for history in reported.values():
        for length in range(1, len(history)):
            before, after = engines.fold(history[:length]), engines.fold(history[: length + 1])
            assert before.run.state not in FINISHED or before.run == after.run
