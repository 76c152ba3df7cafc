"""Inputs of type `number`: the plan of a run refuses every other text."""

from __future__ import annotations

import pytest

from fuseml.domain import errors
from fuseml.domain.workflows import loading
from tests.unit import workflow_examples as examples

DOCUMENT = """
name: w
inputs: [{name: rows, type: number, default: 10}]
steps: [{name: s, image: 'i:1', inputs: [{name: rows, value: '{{ inputs.rows }}'}]}]
"""


@pytest.mark.parametrize("value", ["8", "-0.5", "1e-3", ".5", "5.", "+2"])
def test_a_number_is_planned(value: str) -> None:
    assert examples.plan_of(loading.load(DOCUMENT), inputs={"rows": value}).steps


@pytest.mark.parametrize("value", ["xx", "", "1,5", "0x1", "nan", "1e", "\u0663", "1\n", "9" * 50 + "x"])
def test_another_text_is_refused(value: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"inputs\.rows: .* is not a number"):
        examples.plan_of(loading.load(DOCUMENT), inputs={"rows": value})
