"""Programs of steps receive exactly the texts of the plan, although Tekton and the kubelet substitute variables."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuseml.domain import errors, plans
from fuseml.engines.tekton import Settings, admission, render, values
from tests.contract import engines
from tests.unit import tekton_model, tekton_plans

OUTPUTS = {"first": {"value": "models:/m/1", "other": 'a\'b "c" {d}\\'}, "se-cond": {"value": ""}}
FRAGMENTS = [
    *(
        "$",
        "$$",
        "$$$(",
        "$(",
        ")",
        "(",
        "date)",
        "$(date)",
        "$(HOME)",
        "$$(HOME)",
        "${HOME}",
        "$1",
        "€ x\n",
        "FUSEML_PART_0",
        "$(FUSEML_PART_0)",
    ),
    *("$(params.output-0)", "$(params.x)", "params.output-0)", '$(params["output-0"])', "$(inputs.params.output-0)", "$(results.out.path)"),
    *("$(context.taskRun.name)", "$(context.pipelineRun.name)", "$(workspaces.code-0.path)", "$(tasks.first.results.value)"),
    *(
        "$(steps.step-run.exitCode.path)",
        "$(credentials.path)",
        "$(step.artifacts.path)",
        "$(workspaces.source.bound)",
        "$(params.$(HOME))",
    ),
]
TEXT = st.lists(st.sampled_from(FRAGMENTS) | st.text("ab$()", max_size=3), max_size=5).map("".join)
OUTPUT = st.sampled_from([plans.OutputPart(step=step, output=name) for step, written in OUTPUTS.items() for name in written])
SECRET = st.sampled_from([engines.secret("KEY"), engines.secret("OTHER"), engines.secret("with.dot and space")])
SECRETS = {"KEY": "s3cret-$(HOME)-$$", "OTHER": "$(params.output-0)", "with.dot and space": "plain"}


def parts(*kinds: st.SearchStrategy[plans.Part]) -> st.SearchStrategy[plans.Value]:
    return st.lists(st.one_of(TEXT.map(lambda text: plans.TextPart(text=text)), *kinds), max_size=4).map(tuple)


def view_of(step: plans.StepPlan) -> tekton_model.ContainerView:
    """The step's container, as its program sees it, after two steps that wrote OUTPUTS."""
    before = [engines.shell(name, "true", outputs=list(written)) for name, written in OUTPUTS.items()]
    plan = tekton_plans.make(*before, step)
    secrets = {part.ref: SECRETS[part.key] for part in plans.secret_refs(plan)}
    admission.admit(plan, secrets)
    manifests = render.render(plan, secrets, Settings())
    task = manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"][-1]
    [container] = task["taskSpec"]["steps"]
    return tekton_model.run_container(task, container, OUTPUTS, manifests.secret["stringData"] if manifests.secret else {})


def expected_text(value: plans.Value) -> str:
    return plans.evaluate(value, OUTPUTS, lambda part: SECRETS[part.key])


@given(
    variables=st.dictionaries(st.sampled_from(["HOME", "FUSEML_PART_0", "FUSEML_PART_1", "X", "Y"]), parts(OUTPUT, SECRET), max_size=4),
    command=st.lists(parts(OUTPUT), min_size=1, max_size=3),
    args=st.lists(parts(OUTPUT), max_size=2),
)
@example(variables={"X": (*plans.text("$"), *plans.text("(params.output-0)"))}, command=[plans.text("$")], args=[])
@settings(max_examples=300)
def test_environment_and_arguments_equal_the_texts_of_the_plan(
    variables: dict[str, plans.Value], command: list[plans.Value], args: list[plans.Value]
) -> None:
    declared = tuple(plans.Variable(name=name, value=value) for name, value in variables.items())
    step = plans.StepPlan(name="it", image=plans.text("image:1"), command=tuple(command), args=tuple(args), variables=declared)
    view = view_of(step)
    assert {name: view.environment[name] for name in variables} == {name: expected_text(value) for name, value in variables.items()}
    assert view.arguments == [expected_text(value) for value in (*command, *args)]
    assert view.environment["FUSEML_ENV_RESULTS"] == "/tekton/results"


@given(script=parts(OUTPUT))
@settings(max_examples=200)
def test_a_script_equals_the_text_of_the_plan_or_is_rejected(script: plans.Value) -> None:
    step = plans.StepPlan(name="it", image=plans.text("image:1"), script=script)
    if values.is_variable(script) and values.is_dynamic(script):
        with pytest.raises(errors.PermanentError, match=r"its script contains text that Tekton would replace as a variable.*as an input"):
            view_of(step)
    elif expected_text(script) and script:
        assert (view_of(step).script or "").removeprefix("#!/bin/sh\nset -e\n") == expected_text(script).removeprefix("#!/bin/sh\nset -e\n")


@given(text=TEXT)
def test_texts_outside_the_secret_contain_nothing_that_tekton_replaces(text: str) -> None:
    if not values.is_variable(plans.text(text)):
        task = {"taskSpec": {"params": [{"name": "output-0"}], "results": [{"name": "out"}], "workspaces": [{"name": "code-0"}]}}
        result_values = {"tasks.first.results.value": "replaced"}
        for replacements in tekton_model.passes(task, {"name": "run"}, {"output-0": "replaced"}, result_values):
            assert tekton_model.apply_replacements(text, replacements) == text


def test_an_image_may_be_an_output_and_a_script_may_contain_one() -> None:
    view = view_of(
        plans.StepPlan(
            name="it",
            image=engines.out("first", "value"),
            script=(*plans.text("use "), *engines.out("first", "other"), *plans.text(" $(date)")),
        )
    )
    assert (view.image, view.script) == ("models:/m/1", 'use a\'b "c" {d}\\ $(date)')


def test_a_secret_that_is_used_repeatedly_has_one_key() -> None:
    key = engines.secret("KEY")
    step = engines.shell("it", "true", env={"A": (key,), "B": (*plans.text("a"), key, *plans.text("b"), key), "C": (*plans.text("c"), key)})
    manifests = render.render(tekton_plans.make(step), {key.ref: "s3cret"}, Settings())
    assert manifests.secret is not None
    assert manifests.secret["stringData"] == {"secret.mlflow.tracking.default.KEY": "s3cret"}
    [container] = manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"][0]["taskSpec"]["steps"]
    assert [variable["name"] for variable in container["env"]] == ["FUSEML_PART_0", "HOME", "USER", "A", "B", "C", "FUSEML_ENV_RESULTS"]


@pytest.mark.parametrize(
    ("operator", "texts", "expected"),
    [("in", ["a"], True), ("in", ["b"], False), ("in", [], False), ("notin", ["a"], False), ("notin", ["b"], True), ("notin", [], True)],
)
def test_a_condition_on_texts_is_decided_before_the_run(operator: str, texts: list[str], expected: bool) -> None:
    condition = plans.Condition.model_validate(
        {"input": plans.text("a"), "operator": operator, "values": [plans.text(text) for text in texts]}
    )
    assert values.holds(condition) is expected


def test_a_condition_on_an_output_is_left_to_tekton_unless_it_has_no_values() -> None:
    condition = plans.Condition(input=engines.out("first", "value"), values=(plans.text("a"),))
    assert values.holds(condition) is None
    assert values.holds(condition.model_copy(update={"values": ()})) is False
    assert values.holds(condition.model_copy(update={"values": (), "operator": "notin"})) is True
