"""Descriptors of runnables, values of their inputs, references to versions, built-in ones, and those that builders make."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import fuseml
from fuseml.domain import errors
from fuseml.domain.runnables import builtin, descriptor, reference, steps, values, variants
from fuseml.domain.runnables.descriptor import Input
from fuseml.domain.workflows import loading

SMALL = {"name": "fit", "version": "1.0.0", "image": "registry.example.com/fit:1"}


def problems(**fields: object) -> dict[str, str]:
    try:
        descriptor.load(yaml.safe_dump({**SMALL, **fields}))
    except errors.InvalidError as error:
        return {problem.path: problem.message for problem in error.problems}
    return {}


# Descriptors


def test_a_stored_descriptor_is_read_as_it_was_and_its_digest_is_that_of_its_content() -> None:
    runnable = descriptor.load(
        yaml.safe_dump({**SMALL, "inputs": [{"name": "a", "pass": "file", "accepts": {}}], "labels": {"b": 1, "a": 2}})
    )
    again = descriptor.Runnable.model_validate(json.loads(json.dumps(runnable.stored())))
    assert (again, again.digest) == (runnable, runnable.digest)
    next_version = runnable.model_copy(update={"version": "1.0.1"})
    assert next_version.digest != runnable.digest
    assert next_version.content == runnable.content


@pytest.mark.parametrize("version", ["1.2.0", "0.0.1", "10.20.30-rc.1"])
def test_a_version_is_semantic(version: str) -> None:
    assert problems(version=version) == {}


@pytest.mark.parametrize("version", ["1", "1.2", "v1.2.0", "1.2.0+build", "01.0.0", "1.0.0-", "1.0.0-01", "latest", "1.0.0/2"])
def test_another_text_is_no_version(version: str) -> None:
    assert problems(version=version).keys() == {"version"}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"image": ""}, "image"),
        ({"build": {"codeset": "demo/fit"}}, "image"),
        ({"image": "", "build": {"codeset": "a/b/c"}}, "build.codeset"),
        ({"image": "", "build": {"codeset": ""}}, "build.codeset"),
        ({"image": "", "build": {"codeset": "fit", "dockerfile": "../Dockerfile"}}, "build.dockerfile"),
        ({"image": "", "build": {"codeset": "fit", "dockerfile": "/Dockerfile"}}, "build.dockerfile"),
        ({"image": "", "build": {"codeset": "fit", "dockerfile": "."}}, "build.dockerfile"),
        ({"image": "", "build": {"codeset": "fit", "dockerfile": ""}}, "build.dockerfile"),
        ({"image": "", "build": {"codeset": "fit", "commit": "main"}}, "build.commit"),
        ({"command": ["a"], "script": "b"}, "script"),
        ({"args": ["{{ steps.a.outputs.b }}"]}, "args[0]"),
        ({"args": ["{{ inputs.x"]}, "args[0]"),
        ({"inputs": [{"name": "a-b"}, {"name": "a_b"}]}, "inputs[1].name"),
        ({"inputs": [{"name": "a b"}]}, "inputs[0].name"),
        ({"inputs": [{"name": "a", "type": "integer", "default": "1.5"}]}, "inputs[0].default"),
        ({"inputs": [{"name": "a", "values": ["x"], "default": "y"}]}, "inputs[0].default"),
        ({"inputs": [{"name": "a", "default": "{{ inputs.b }}"}]}, "inputs[0].default"),
        ({"inputs": [{"name": "a", "type": "boolean", "values": ["yes please"]}]}, "inputs[0].values[0]"),
        ({"inputs": [{"name": "a", "minimum": 1}]}, "inputs[0].minimum"),
        ({"inputs": [{"name": "a", "type": "number", "minimum": 2, "maximum": 1}]}, "inputs[0].minimum"),
        ({"inputs": [{"name": "a", "type": "number", "minimum": float("nan")}]}, "inputs[0].minimum"),
        ({"inputs": [{"name": "a", "type": "number", "maximum": float("inf")}]}, "inputs[0].maximum"),
        ({"inputs": [{"name": "a", "type": "number", "minimum": True}]}, "inputs[0].minimum"),
        ({"inputs": [{"name": "a", "type": "number", "minimum": "1"}]}, "inputs[0].minimum"),
        ({"inputs": [{"name": "a", "type": "integer", "maximum": 10**400}]}, "inputs[0].maximum"),
        ({"inputs": [{"name": "a", "type": "model", "values": ["m"]}]}, "inputs[0].values"),
        ({"inputs": [{"name": "a", "accepts": {"format": "csv"}}]}, "inputs[0].accepts"),
        ({"inputs": [{"name": "a", "type": "model", "accepts": {"framework": "torch>>1"}}]}, "inputs[0].accepts.framework[0]"),
        ({"inputs": [{"name": "a", "type": "codeset", "default": "x"}]}, "inputs[0].default"),
        ({"inputs": [{"name": "a", "type": "dataset", "watch": {"paths": ["x"]}}]}, "inputs[0].watch.paths"),
        ({"outputs": [{"name": "a", "gives": {"format": "csv"}}]}, "outputs[0].gives"),
        ({"outputs": [{"name": "a"}, {"name": "a"}]}, "outputs[1].name"),
        ({"resources": {"limits": {"cpu": "many"}}}, "resources.limits.cpu"),
        ({"kind": "engine"}, "kind"),
        ({"imag": "x"}, "imag"),
    ],
)
def test_a_wrong_field_is_refused_at_its_place(fields: dict[str, object], path: str) -> None:
    assert path in problems(**fields)


# Values


def typed(type_: Any, **fields: Any) -> Input:
    return Input(name="x", type=type_, **fields)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_every_integer_of_64_bits_is_one_and_a_number(number: int) -> None:
    assert values.fault(typed("integer"), str(number)) == ""
    assert values.fault(typed("number"), str(number)) == ""


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_one(number: float) -> None:
    assert values.fault(typed("number"), repr(number)) == ""


@given(st.text(max_size=20))
def test_a_text_of_another_form_is_no_number(text: str) -> None:
    try:
        is_number = abs(float(text)) < float("inf") and text.strip() == text and "_" not in text and text.isascii()
    except ValueError:
        is_number = False
    assert (values.fault(typed("number"), text) == "") == is_number


@pytest.mark.parametrize(
    ("item", "text", "word"),
    [
        (typed("number"), "rows=xx", "not a number"),
        (typed("number"), "nan", "not a number"),
        (typed("number"), "1e999", "not a number"),
        (typed("integer"), "1.0", "not an integer"),
        (typed("integer"), str(1 << 63), "64 bits"),
        (typed("boolean"), "yes", "true or false"),
        (typed("integer", minimum=2), "1", "less than the minimum, 2"),
        (typed("number", maximum=0.5), "0.51", "greater than the maximum, 0.5"),
        (typed("string", values=["min", "max"]), "mim", "did you mean 'min'"),
        (typed("integer", values=["2", "4"]), "3", "is not one of 2, 4"),
    ],
)
def test_a_value_of_another_type_is_refused_with_the_reason(item: Input, text: str, word: str) -> None:
    assert word in values.fault(item, text)


def test_a_whole_bound_is_exact() -> None:
    most = (1 << 63) - 2
    item = Input.model_validate(json.loads(json.dumps(typed("integer", maximum=most).model_dump(mode="json", by_alias=True))))
    assert values.fault(item, str(most)) == ""
    assert values.fault(item, str(most + 1)).endswith(f"greater than the maximum, {most}")


# References


def test_a_reference_chooses_the_highest_version_that_it_admits() -> None:
    texts = ["1.9.0", "1.10.0", "2.0.0-rc.1", "0.9.0"]
    chosen = {text: reference.choose(reference.parse(text), texts) for text in ("fit", "fit@^1.9", "fit@<1", "fit@>=2.0-0", "fit@^3")}
    assert chosen == {"fit": "1.10.0", "fit@^1.9": "1.10.0", "fit@<1": "0.9.0", "fit@>=2.0-0": "2.0.0-rc.1", "fit@^3": None}


@pytest.mark.parametrize("text", ["", "a b", "@^1", "fit@", "fit@much!", "runnable://p/fit/1.0.0", "-fit"])
def test_another_text_is_no_reference(text: str) -> None:
    with pytest.raises(errors.InvalidError):
        reference.parse(text)


# Built-in


@pytest.mark.parametrize("name", builtin.by_name())
def test_a_built_in_runnable_is_valid_and_has_the_version_of_the_product(name: str) -> None:
    runnable = builtin.by_name()[name]
    assert list(descriptor.problems(runnable)) == []
    assert (runnable.version, runnable.description != "") == (fuseml.__version__, True)
    assert builtin.find(builtin.address(runnable)) is runnable


# Made by builders


def test_a_made_runnable_has_the_fields_of_the_one_that_it_is_like() -> None:
    text = json.dumps(
        [{"name": "mine", "like": "trainer", "inputs": [{"name": "image", "default": "i:1"}, {"name": "alpha", "type": "number"}]}]
    )
    [made] = variants.read(text)
    base = builtin.by_name()["trainer"]
    assert [item.name for item in made.inputs] == [*(item.name for item in base.inputs), "alpha"]
    assert (made.outputs, made.extensions, made.kind, made.version) == (base.outputs, base.extensions, "trainer", "1.0.0")


@pytest.mark.parametrize(
    "text",
    [
        *("{", "{}", "[1]", '[{"name": "a", "like": "nothing"}]', '[{"name": "a"}]', "[" * 100_000),
        '[{"name": "a", "image": "i", "inputs": [{"name": "x", "type": "number", "minimum": NaN}]}]',
        '[{"name": "a", "like": "trainer", "inputs": {"name": "x"}}]',
        '[{"name": "a", "like": "trainer", "inputs": ["x"]}]',
    ],
)
def test_a_malformed_output_of_a_builder_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError):
        variants.read(text)


@pytest.mark.parametrize(("version", "following"), [("1.0.0", "1.1.0"), ("2.9.3", "2.10.0"), ("1.0.0-rc.1", "1.1.0")])
def test_the_successor_is_the_next_minor_version(version: str, following: str) -> None:
    assert variants.successor(version) == following


# Texts of a runnable in a workflow


@given(st.text(st.sampled_from("{}'\"inputs.a $()\n"), max_size=12))
def test_a_text_of_a_runnable_stays_as_it_is_in_a_workflow(text: str) -> None:
    """Only the references to its own inputs change."""
    document = {**SMALL, "inputs": [{"name": "a", "default": "1"}, {"name": "b", "default": text}]}
    try:
        runnable = descriptor.load(yaml.safe_dump(document))
    except errors.InvalidError:
        assert "{{" in text, "a default that holds no expression is refused"
        return
    workflow = loading.load("name: w\ninputs: [{name: a, default: x}]\nsteps: [{name: s, runnable: fit}]")
    expansion = steps.expand(workflow, {"s": steps.Registered("runnable://p/fit/1.0.0", runnable)})
    from tests.unit import workflow_examples

    [step] = workflow_examples.plan_of(expansion.workflow).steps
    found = {item.name: "".join(getattr(part, "text", "?") for part in item.value) for item in step.variables}
    assert found.get("FUSEML_B", "") == text


@pytest.mark.parametrize(
    ("text", "value", "joins"),
    [
        ("{{ '{' }}{{ inputs.a }}", "{ extension.db.cfg.PASSWORD }}", True),
        ("{{ inputs.a }}{ 'x' }}", "{", True),
        ("in{{ inputs.a }}", "puts.secret", True),
        ('{"a": {{ inputs.a }}}', "{{ inputs.secret }}", False),
        ("{{ '{{' }}{{ inputs.a }}", "{ extension.db.cfg.PASSWORD }}", False),
        ("--a={{ inputs.a }}", "inputs.secret", False),
        ("{{ inputs.a }}", "{ }", False),
    ],
)
def test_a_value_and_a_text_join_to_no_expression(text: str, value: str, joins: bool) -> None:
    runnable = descriptor.load(yaml.safe_dump({**SMALL, "inputs": [{"name": "a"}], "args": [text]}))
    document = {
        "name": "w",
        "inputs": [{"name": "secret"}],
        "steps": [{"name": "s", "runnable": "fit", "inputs": [{"name": "a", "value": value}]}],
    }
    found = steps.expand(loading.load(yaml.safe_dump(document)), {"s": steps.Registered("runnable://p/fit/1.0.0", runnable)}).problems
    assert ["join to an expression" in message for _, message, _ in found] == [True] * joins
