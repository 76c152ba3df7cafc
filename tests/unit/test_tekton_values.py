"""Whatever a plan's texts hold, the programs of its steps see what the plan says, although Tekton and the kubelet look for variables."""

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


def seen(step: plans.StepPlan) -> tekton_model.Seen:
    """What the step's program sees, after two steps that wrote OUTPUTS."""
    before = [engines.shell(name, "true", outputs=list(written)) for name, written in OUTPUTS.items()]
    plan = tekton_plans.make(*before, step)
    secrets = {part.ref: SECRETS[part.key] for part in plans.secret_refs(plan)}
    admission.admit(plan, secrets)
    rendered = render.render(plan, secrets, Settings())
    task = rendered.pipeline_run["spec"]["pipelineSpec"]["tasks"][-1]
    [container] = task["taskSpec"]["steps"]
    return tekton_model.run_container(task, container, OUTPUTS, rendered.secret["stringData"] if rendered.secret else {})


def meant(value: plans.Value) -> str:
    return plans.evaluate(value, OUTPUTS, lambda part: SECRETS[part.key])


@given(
    variables=st.dictionaries(st.sampled_from(["HOME", "FUSEML_PART_0", "FUSEML_PART_1", "X", "Y"]), parts(OUTPUT, SECRET), max_size=4),
    command=st.lists(parts(OUTPUT), min_size=1, max_size=3),
    args=st.lists(parts(OUTPUT), max_size=2),
)
@example(variables={"X": (*plans.text("$"), *plans.text("(params.output-0)"))}, command=[plans.text("$")], args=[])
@settings(max_examples=300, deadline=None)
def test_environment_and_arguments_arrive_as_the_plan_says(
    variables: dict[str, plans.Value], command: list[plans.Value], args: list[plans.Value]
) -> None:
    listed = tuple(plans.Variable(name=name, value=value) for name, value in variables.items())
    step = plans.StepPlan(name="it", image=plans.text("image:1"), command=tuple(command), args=tuple(args), variables=listed)
    got = seen(step)
    assert {name: got.environment[name] for name in variables} == {name: meant(value) for name, value in variables.items()}
    assert got.arguments == [meant(value) for value in (*command, *args)]
    assert got.environment["FUSEML_ENV_RESULTS"] == "/tekton/results"


@given(script=parts(OUTPUT))
@settings(max_examples=200, deadline=None)
def test_a_script_arrives_as_the_plan_says_or_is_refused(script: plans.Value) -> None:
    step = plans.StepPlan(name="it", image=plans.text("image:1"), script=script)
    if values.is_variable(script) and values.is_dynamic(script):
        with pytest.raises(errors.PermanentError, match=r"its script contains text that Tekton would replace as a variable.*as an input"):
            seen(step)
    elif meant(script) and script:
        assert (seen(step).script or "").removeprefix("#!/bin/sh\nset -e\n") == meant(script).removeprefix("#!/bin/sh\nset -e\n")


@given(text=TEXT)
def test_texts_that_are_not_carried_hold_nothing_that_tekton_replaces(text: str) -> None:
    if not values.is_variable(plans.text(text)):
        task = {"taskSpec": {"params": [{"name": "output-0"}], "results": [{"name": "out"}], "workspaces": [{"name": "code-0"}]}}
        known = {"tasks.first.results.value": "replaced"}
        for replacements in tekton_model.passes(task, {"output-0": "replaced"}, known):
            assert tekton_model.apply_replacements(text, replacements) == text


def test_an_image_may_be_an_output_and_a_script_may_hold_one() -> None:
    got = seen(
        plans.StepPlan(
            name="it",
            image=engines.out("first", "value"),
            script=(*plans.text("use "), *engines.out("first", "other"), *plans.text(" $(date)")),
        )
    )
    assert (got.image, got.script) == ("models:/m/1", 'use a\'b "c" {d}\\ $(date)')


def test_a_secret_that_is_used_many_times_is_carried_once() -> None:
    key = engines.secret("KEY")
    step = engines.shell("it", "true", env={"A": (key,), "B": (*plans.text("a"), key, *plans.text("b"), key), "C": (*plans.text("c"), key)})
    rendered = render.render(tekton_plans.make(step), {key.ref: "s3cret"}, Settings())
    assert rendered.secret is not None
    assert rendered.secret["stringData"] == {"secret.mlflow.tracking.default.KEY": "s3cret"}
    [container] = rendered.pipeline_run["spec"]["pipelineSpec"]["tasks"][0]["taskSpec"]["steps"]
    assert [variable["name"] for variable in container["env"]] == ["FUSEML_PART_0", "A", "B", "C", "FUSEML_ENV_RESULTS"]


@pytest.mark.parametrize(
    ("operator", "listed", "expected"),
    [("in", ["a"], True), ("in", ["b"], False), ("in", [], False), ("notin", ["a"], False), ("notin", ["b"], True), ("notin", [], True)],
)
def test_a_condition_on_texts_is_decided_before_the_run(operator: str, listed: list[str], expected: bool) -> None:
    condition = plans.Condition.model_validate(
        {"input": plans.text("a"), "operator": operator, "values": [plans.text(text) for text in listed]}
    )
    assert values.holds(condition) is expected


def test_a_condition_on_an_output_is_left_to_tekton_unless_nothing_is_listed() -> None:
    condition = plans.Condition(input=engines.out("first", "value"), values=(plans.text("a"),))
    assert values.holds(condition) is None
    assert values.holds(condition.model_copy(update={"values": ()})) is False
    assert values.holds(condition.model_copy(update={"values": (), "operator": "notin"})) is True
