"""The best combination: the least or greatest number, the first of equals, and never one without the metric."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import ranking

NUMBERS = st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf])


def is_rankable(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


@given(st.lists(NUMBERS, max_size=8), st.sampled_from(["min", "max"]))
def test_no_number_is_better_and_no_equal_one_is_earlier(found: list[float | None], goal: str) -> None:
    best = ranking.best(found, goal)
    if best is None:
        assert not any(map(is_rankable, found))
        return
    chosen = found[best]
    assert is_rankable(chosen) and chosen is not None
    for index, number in enumerate(found):
        if number is not None and math.isfinite(number):
            assert chosen <= number if goal == "min" else chosen >= number
            assert index >= best or number != chosen


@given(st.lists(NUMBERS, max_size=8))
def test_the_goals_mirror_each_other(found: list[float | None]) -> None:
    assert ranking.best([None if number is None else -number for number in found], "max") == ranking.best(found, "min")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"rmse": 1, "r2": "0.5"}', {"rmse": 1.0, "r2": 0.5}),
        ('{"rmse": NaN, "r2": Infinity, "mae": "nan", "big": 1e999}', {}),
        ('{"rmse": true, "r2": null, "mae": [1], "rows": "many"}', {}),
        ('{"rmse": 1' + "0" * 400 + "}", {}),
        ("[1]", {}),
        ("0.5", {}),
        ("rmse=1", {}),
        ("", {}),
    ],
)
def test_metrics_are_the_finite_numbers_of_a_json_object(output: str, expected: dict[str, float]) -> None:
    assert ranking.metrics(output) == expected


@given(st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_json_object_of_numbers_is_read_as_it_was_written(found: dict[str, float]) -> None:
    assert ranking.metrics(json.dumps(found)) == found


@given(st.text(max_size=20) | st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5).map(json.dumps))
def test_any_other_text_has_no_metrics(output: str) -> None:
    assert all(math.isfinite(number) for number in ranking.metrics(output).values())
