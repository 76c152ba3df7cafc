"""Expressions: every documented form, the original's conformance table, and InvalidError as the only error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.documents import expression
from fuseml.domain.documents.expression import ExtensionReference, InputReference, Literal, MatrixReference, OutputReference

SCOPE = expression.Scope(
    inputs={"predictor": False, "cs": True},
    outputs={"trainer": ["model"], "builder": ["image"]},
    selectors=["store"],
    matrix=["alpha"],
)


def parse(text: str) -> tuple[expression.Node, ...]:
    return expression.parse(text, SCOPE.knows)


def problem_of(text: str) -> errors.Problem:
    with pytest.raises(errors.InvalidError) as caught:
        parse(text)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("{{ inputs.predictor }}", InputReference("predictor")),
        ("{{ inputs.cs.name }}", InputReference("cs", "name")),
        ("{{ inputs.cs.project }}", InputReference("cs", "project")),
        ("{{ inputs.cs.version }}", InputReference("cs", "version")),
        ("{{ steps.trainer.outputs.model }}", OutputReference("trainer", "model")),
        ("{{ matrix.alpha }}", MatrixReference("alpha")),
        *[
            (f"{{{{ {root}.store.{attribute} }}}}", ExtensionReference("store", attribute))
            for root in ("extension", "extensions")
            for attribute in ("url", "version", "zone", "product", "service_resource", "service_category")
        ],
        ("{{ extension.store.cfg.AWS_ACCESS_KEY_ID }}", ExtensionReference("store", "cfg", "AWS_ACCESS_KEY_ID")),
        ("{{ extensions.store.cfg.AWS_ACCESS_KEY_ID }}", ExtensionReference("store", "cfg", "AWS_ACCESS_KEY_ID")),
    ],
)
def test_every_documented_form_parses(text: str, reference: expression.Reference) -> None:
    assert parse(text) == (reference,)
    assert SCOPE.knows(reference)


@pytest.mark.parametrize("text", ["{{inputs.predictor}}", "{{  inputs.predictor  }}", "{{\tinputs.predictor\n}}", "{{ inputs.predictor}}"])
def test_spaces_inside_braces_are_optional(text: str) -> None:
    assert parse(text) == (InputReference("predictor"),)


def test_text_and_references_keep_their_order() -> None:
    assert parse("a/{{ steps.trainer.outputs.model }}/b{{inputs.predictor}}") == (
        Literal("a/"),
        OutputReference("trainer", "model"),
        Literal("/b"),
        InputReference("predictor"),
    )


def test_references_keep_their_start() -> None:
    node = parse("a/{{ inputs.predictor }}")[1]
    assert isinstance(node, InputReference) and node.start == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        '{"requests": {"cpu": 1}}',
        '{"a": {"b": {"c": []}}}',
        "$HOME and ${HOME} and $(params.x)",
        "inputs",
        "inputs.",
        "inputs.unknown",
        "inputs.predictor and more",
        "inputs.cs",
        "steps.trainer.outputs.unknown",
        "extension.elsewhere.url",
        "}} {",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert "".join(node.text for node in parse(text) if isinstance(node, Literal)) == text
    assert all(isinstance(node, Literal) for node in parse(text))


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("inputs.predictor", InputReference("predictor")),
        ("inputs.cs.version", InputReference("cs", "version")),
        ("steps.trainer.outputs.model", OutputReference("trainer", "model")),
        ("extensions.store.url", ExtensionReference("store", "url")),
        ("matrix.alpha", MatrixReference("alpha")),
    ],
)
def test_a_whole_value_without_braces_is_a_reference_if_its_target_exists(text: str, reference: expression.Reference) -> None:
    assert parse(text) == (reference,)


@pytest.mark.parametrize(("text", "value"), [("{{ '{{' }}.State}}", "{{.State}}"), ('{{ "it\'s" }}', "it's"), ("{{ '' }}", "")])
def test_braces_are_written_as_a_literal(text: str, value: str) -> None:
    assert "".join(node.text for node in parse(text) if isinstance(node, Literal)) == value


@pytest.mark.parametrize(
    ("text", "message", "suggestion"),
    [
        ("{{ input.predictor }}", "it must begin with inputs, steps, extension or matrix", "inputs.predictor"),
        ("{{ workflow.name }}", "it must begin with inputs, steps, extension or matrix", None),
        ("{{ inputs.cs.versoin }}", "inputs.<codeset>.name", "inputs.cs.version"),
        ("{{ inputs }}", "inputs.<input>", None),
        ("{{ steps.trainer.results.model }}", "steps.<step>.outputs.<output>", "steps.trainer.outputs.model"),
        ("{{ steps.trainer }}", "steps.<step>.outputs.<output>", None),
        ("{{ extension.store.uri }}", "extension.<name>.cfg.<KEY>", "extension.store.url"),
        ("{{ extensions.store }}", "extension.<name>.cfg.<KEY>", None),
        ("{{ inputs.a b }}", "write a path of names and dots", None),
        ("{{ }}", "a path of names and dots", None),
        ("{{ inputs.predictor", "never closed by '}}'", None),
        ("{{{ inputs.predictor }}}", "write {{ '{{' }} for a literal '{{'", None),
        ("docker inspect -f '{{.State}}'", "a path of names and dots", None),
    ],
)
def test_malformed_expressions_are_refused_with_advice(text: str, message: str, suggestion: str | None) -> None:
    problem = problem_of(text)
    assert message in problem.message
    assert problem.suggestion == suggestion


def test_all_problems_of_a_text_are_listed_with_their_columns() -> None:
    with pytest.raises(errors.InvalidError) as caught:
        parse("ab{{ nothing.x }} {{ inputs }}")
    assert [problem.column for problem in caught.value.problems] == [3, 19]


@pytest.mark.parametrize(
    ("reference", "message", "suggestion"),
    [
        (InputReference("predctor"), "there is no input 'predctor'", "inputs.predictor"),
        (InputReference("zzz"), "there is no input 'zzz'; known: cs, predictor", None),
        (InputReference("cs"), "is a codeset, not a value", None),
        (InputReference("predictor", "name"), "is not a codeset", "inputs.predictor"),
        (OutputReference("trainr", "model"), "there is no step 'trainr'", "steps.trainer.outputs.model"),
        (OutputReference("trainer", "modle"), "step 'trainer' has no output 'modle'", "steps.trainer.outputs.model"),
        (ExtensionReference("sotre", "url"), "this step has no extension 'sotre'", "extension.store.url"),
    ],
)
def test_an_unknown_reference_is_explained(reference: expression.Reference, message: str, suggestion: str | None) -> None:
    problem = SCOPE.refusal(reference)
    assert problem is not None
    assert message in problem.message
    assert problem.suggestion == suggestion


def test_references_to_holes_are_not_validated() -> None:
    holed = expression.Scope({expression.HOLE: False}, {"trainer": [expression.HOLE], expression.HOLE: []}, [expression.HOLE])
    for reference in (InputReference("x"), OutputReference("trainer", "x"), OutputReference("x", "y"), ExtensionReference("x", "url")):
        assert holed.knows(reference)


@given(st.text(alphabet="{}' \"inputs.predictorcsxfgKEY-_\n", max_size=60) | st.text(max_size=60))
def test_any_text_parses_or_is_refused_and_plain_text_stays_as_it_is(text: str) -> None:
    try:
        nodes = parse(text)
    except errors.InvalidError as error:
        assert error.problems
        assert "{{" in text
        return
    if "{{" not in text and all(isinstance(node, Literal) for node in nodes):
        assert "".join(node.text for node in nodes if isinstance(node, Literal)) == text


@given(
    st.sampled_from([InputReference("a-b"), OutputReference("s", "o_1"), ExtensionReference("x", "cfg", "K"), InputReference("c", "name")])
)
def test_a_reference_parses_back_from_its_text(reference: expression.Reference) -> None:
    assert expression.parse(f"{{{{ {reference} }}}}", lambda _: True) == (reference,)
