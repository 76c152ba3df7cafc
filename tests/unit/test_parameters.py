"""Parameters of the code: their text, and their place among the inputs of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.workflows import lint, loading, parameters

WORKFLOW = """
name: train
inputs: [{name: hyper, type: parameters, default: "alpha=1"}]
steps: [{name: train, image: a:1, inputs: [{name: parameters, value: "{{ inputs.hyper }}"}]}]
"""
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.dictionaries(NAMES, VALUES))
def test_the_text_of_parameters_keeps_every_value(values: dict[str, str]) -> None:
    assert parameters.parse(parameters.render(values)) == values


def test_lint_explains_the_input() -> None:
    findings = [finding for finding in lint.lint_text(WORKFLOW) if finding.path == "inputs[0].type"]
    assert [(finding.level, finding.line) for finding in findings] == [("note", 3)]
    assert "(-i NAME=VALUE) are parameters of the code, in the input 'hyper'" in findings[0].message


def test_a_default_stays_unless_a_run_gives_a_value() -> None:
    workflow = loading.load(WORKFLOW)
    assert parameters.collected(workflow, {}) == ({"hyper": "alpha=1"}, [])
    assert parameters.collected(workflow, {"beta": "2"}) == ({"hyper": "alpha=1 beta=2"}, [])
    assert parameters.collected(workflow, {"hyper": "", "alpha": "3"}) == ({"hyper": "alpha=3"}, [])


@pytest.mark.parametrize(
    ("inputs", "cause"),
    [
        ("[{name: a, type: parameters}, {name: b, type: parameters}]", "one input takes the parameters of the code, and that of line 3"),
        ("[{name: a, type: parameters, default: alpha}]", "'alpha' is not name=value; write pairs"),
    ],
)
def test_a_workflow_has_one_such_input_with_pairs(inputs: str, cause: str) -> None:
    text = f"name: train\n\ninputs: {inputs}\nsteps: [{{name: train, image: a:1}}]"
    with pytest.raises(errors.InvalidError) as raised:
        loading.load(text)
    assert cause in str(raised.value)
