"""Laws of matching: outputs and artifacts to the inputs of runnables, by type, format and framework."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain.registry import constraint
from fuseml.domain.runnables import builtin, descriptor, matching, steps
from fuseml.domain.runnables.descriptor import Accepts, Gives, Input, Output
from fuseml.domain.workflows import loading

TYPES: list[descriptor.Type] = list(typing.get_args(descriptor.Type))
SCALARS = [type_ for type_ in TYPES if type_ not in descriptor.ARTIFACTS]
FORMATS = ["mlflow", "onnx", "csv"]
FRAMEWORKS = ["scikit-learn", "torch"]
VERSIONS = ["1.3.0", "1.4.2", "2.0.0", "2.1.0-rc.1"]
LIMITS = ["", ">=1.4", "<2", "^2", "~1.3", ">=2.0-0"]

types = st.sampled_from(TYPES)
accepts = st.builds(
    Accepts,
    format=st.lists(st.sampled_from(FORMATS), max_size=2, unique=True),
    framework=st.lists(st.builds("{}{}".format, st.sampled_from(FRAMEWORKS), st.sampled_from(LIMITS)), max_size=3, unique=True),
)
inputs = st.builds(lambda type_, criteria: Input(name="x", type=type_, accepts=criteria), types, accepts)
offers = st.builds(
    matching.Offer,
    type=types,
    format=st.sampled_from(["", *FORMATS]),
    framework=st.sampled_from(["", *FRAMEWORKS]),
    version=st.sampled_from(["", *VERSIONS]),
)


@given(offers, inputs)
def test_the_verdict_is_the_worst_of_its_reasons(offer: matching.Offer, item: Input) -> None:
    match = matching.match(offer, item)
    order = ["fits", "unknown", "refused"]
    assert match.verdict == max((reason.verdict for reason in match.reasons), key=order.index)
    assert str(match)
    assert [reason.criterion for reason in match.reasons] == sorted(
        (reason.criterion for reason in match.reasons), key=["type", "format", "framework"].index
    )


@given(offers, inputs)
def test_an_artifact_fits_if_and_only_if_every_criterion_holds(offer: matching.Offer, item: Input) -> None:
    holds = offer.type == item.type or (
        offer.type in SCALARS and (item.type == "string" or (offer.type, item.type) == ("integer", "number"))
    )
    if holds and item.is_artifact:
        holds = not item.accepts.format or offer.format in item.accepts.format
        holds = holds and (not item.accepts.framework or any(admits(text, offer) for text in item.accepts.framework))
    assert matching.match(offer, item).fits == holds


def admits(text: str, offer: matching.Offer) -> bool:
    name = next(name for name in FRAMEWORKS if text.startswith(name))
    limits = text.removeprefix(name)
    return name == offer.framework and (not limits or (bool(offer.version) and constraint.satisfies(offer.version, limits)))


@given(offers, inputs)
def test_a_further_fact_never_turns_a_refusal_into_a_fit_and_unknown_needs_a_missing_one(offer: matching.Offer, item: Input) -> None:
    before = matching.match(offer, item)
    for name in ("format", "framework", "version"):
        if getattr(offer, name) == "":
            values = {"format": FORMATS, "framework": FRAMEWORKS, "version": VERSIONS}[name]
            after = [matching.match(dataclasses.replace(offer, **{name: value}), item).verdict for value in values]
            assert before.verdict != "refused" or "fits" not in after
    if before.verdict == "unknown":
        assert "" in (offer.format, offer.framework, offer.version)


@given(offers, inputs)
def test_an_input_without_criteria_accepts_what_a_stricter_one_accepts(offer: matching.Offer, item: Input) -> None:
    if matching.match(offer, item).fits:
        assert matching.match(offer, item.model_copy(update={"accepts": Accepts()})).fits


@given(types)
def test_an_output_fits_an_input_of_its_own_type(type_: descriptor.Type) -> None:
    assert matching.match(matching.of_output(Output(name="o", type=type_)), Input(name="i", type=type_)).fits


@pytest.mark.parametrize(
    ("gives", "expected"),
    [
        (Gives(), matching.Offer("model")),
        (Gives(format="mlflow", framework="scikit-learn 1.5.0"), matching.Offer("model", "mlflow", "scikit-learn", "1.5.0")),
        (Gives(framework="torch"), matching.Offer("model", "", "torch", "")),
    ],
)
def test_an_output_gives_its_framework_with_the_version(gives: Gives, expected: matching.Offer) -> None:
    assert matching.of_output(Output(name="model", type="model", gives=gives)) == expected


@pytest.mark.parametrize(("kind", "type_"), [("code", "codeset"), ("model", "model"), ("runnable", "runnable"), ("image", "image")])
def test_an_artifact_is_offered_as_the_type_of_its_kind(kind: str, type_: str) -> None:
    offer = matching.of_artifact(kind, None, None, None)
    assert offer.type == type_
    assert not matching.match(offer, Input(name="text", type="string")).fits


def test_the_built_in_steps_fit_one_another() -> None:
    own = builtin.by_name()
    model = own["trainer"].output("model")
    assert model is not None
    for name in ("predictor", "scorer", "evaluator"):
        item = own[name].input("model")
        assert item is not None
        assert matching.match(matching.of_output(model), item).fits, name


@pytest.mark.parametrize(
    ("fields", "use", "word"),
    [
        ({"type": "model"}, "artifact: {address: 'model://p/m/1'}", ""),
        ({"type": "model"}, "value: 'models:/m/1'", ""),
        ({"type": "dataset"}, "value: rows.csv", ""),
        ({"type": "string"}, "artifact: {address: 'model://p/m/1'}", "is a string, not an artifact"),
        ({"type": "model"}, "artifact: {address: 'dataset://p/d/1'}", "another kind: dataset"),
        ({"type": "dataset"}, "artifact: {address: 'model://p/m@best'}", "another kind: model"),
        ({"type": "dataset"}, "value: 'models:/m/1'", "another kind: model"),
        ({"type": "model", "pass": "argument"}, "artifact: {address: 'model://p/m/1'}", "passed in its variable only"),
        ({"type": "model", "pass": "file"}, "artifact: {address: 'model://p/m/1'}", "passed in its variable only"),
        ({"type": "model", "inserted": True}, "artifact: {address: 'model://p/m/1'}", "puts the input into a text"),
    ],
)
def test_the_artifact_of_an_input_fits_its_declaration(fields: dict[str, object], use: str, word: str) -> None:
    env = [{"name": "A", "value": "{{ inputs.a }}"}] if fields.get("inserted") else []
    declared = {"name": "a", **{name: value for name, value in fields.items() if name != "inserted"}}
    runnable = descriptor.Runnable.model_validate({"name": "fit", "version": "1.0.0", "image": "i:1", "inputs": [declared], "env": env})
    workflow = loading.load(f"name: w\nsteps: [{{name: s, runnable: fit, inputs: [{{name: a, {use}}}]}}]")
    found = steps.expand(workflow, {"s": steps.Registered("runnable://p/fit/1.0.0", runnable)}).problems
    assert [word in message for _, message, _ in found] == ([True] if word else [])
