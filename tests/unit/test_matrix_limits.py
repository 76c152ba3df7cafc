"""The limits of a matrix: its outputs with the name of the best, the values in the ranker's variable, and the number of steps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.domain import errors, outputs, plans
from fuseml.domain.plans import combinations
from fuseml.domain.workflows import matrix, rules
from fuseml.engines.tekton import Settings, render
from tests.contract import engines
from tests.unit import tekton_model, test_tekton_outputs
from tests.unit.test_matrix import ALPHAS, BEST, plan_of, workflow_of

MAX_ARG_STRLEN = 128 << 10
"""Bytes of one variable with which Linux starts a process (linux/binfmts.h)."""
ETCD = 3 << 19
"""Bytes of a request that etcd accepts by default."""
RANKED = plans.Best(metric="rmse", goal="min")


def described(ranker: plans.StepPlan) -> str:
    [text] = next(item.value for item in ranker.variables if item.name == "FUSEML_COMBINATIONS")
    assert isinstance(text, plans.TextPart)
    return text.text


def combined(values: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    return {f"fit-{number}": chosen for number, chosen in enumerate(matrix.combinations(values), 1)}


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, list[str]]:
    """Matrices up to the allowed size, of values that are long, or long as JSON, and of values that all combinations share."""
    sizes = draw(st.sampled_from([(64,), (8, 8), (2, 2, 2, 2, 2, 2), (4, 4, 4), (3, 1), (2, 2)]))
    letter = draw(st.sampled_from(["a", '"', "é", "😀", "\n"]))
    length = draw(st.sampled_from([1, 90, 100, 101, 5_000]))
    shared = draw(st.sampled_from([0, 1, 300]))
    named = {f"{'n' * 97}{index}": [f"{number}{letter * length}" for number in range(size)] for index, size in enumerate(sizes)}
    return {**{f"{'s' * 90}{index}": [letter * length] for index in range(shared)}, **named}


@given(matrices())
@settings(max_examples=30, deadline=None)
def test_the_values_of_a_matrix_fit_into_one_variable_and_differ_as_far_as_they_are_shown(values: dict[str, list[str]]) -> None:
    rows = combined(values)
    text = described(combinations.ranker("fit", RANKED, rows, ["metrics"], None))
    assert len(text.encode()) < MAX_ARG_STRLEN
    shown = json.loads(text)
    assert list(shown) == list(rows)
    for name, chosen in rows.items():
        assert {title for title in values if len(values[title]) > 1} <= shown[name].keys()
        for title, cut in shown[name].items():
            assert cut == chosen[title] or (cut.endswith("…") and chosen[title].startswith(cut[:-1]))
            assert len(json.dumps(cut)) <= 102


def test_short_values_are_shown_as_they_are() -> None:
    rows = combined({"alpha": ["0.1", "x" * 100], "kind": ["a\nb"]})
    assert described(combinations.ranker("fit", RANKED, rows, ["metrics"], None)) == json.dumps(rows)


def largest() -> tuple[plans.StepPlan, dict[str, dict[str, str]]]:
    """The ranker of the largest matrix with long values, and the outputs of its combinations."""
    rows = combined({"parameters": [f"{number} {'long ' * 1_000}" for number in range(matrix.MAX_COMBINATIONS)]})
    ranker = combinations.ranker("fit", RANKED, rows, ["model", "metrics"], None)
    written = {name: {"model": f"models:/m/{n}", "metrics": json.dumps({"rmse": 64 - n})} for n, name in enumerate(rows)}
    return ranker, written


def test_the_largest_matrix_with_long_values_is_ranked_by_the_local_engine(tmp_path: Path) -> None:
    ranker, written = largest()

    def text(value: plans.Value) -> plans.Value:
        return plans.text(plans.evaluate(value, written, plans.no_secret))

    variables = tuple(plans.Variable(name=item.name, value=text(item.value)) for item in ranker.variables)
    plan = engines.make_plan(ranker.model_copy(update={"variables": variables, "needs": ()}))
    with engines.local_engine(tmp_path) as under_test:
        result = under_test.run(plan)
        assert result.steps["fit"].outputs["best"] == "fit-64", result
        assert "63 long long" in under_test.log(plan, "fit")


def test_the_largest_matrix_with_long_values_fits_into_the_objects_of_tekton() -> None:
    plan = plan_of({"parameters": [f"{number} {'long ' * 1_000}" for number in range(matrix.MAX_COMBINATIONS)]}, BEST)
    run = render.render(plan, {}, Settings()).pipeline_run
    assert len(json.dumps(run).encode()) < ETCD
    [task] = [task for task in run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "trainer"]
    results = {f"trainer-{n}": {"model": "m" * 700, "metrics": "{}" * 350} for n in range(1, matrix.MAX_COMBINATIONS + 1)}
    view = tekton_model.run_container(task, task["taskSpec"]["steps"][0], results, {})
    assert len(json.loads(view.environment["FUSEML_COMBINATIONS"])) == matrix.MAX_COMBINATIONS
    assert max(len(f"{name}={value}".encode()) for name, value in view.environment.items()) < MAX_ARG_STRLEN


@given(st.integers(1, 60), st.integers(1, 64), st.dictionaries(st.sampled_from(["model", "metrics", "uri"]), st.text(max_size=900)))
def test_outputs_that_a_ranked_combination_may_write_fit_into_those_of_the_ranker(length: int, number: int, texts: dict[str, str]) -> None:
    step = engines.shell(f"{'s' * length}-{number}", "", combination=plans.Combination(step="s" * length, values={}, best=RANKED))
    written = {name: text.encode() for name, text in texts.items()}
    fits = outputs.size(written) <= combinations.output_limit(step)
    assert fits == (outputs.size({**written, matrix.BEST: step.name.encode()}) <= outputs.LIMIT)


def fitting(step: plans.StepPlan) -> int:
    """The length of the longest text of the single output `o` of the step."""
    return combinations.output_limit(step) - outputs.size({"o": b""})


def ranked(name: str, script: str, best: plans.Best | None = RANKED) -> plans.StepPlan:
    return engines.shell(name, script, outputs=["o"], combination=plans.Combination(step="fit", values={}, best=best))


PROBLEM = "its outputs are larger than 1487 bytes together: of 1536 bytes the name of the best combination needs 49; write the content"


def test_the_local_engine_refuses_outputs_of_a_combination_that_leave_no_room_for_its_rank(tmp_path: Path) -> None:
    longest = fitting(ranked("fit-1", ""))
    scripts = {size: f'head -c {size} /dev/zero | tr "\\0" x > "$FUSEML_ENV_RESULTS/o"' for size in (longest, longest + 1)}
    with engines.local_engine(tmp_path) as under_test:
        assert under_test.run(engines.make_plan(ranked("fit-1", scripts[longest]))).run.state == "succeeded"
        refused = under_test.run(engines.make_plan(ranked("fit-1", scripts[longest + 1])))
        assert PROBLEM in (refused.steps["fit-1"].cause or "")
        # Without a ranker nothing else needs the room.
        assert under_test.run(engines.make_plan(ranked("fit-1", scripts[longest + 1], None))).run.state == "succeeded"


@pytest.mark.parametrize(("more", "best", "code"), [(0, RANKED, 0), (1, RANKED, 1), (1, None, 0)])
def test_the_check_in_a_pod_refuses_outputs_of_a_combination_that_leave_no_room_for_its_rank(
    tmp_path: Path, more: int, best: plans.Best | None, code: int
) -> None:
    plan = test_tekton_outputs.make_plan("o")
    step = plan.steps[-1].model_copy(update={"name": "fit-1", "combination": plans.Combination(step="fit", values={}, best=best)})
    content = b"x" * (fitting(ranked("fit-1", "")) + more)
    process = test_tekton_outputs.check(tmp_path, plan.model_copy(update={"steps": (plan.steps[0], step)}), {"o": content}, {})
    assert (process.returncode, PROBLEM in process.stderr) == (code, code == 1)


@pytest.mark.parametrize(("best", "number"), [(BEST, 6), (None, 5)])
def test_the_limit_of_steps_counts_combinations_and_their_ranker(
    monkeypatch: pytest.MonkeyPatch, best: dict[str, str] | None, number: int
) -> None:
    monkeypatch.setattr(rules, "MAX_STEPS", number)
    assert len(workflow_of(ALPHAS, best).executed) == number
    monkeypatch.setattr(rules, "MAX_STEPS", number - 1)
    with pytest.raises(errors.InvalidError) as caught:
        workflow_of(ALPHAS, best)
    counted = "with the combinations of their matrices and the steps that rank them"
    assert f"at most {number - 1} steps; this one has {number} {counted}" in str(caught.value.problems[0])
