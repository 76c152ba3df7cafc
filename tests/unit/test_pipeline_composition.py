"""Composition of pipelines: the couplings, what is missing or ambiguous, and that every result keeps the rules of workflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.pipelines import components, composition
from fuseml.domain.runnables import builtin, descriptor, matching, steps
from fuseml.domain.workflows import lint, loading, rules

OWN = {name: steps.Registered(builtin.address(runnable), runnable) for name, runnable in builtin.by_name().items()}


def registered(**fields: Any) -> steps.Registered:
    runnable = descriptor.check(document.Parsed({"version": "1.0.0", "image": "registry.example.com/step:1", **fields}))
    return steps.Registered(f"runnable://demo/{runnable.name}/1.0.0", runnable)


def compose(*texts: str, known: Sequence[steps.Registered] = (), **asked: Any) -> composition.Composition:
    found = {**OWN, **{item.runnable.name: item for item in known}}
    parts = components.named([(item, found[item.reference.name]) for item in components.wanted(texts)])
    return composition.compose("train", parts, **asked)


def problems(*texts: str, known: Sequence[steps.Registered] = (), **asked: Any) -> list[tuple[str, str]]:
    with pytest.raises(errors.InvalidError) as refused:
        compose(*texts, known=known, **asked)
    return [(problem.path, problem.message) for problem in refused.value.problems]


def inputs_of(found: composition.Composition, step: str) -> dict[str, str]:
    [part] = [part for part in found.workflow.steps if part.name == step]
    return {item.name: item.codeset.name if item.codeset else item.value or "" for item in part.inputs}


MODEL = {"name": "model", "type": "model"}
PICKLED = registered(name="export", outputs=[{**MODEL, "gives": {"format": "pickle"}}])
PLAIN = registered(name="load", outputs=[MODEL])
SPLIT = registered(name="split", outputs=[{"name": "training", "type": "dataset"}, {"name": "test", "type": "dataset"}])
FIT = registered(name="fit", inputs=[{"name": "training", "type": "dataset"}], outputs=[MODEL])
CHECK = registered(name="check", inputs=[{"name": "rows", "type": "dataset"}])


def test_the_builder_the_trainer_and_the_predictor_of_mlflow_are_coupled() -> None:
    found = compose("mlflow-builder", "mlflow-trainer", "kserve-predictor")
    assert [(item.input, item.source) for item in found.couplings] == [
        ("builder.codeset", "inputs.codeset"),
        ("trainer.codeset", "inputs.codeset"),
        ("trainer.image", "builder.image"),
        ("predictor.codeset", "inputs.codeset"),
        ("predictor.model", "trainer.model"),
        ("predictor.runtime", "builder.image"),
    ]
    assert all(item.reason for item in found.couplings)
    assert [(item.name, item.type) for item in found.workflow.inputs] == [("codeset", "codeset")]
    assert [item.name for item in found.workflow.outputs] == ["metrics", "prediction-url"]
    assert [part.runnable for part in found.workflow.steps] == ["mlflow-builder", "mlflow-trainer", "kserve-predictor"]
    assert [part.name for part in found.workflow.steps] == ["builder", "trainer", "predictor"]
    assert lint.lint_text(yaml.safe_dump(found.document)) == []


def test_an_artifact_that_nothing_gives_becomes_an_input_of_the_workflow() -> None:
    found = compose("predictor")
    assert [(item.name, item.type, item.default) for item in found.workflow.inputs] == [("model", "model", None)]
    # Without another step that needs one, an optional codeset is left out.
    assert inputs_of(found, "predictor") == {"model": "{{ inputs.model }}"}
    assert [part.name for part in compose("fit", "check", known=[FIT, CHECK]).workflow.inputs] == ["training", "rows"]


def test_a_value_that_nothing_gives_is_a_problem_with_the_ways_out() -> None:
    [(path, message), (other, _)] = problems("builder", "scorer")
    assert (path, other) == ("scorer.data", "scorer.output")
    for way in ("--input scorer.data makes", "--input scorer.data=VALUE", "--connect scorer.data=STEP.OUTPUT"):
        assert way in message
    found = compose("builder", "scorer", inputs=["scorer.data", "scorer.output=scored.csv"])
    assert {item.name: item.default for item in found.workflow.inputs if item.name != "codeset"} == {
        "model": None,
        "data": None,
        "output": "scored.csv",
    }


def test_outputs_that_fit_alike_are_a_problem_that_names_them() -> None:
    three = ("b=builder", "one=trainer", "two=trainer", "predictor")
    [(path, message)] = problems(*three)
    assert path == "predictor.model"
    assert "one.model, two.model" in message
    assert "--connect predictor.model=two.model" in message
    found = compose(*three, connections=["predictor.model=one.model"])
    assert inputs_of(found, "predictor")["model"] == "{{ steps.one.outputs.model }}"
    # Both steps have outputs of these names, so neither is one of the workflow.
    assert [item.name for item in found.workflow.outputs] == ["prediction-url"]


def test_an_output_of_the_name_of_the_input_is_preferred() -> None:
    assert inputs_of(compose("split", "fit", known=[SPLIT, FIT]), "fit") == {"training": "{{ steps.split.outputs.training }}"}
    [(path, message)] = problems("split", "check", known=[SPLIT, CHECK])
    assert path == "check.rows"
    assert "split.training, split.test" in message


def test_a_model_of_another_format_is_a_problem_and_one_of_unknown_format_is_coupled() -> None:
    [(path, message)] = problems("export", "predictor", known=[PICKLED])
    assert path == "predictor.model"
    assert "export.model does not fit: the format is pickle, and mlflow or sklearn or" in message
    # From elsewhere, if that is meant.
    assert compose("export", "predictor", known=[PICKLED], inputs=["predictor.model"]).workflow.inputs[0].type == "model"
    found = compose("load", "predictor", known=[PLAIN])
    assert found.couplings[-1].source == "load.model"
    assert "may fit" in found.couplings[-1].reason
    optional = registered(name="compare", inputs=[{"name": "old", "type": "model", "accepts": {"format": "mlflow"}, "optional": True}])
    assert compose("load", "compare", known=[PLAIN, optional]).couplings == []


def test_parameters_become_an_input_that_takes_those_of_a_run() -> None:
    found = compose("builder", "trainer", inputs=["trainer.parameters"])
    assert [(item.name, item.type, item.default) for item in found.workflow.inputs][1:] == [("parameters", "parameters", None)]


def test_an_optional_output_exists_if_it_is_connected() -> None:
    check = registered(name="check", inputs=[{"name": "version", "optional": True}], outputs=[{"name": "ok"}])
    found = compose("builder", "trainer", "check", known=[check], connections=["check.version=trainer.model-version"])
    [trainer] = [part for part in found.workflow.steps if part.name == "trainer"]
    assert [output.name for output in trainer.outputs] == ["model", "metrics", "model-version"]


def test_inputs_of_one_name_are_one_input_unless_they_differ() -> None:
    first = registered(name="first", inputs=[{"name": "rows", "type": "integer"}])
    second = registered(name="second", inputs=[{"name": "rows", "type": "integer"}])
    both = compose("first", "second", known=[first, second], inputs=["first.rows", "second.rows"])
    assert [item.name for item in both.workflow.inputs] == ["rows"]
    apart = compose("first", "second", known=[first, second], inputs=["first.rows=1", "second.rows=2"])
    assert [(item.name, item.default) for item in apart.workflow.inputs] == [("rows", "1"), ("second-rows", "2")]


def test_an_input_whose_name_is_that_of_another_input_of_a_step_gets_a_name_of_its_own() -> None:
    first = registered(name="first", inputs=[{"name": "rows", "type": "integer"}, {"name": "second-rows", "type": "integer"}])
    second = registered(name="second", inputs=[{"name": "rows", "type": "integer"}])
    found = compose("first", "second", known=[first, second], inputs=["first.rows=1", "first.second-rows=2", "second.rows=3"])
    assert {item.name: item.default for item in found.workflow.inputs} == {"rows": "1", "second-rows": "2", "second-rows-2": "3"}
    assert inputs_of(found, "second") == {"rows": "{{ inputs.second-rows-2 }}"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"connections": ["trainer.imag=builder.image"]}, "did you mean 'image'?"),
        ({"connections": ["trainer.image=builder.imag"]}, "did you mean 'image'?"),
        ({"connections": ["trianer.image=builder.image"]}, "did you mean 'trainer'?"),
        ({"connections": ["builder.extras=trainer.metrics"]}, "is no earlier step"),
        ({"connections": ["trainer.codeset=builder.image"]}, "is a codeset"),
        ({"connections": ["trainer.image"]}, "STEP.INPUT=STEP.OUTPUT"),
        ({"connections": ["predictor.model=builder.image"]}, "a string is not a model"),
        ({"connections": ["predictor.batch-size=trainer.metrics"]}, "a string is not an integer"),
        ({"inputs": ["predictor.batch-size=many"]}, "not an integer"),
        ({"inputs": ["predictor"]}, "is not STEP.INPUT"),
        ({"inputs": ["builder.codeset=x"]}, "has no default"),
        ({"inputs": ["trainer.image", "trainer.image=x"]}, "given twice"),
        ({"inputs": ["trainer.image"], "connections": ["trainer.image=builder.image"]}, "given twice"),
        ({"inputs": ["trainer.entrypoint={{ inputs.codeset }}"]}, "plain text"),
    ],
)
def test_a_request_that_cannot_be_met_is_a_problem(asked: dict[str, Any], message: str) -> None:
    found = problems("builder", "trainer", "predictor", **asked)
    assert any(message in text for _, text in found), found


@pytest.mark.parametrize(("texts", "message"), [([], "1 to 50"), (["a b"], "not a runnable"), (["x=builder", "x=trainer"], "two steps")])
def test_runnables_that_cannot_be_steps_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(errors.InvalidError, match=message):
        compose(*texts)


def test_a_runnable_that_is_built_of_no_certain_code_is_refused() -> None:
    built = registered(name="built", image="", build={"codeset": "demo/code"})
    assert "does not fix the commit of demo/code" in problems("built", known=[built])[0][1]
    fixed = registered(name="built", image="", build={"codeset": "demo/code", "commit": "c" * 40})
    assert compose("built", known=[fixed]).workflow.steps[0].runnable == "built"


def test_a_constraint_stays_in_the_step() -> None:
    assert compose("t=builder@>=0.0.1").workflow.steps[0].runnable == "builder@>=0.0.1"


# Laws

NAMES = st.sampled_from(["data", "model", "rows", "image", "parameters", "code"])
TYPES = st.sampled_from(["codeset", "model", "dataset", "runnable", "string", "integer", "number", "boolean"])
FORMATS = st.sampled_from(["", "mlflow", "csv"])


@st.composite
def runnables(draw: st.DrawFn) -> steps.Registered:
    inputs = []
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        type_ = draw(TYPES)
        item: dict[str, Any] = {"name": name, "type": type_, "optional": draw(st.booleans())}
        if type_ in descriptor.ARTIFACTS and draw(st.booleans()):
            item["accepts"] = {"format": [draw(FORMATS) or "mlflow"]}
        if type_ == "integer" and draw(st.booleans()):
            item["default"] = 3
        if type_ == "string" and draw(st.booleans()):
            item["takes"] = [draw(NAMES)]
        inputs.append(item)
    outputs = []
    for name in draw(st.lists(NAMES, max_size=3, unique=True)):
        type_ = draw(TYPES)
        gives = {"gives": {"format": draw(FORMATS) or "csv"}} if type_ in descriptor.ARTIFACTS and draw(st.booleans()) else {}
        outputs.append({"name": name, "type": type_, "optional": draw(st.booleans()), **gives})
    kind = draw(st.sampled_from(["custom", "trainer", "builder"]))
    return registered(name=draw(st.sampled_from(["alpha", "beta_2", "Gamma"])), kind=kind, inputs=inputs, outputs=outputs)


asks = st.lists(
    st.builds("{}.{}{}".format, st.sampled_from(["alpha", "beta-2", "gamma", "trainer", "builder"]), NAMES, st.sampled_from(["", "=1"])),
    max_size=3,
)


@given(st.lists(runnables(), min_size=1, max_size=5), asks)
def test_what_is_composed_keeps_the_rules_and_all_else_has_a_reason(found: list[steps.Registered], inputs: list[str]) -> None:
    wanted = components.wanted([item.runnable.name for item in found])
    parts = components.named(list(zip(wanted, found, strict=True)))
    assert len({part.step for part in parts}) == len(parts)
    try:
        composed = composition.compose("pipeline", parts, (), inputs)
    except errors.InvalidError as error:
        assert all(problem.path and problem.message for problem in error.problems)
        return
    workflow = loading.load(yaml.safe_dump(dict(composed.document)))
    expansion = steps.expand(workflow, {part.step: part.registered for part in parts})
    assert not expansion.problems
    plain = [step.model_copy(update={"runnable": ""}) for step in expansion.workflow.steps]
    assert not rules.problems(expansion.workflow.model_copy(update={"steps": plain}), lambda _: None)
    by_step = {part.step: part for part in parts}
    for coupling in composed.couplings:
        step, name = coupling.input.split(".")
        item = by_step[step].runnable.input(name)
        giver, output = coupling.source.split(".")
        if giver == "inputs":
            continue
        source = by_step[giver].runnable.output(output)
        assert item
        assert source
        assert matching.match(matching.of_output(source), item).verdict != "refused"
        assert parts.index(by_step[giver]) < parts.index(by_step[step])
    given_inputs = {coupling.input for coupling in composed.couplings}
    for part in parts:
        needed = {f"{part.step}.{item.name}" for item in part.runnable.inputs if item.needs_value}
        assert needed <= given_inputs
