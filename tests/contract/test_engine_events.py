"""Events may come in any order and more than once; what they add up to must not depend on that."""

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
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[events.Event]]]:
    """The events of three runs that have everything in them: outputs, a retry, skips, a failure, a cancelled step."""
    with engines.ENGINES[request.param](tmp_path_factory.mktemp("engine")) as under:
        condition = plans.Condition(input=plans.text("a"), values=(plans.text("b"),))
        write = 'echo 1 > "$FUSEML_ENV_RESULTS/o"'
        good = engines.make_plan(
            engines.shell("make", write, image=under.image, outputs=["o"]),
            engines.shell("never", "true", image=under.image, when=(condition,)),
            engines.shell("nor", "true", image=under.image, needs=("never",)),
            outputs={"o": engines.out("make", "o")},
        )
        bad = engines.make_plan(
            engines.shell("flaky", "echo no; exit 1", image=under.image, retries=1),
            engines.shell("next", "true", image=under.image, needs=("flaky",)),
        )
        late = engines.make_plan(engines.shell("slow", "sleep 60", image=under.image), timeout=1)
        for planned in (good, bad, late):
            under.engine.submit(planned, {})
        runs = {}
        for name, planned in (("good", good), ("bad", bad), ("late", late)):
            under.inbox.finished(planned.id)
            runs[name] = under.inbox.of(planned.id)
        yield runs


EXPECTED = {
    "good": ("succeeded", {"make": "succeeded", "never": "skipped", "nor": "skipped"}),
    "bad": ("failed", {"flaky": "failed", "next": "skipped"}),
    "late": ("failed", {"slow": "cancelled"}),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
@given(data=st.data())
@settings(max_examples=60)
def test_events_in_any_order_and_repeated_add_up_to_the_same_end(
    told: dict[str, list[events.Event]], name: str, data: st.DataObject
) -> None:
    repeated = told[name] + data.draw(st.lists(st.sampled_from(told[name]), max_size=5))
    folded = engines.fold(data.draw(st.permutations(repeated)))
    assert (folded.run.state, folded.states) == EXPECTED[name]
    assert without_time_of_skip(folded) == without_time_of_skip(engines.fold(told[name]))


def without_time_of_skip(folded: engines.Folded) -> engines.Folded:
    # A skipped step has no event of its own: the first event that mentions it gives the time.
    steps = {name: dataclasses.replace(step, finished=None) if step.state == "skipped" else step for name, step in folded.steps.items()}
    return engines.Folded(folded.run, steps)


def test_attempts_and_causes_are_told(told: dict[str, list[events.Event]]) -> None:
    assert engines.fold(told["bad"]).steps["flaky"].attempts == 2
    assert "no" in (engines.fold(told["bad"]).steps["flaky"].cause or "")
    assert engines.fold(told["good"]).run.outputs == {"o": "1"}


def test_states_told_before_the_end_never_move_backward(told: dict[str, list[events.Event]]) -> None:
    for history in told.values():
        for length in range(1, len(history)):
            before, after = engines.fold(history[:length]), engines.fold(history[: length + 1])
            assert before.run.state not in FINISHED or before.run == after.run
