"""Predictions of a scored dataset: a column for each output, a value for each row, in the order of the rows."""

from __future__ import annotations

from typing import Any

import numpy
import pandas
import pytest
import scipy.sparse

from fuseml.steps import sdk
from fuseml.steps.scoring import predictions

INDEX = pandas.Index([5, 6, 7])


class Model:
    def __init__(self, predicted: object) -> None:
        self.predicted = predicted

    def predict(self, _: object) -> object:
        return self.predicted


def predict(predicted: object) -> pandas.DataFrame:
    return predictions.predict(Model(predicted), pandas.DataFrame({"a": [1, 2, 3]}, index=INDEX), INDEX, "p")


@pytest.mark.parametrize(
    ("predicted", "columns"),
    [
        (pandas.Series([3, 1, 2], index=[2, 0, 1]), {"p": [3, 1, 2]}),
        (pandas.DataFrame({"x": [3, 1, 2], 0: ["a", "b", "c"]}, index=[2, 1, 0]), {"x": [3, 1, 2], "0": ["a", "b", "c"]}),
        ({"x": pandas.Series([3, 1, 2], index=[2, 1, 0])}, {"x": [3, 1, 2]}),
        (pandas.Categorical(["b", "a", "b"]), {"p": ["b", "a", "b"]}),
        (numpy.array([[1.5], [2.5], [3.5]]), {"p": [1.5, 2.5, 3.5]}),
        (scipy.sparse.csr_matrix([[1, 0], [0, 2], [3, 0]]), {"p_0": [1, 0, 3], "p_1": [0, 2, 0]}),
        (iter(["a", "b", "c"]), {"p": ["a", "b", "c"]}),
        ([[1, 2], [3], []], {"p": [[1, 2], [3], []]}),
    ],
)
def test_values_keep_the_order_of_the_rows(predicted: object, columns: dict[str, list[Any]]) -> None:
    found = predict(predicted)
    assert found.index.tolist() == INDEX.tolist()
    assert found.to_dict("list") == columns


@pytest.mark.parametrize(
    ("predicted", "problem"),
    [
        (pandas.DataFrame([[1, 2]] * 3, columns=[0, "0"]), "the model predicts two columns '0': name each differently"),
        (pandas.DataFrame([[1, 2]] * 3, columns=["x" * 200] * 2), f"the model predicts two columns '{'x' * 100}': name each"),
        ({0: [1, 2, 3], "0": [4, 5, 6]}, "the model predicts two columns '0': name each differently"),
        ("abc", "the model predicts one value of the type str, and a value for each row is needed"),
        (numpy.array(3.0), "the model predicts one value of the type ndarray"),
        (3.0, "the model predicts one value of the type float"),
        ([1, 2], "the model gave 2 predictions for the rows 5 to 7, which are 3"),
    ],
)
def test_a_prediction_without_a_value_for_each_row_and_name_is_refused(predicted: object, problem: str) -> None:
    with pytest.raises(sdk.StepError, match=problem):
        predict(predicted)
