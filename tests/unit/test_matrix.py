"""A step with a matrix: its combinations in the plan, the step that ranks them, and the parts of a run that its name addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors, plans, workflows
from fuseml.domain.documents import document
from fuseml.domain.plans import combinations, replan, step_cache
from fuseml.domain.workflows import loading, matrix
from tests.unit import workflow_examples as examples

LISTS = st.dictionaries(
    st.sampled_from(["alpha", "beta", "gamma"]),
    st.lists(st.sampled_from(["1", "0.5", "x y", "{", "", "é"]), min_size=1, max_size=4, unique=True),
    min_size=1,
)
BEST = {"metric": "rmse", "goal": "min"}


def document_of(values: dict[str, list[str]], best: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A workflow that prepares, trains with a matrix, and serves."""
    trainer = {
        "name": "trainer",
        "image": "registry.example.com/trainer:1",
        "matrix": {"values": values, **({"best": best} if best else {})},
        "inputs": [
            {"codeset": {"name": "code"}},
            {"name": "data", "value": "{{ steps.prepare.outputs.data }}"},
            *({"name": name, "value": f"{name}={{{{ matrix.{name} }}}}"} for name in values),
        ],
        "outputs": [{"name": "model"}, {"name": "metrics"}],
        **more,
    }
    reads = [{"name": "model", "value": "{{ steps.trainer.outputs.model }}"}] if best else []
    return {
        "name": "example",
        "inputs": [{"name": "code", "type": "codeset"}, {"name": "rate", "default": "0.1"}],
        "outputs": [{"name": "url"}],
        "steps": [
            {"name": "prepare", "image": "registry.example.com/tool:1", "outputs": [{"name": "data"}]},
            trainer,
            {
                "name": "server",
                "image": "registry.example.com/server:1",
                "needs": ["trainer"],
                "inputs": reads,
                "outputs": [{"name": "url"}],
            },
        ],
    }


def workflow_of(values: dict[str, list[str]], best: dict[str, str] | None = None, **more: Any) -> workflows.Workflow:
    return loading.check(document.Parsed(document_of(values, best, **more)))


def plan_of(values: dict[str, list[str]], best: dict[str, str] | None = None, **more: Any) -> plans.Plan:
    return examples.plan_of(workflow_of(values, best, **more))


def names(plan: plans.Plan) -> list[str]:
    return [step.name for step in plan.steps]


ALPHAS = {"alpha": ["1", "2", "3"]}


@given(LISTS, st.none() | st.just(BEST))
def test_the_plan_has_one_step_for_each_combination(values: dict[str, list[str]], best: dict[str, str] | None) -> None:
    plan = plan_of(values, best)
    combined = [step for step in plan.steps if step.combination]
    assert [step.combination.values for step in combined if step.combination] == matrix.combinations(values)
    assert len({tuple(chosen.items()) for chosen in matrix.combinations(values)}) == len(combined) == matrix.count(values)
    assert [step.name for step in combined] == [f"trainer-{number}" for number in range(1, len(combined) + 1)]
    for step in combined:
        assert step.combination and step.combination.step == "trainer"
        variables = examples.variables(step)
        for name, value in step.combination.values.items():
            assert variables[f"FUSEML_{name.upper()}"] == plans.text(f"{name}={value}")
        assert step.needs == ("prepare",)
        assert {checkout.own for checkout in step.checkouts} == {step.name}
    assert set(names(plan)) == set(workflow_of(values, best).executed)


def test_without_best_a_step_waits_for_every_combination() -> None:
    plan = plan_of(ALPHAS)
    assert names(plan) == ["prepare", "trainer-1", "trainer-2", "trainer-3", "server"]
    assert plan.step("server").needs == ("trainer-1", "trainer-2", "trainer-3")


def test_the_ranker_reads_every_output_of_every_combination_and_emits_the_outputs_of_the_step() -> None:
    plan = plan_of({"alpha": ["1", "2"]}, BEST)
    ranker = plan.step("trainer")
    assert (ranker.image, ranker.needs) == (plans.text(combinations.RANKER), ("trainer-1", "trainer-2"))
    assert [output.name for output in ranker.outputs] == ["model", "metrics", "best"]
    variables = examples.variables(ranker)
    assert (variables["FUSEML_METRIC"], variables["FUSEML_GOAL"]) == (plans.text("rmse"), plans.text("min"))
    [described] = variables["FUSEML_COMBINATIONS"]
    assert isinstance(described, plans.TextPart)
    assert json.loads(described.text) == {"trainer-1": {"alpha": "1"}, "trainer-2": {"alpha": "2"}}
    assert variables["FUSEML_OUTPUT_2_1"] == (plans.OutputPart(step="trainer-2", output="model"),)
    assert variables["FUSEML_OUTPUT_1_2"] == (plans.OutputPart(step="trainer-1", output="metrics"),)
    assert plan.step("server").needs == ("trainer",)
    assert examples.variables(plan.step("server"))["FUSEML_MODEL"] == (plans.OutputPart(step="trainer", output="model"),)


def test_a_value_may_be_an_input_of_the_run() -> None:
    workflow = workflow_of({"alpha": ["{{ inputs.rate }}", "x{{ inputs.rate }}"]})
    plan = examples.plan_of(workflow, inputs={"rate": "7"})
    assert [step.combination.values for step in plan.steps if step.combination] == [{"alpha": "7"}, {"alpha": "x7"}]


def test_values_that_are_equal_in_this_run_only_are_refused_with_their_path() -> None:
    workflow = workflow_of({"alpha": ["1", "{{ inputs.rate }}"]})
    with pytest.raises(errors.InvalidError) as caught:
        examples.plan_of(workflow, inputs={"rate": "1"})
    assert [str(problem) for problem in caught.value.problems] == ["steps[1].matrix.values.alpha[1]: the value '1' is repeated"]


def test_a_fault_of_every_combination_is_reported_once() -> None:
    workflow = workflow_of(ALPHAS, resources={"limits": {"cpu": "{{ inputs.rate }}"}})
    with pytest.raises(errors.InvalidError) as caught:
        examples.plan_of(workflow, inputs={"rate": "many"})
    assert [problem.path for problem in caught.value.problems] == ["steps[1].resources.limits.cpu"]


def test_the_values_reach_resources_arguments_and_scripts() -> None:
    plan = plan_of(ALPHAS, resources={"limits": {"cpu": "{{ matrix.alpha }}"}}, args=["matrix.alpha"], script="fit {{ matrix.alpha }}\n")
    step = plan.step("trainer-2")
    assert (step.resources.limits, step.args, step.script) == ({"cpu": "2"}, (plans.text("2"),), plans.text("fit 2\n"))


def test_every_combination_has_the_bindings_of_the_step_and_a_token_of_its_own() -> None:
    extensions = [{"name": "store", "product": "mlflow"}]
    workflow = workflow_of(ALPHAS, BEST, extensions=extensions)
    opened = examples.binding("store", configuration={"MLFLOW_TRACKING_TOKEN": "<step token>"}, secret_keys=[])
    plan = examples.plan_of(workflow, bindings={"trainer": {"store": opened}})
    assert [item.step for item in plan.bindings] == ["trainer-1", "trainer-2", "trainer-3"]
    assert all(item.binding == opened for item in plan.bindings)
    for name in ("trainer-1", "trainer-2", "trainer-3"):
        variables = examples.variables(plan.step(name))
        assert variables["MLFLOW_TRACKING_TOKEN"] == (plans.step_token(name),)
        assert variables["FUSEML_ENV_STEP"] == plans.text("trainer")


@pytest.mark.parametrize("best", [None, BEST])
def test_until_keeps_all_combinations(best: dict[str, str] | None) -> None:
    plan = replan.up_to(plan_of(ALPHAS, best), "trainer")
    assert names(plan) == ["prepare", "trainer-1", "trainer-2", "trainer-3", *(["trainer"] if best else [])]
    assert names(replan.up_to(plan_of(ALPHAS, best), "trainer-2")) == ["prepare", "trainer-2"]


@pytest.mark.parametrize("best", [None, BEST])
def test_only_runs_all_combinations_on_recorded_outputs(best: dict[str, str] | None) -> None:
    done = {"prepare": replan.StepResult("example-1", {"data": "s3://data"})}
    plan = replan.only(plan_of(ALPHAS, best), "trainer", done)
    assert names(plan) == ["trainer-1", "trainer-2", "trainer-3", *(["trainer"] if best else [])]
    assert examples.variables(plan.step("trainer-3"))["FUSEML_DATA"] == plans.text("s3://data")
    assert names(replan.only(plan_of(ALPHAS, best), "trainer-3", done)) == ["trainer-3"]


def test_an_unknown_step_is_refused_with_the_steps_of_the_run() -> None:
    with pytest.raises(errors.NotFoundError, match="trainer-1, trainer-2, trainer-3, trainer, server"):
        replan.up_to(plan_of(ALPHAS, BEST), "trainer-4")


def test_resuming_repeats_the_failed_combination_and_keeps_the_others() -> None:
    outputs = {"model": "models:/m/1", "metrics": '{"rmse": 1}'}
    done = {
        "prepare": replan.StepResult("example-1", {"data": "s3://data"}),
        **{f"trainer-{number}": replan.StepResult("example-1", outputs) for number in (1, 3)},
    }
    plan = replan.resume(plan_of(ALPHAS, BEST), done, images={"trainer": "registry.example.com/trainer:2"})
    assert names(plan) == ["trainer-2", "trainer", "server"]
    assert plan.step("trainer-2").image == plans.text("registry.example.com/trainer:2")
    assert plan.step("trainer").image == plans.text(combinations.RANKER)
    assert [step.combination.values for step in plan.reused if step.combination] == [{"alpha": "1"}, {"alpha": "3"}]
    assert examples.variables(plan.step("trainer"))["FUSEML_OUTPUT_3_1"] == plans.text("models:/m/1")


def test_an_inserted_value_leaves_the_keys_of_the_other_combinations() -> None:
    """A combination is known by its values, so its number does not decide about reuse."""

    def keys(alphas: list[str]) -> dict[str, str]:
        workflow = workflow_of({"alpha": alphas}, BEST, cache=True, extensions=[{"name": "store", "product": "mlflow"}])
        opened = examples.binding("store", configuration={"MLFLOW_TRACKING_TOKEN": "<step token>"}, secret_keys=[])
        plan = step_cache.with_content(examples.plan_of(workflow, bindings={"trainer": {"store": opened}}), lambda *_: "c" * 64)
        prints = {
            step.combination.values["alpha"]: step_cache.fingerprint(plan, step, {"prepare": {"data": "s3://data"}})
            for step in plan.steps
            if step.combination
        }
        return {alpha: step_cache.key(found) for alpha, found in prints.items() if found is not None}

    before, after = keys(["1", "3"]), keys(["1", "2", "3"])
    assert len(set(after.values())) == 3
    assert before.items() <= after.items()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_the_number_of_combinations_is_limited(sizes: list[int]) -> None:
    values = {f"name{index}": [str(number) for number in range(size)] for index, size in enumerate(sizes)}
    number = matrix.count(values)
    if number <= matrix.MAX_COMBINATIONS:
        assert len(workflow_of(values).steps[1].combinations) == number
        return
    with pytest.raises(errors.InvalidError) as caught:
        workflow_of(values)
    [problem] = caught.value.problems
    assert problem.path == "steps[1].matrix.values"
    assert f"at most 64 combinations; this one has {number} (" in problem.message


def test_an_immense_matrix_is_refused_without_making_its_combinations() -> None:
    values = {f"name{index}": [str(number) for number in range(1000)] for index in range(6)}
    with pytest.raises(errors.InvalidError, match="this one has 1000000000000000000 "):
        workflow_of(values)
