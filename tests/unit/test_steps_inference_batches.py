"""Rows of concurrent requests are predicted together, and each request gets its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy
import pandas
import pytest

from fuseml.steps.inference import batches
from tests.waiting import PATIENCE

LONG = 3600.0  # seconds: a batch that starts has enough rows


class Calls:
    """A model that notes the number of rows of each call."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._lock = threading.Lock()

    def predict(self, data: Any, parameters: object) -> Any:
        with self._lock:
            self.rows.append(batches.number_of_rows(data) or 0)
        if isinstance(data, dict):
            return {name: values * 2 for name, values in data.items()}
        if (data == -1).to_numpy().any() if isinstance(data, pandas.DataFrame) else (data == -1).any():
            raise ArithmeticError("below zero")
        return data * 2


def frame(*values: float, name: str = "a") -> pandas.DataFrame:
    return pandas.DataFrame({name: values})


def result(answer: Future[object]) -> Any:
    return answer.result(PATIENCE)


def test_a_batch_starts_with_enough_rows() -> None:
    calls = Calls()
    batcher = batches.Batcher(calls.predict, 3, LONG)
    first, second = batcher.submit(frame(1.0, 2.0), None), batcher.submit(frame(3.0), None)
    assert [result(answer)["a"].tolist() for answer in (first, second)] == [[2.0, 4.0], [6.0]]
    assert calls.rows == [3]


def test_a_batch_starts_after_its_first_request_has_waited() -> None:
    calls = Calls()
    assert result(batches.Batcher(calls.predict, 100, 0.01).submit(numpy.array([1]), None)).tolist() == [2]
    assert calls.rows == [1]


def test_an_error_fails_only_its_own_request() -> None:
    calls = Calls()
    batcher = batches.Batcher(calls.predict, 3, LONG)
    answers = [batcher.submit(numpy.array([value]), None) for value in (1, -1, 3)]
    assert result(answers[0]).tolist() == [2]
    assert result(answers[2]).tolist() == [6]
    with pytest.raises(ArithmeticError, match="below zero"):
        result(answers[1])
    assert sorted(calls.rows) == [1, 1, 1, 3]


def test_only_like_requests_are_joined() -> None:
    calls = Calls()
    batcher = batches.Batcher(calls.predict, 2, LONG)
    pairs = [(frame(1.0), None), (frame(1.0, name="b"), None), (frame(1), None), (frame(1.0), {"k": 1}), (numpy.array([1]), None)]
    answers = [batcher.submit(*pair) for pair in (*pairs, *pairs)]
    assert [len(result(answer)) for answer in answers] == [1] * 10
    assert calls.rows == [2] * 5


@pytest.mark.parametrize(
    ("prediction", "parts"),
    [
        ([1, 2, 3], [[1], [2, 3]]),
        (numpy.array([[1], [2], [3]]), [[[1]], [[2], [3]]]),
        (pandas.Series([1, 2, 3]), [[1], [2, 3]]),
        ({"a": [1, 2, 3]}, [{"a": [1]}, {"a": [2, 3]}]),
        ([1, 2], None),
        ({"a": [1, 2, 3], "b": [1]}, None),
        ([[1], [2], [3, 4]], [[[1]], [[2], [3, 4]]]),
        ([numpy.zeros(3), numpy.ones(3), numpy.ones(3)], None),
        ({"a": [[1, 2, 3]] * 3}, None),
        ("abc", None),
        (3.5, None),
    ],
)
def test_a_prediction_is_split_only_if_it_has_an_element_for_each_row(prediction: object, parts: list[Any] | None) -> None:
    found = batches.split(prediction, [1, 2])
    assert parts == (None if found is None else [part.tolist() if hasattr(part, "tolist") else part for part in found])


def test_a_prediction_for_the_batch_as_a_whole_is_made_for_each_request() -> None:
    batcher = batches.Batcher(lambda data, _: float(data["a"].sum()), 3, LONG)  # type: ignore[index]
    answers = [batcher.submit(frame(1.0, 2.0), None), batcher.submit(frame(3.0), None)]
    assert [result(answer) for answer in answers] == [3.0, 3.0]


def test_a_list_of_an_array_for_each_output_is_not_split_by_outputs() -> None:
    batcher = batches.Batcher(lambda data, _: [data["a"].to_numpy(), -data["a"].to_numpy()], 2, LONG)  # type: ignore[index]
    answers = [batcher.submit(frame(value), None) for value in (1.0, 2.0)]
    assert [[output.tolist() for output in result(answer)] for answer in answers] == [[[1.0], [-1.0]], [[2.0], [-2.0]]]


def test_mappings_of_arrays_are_joined_by_name() -> None:
    joined = batches.join([{"a": numpy.array([1])}, {"a": numpy.array([2, 3])}])
    assert {name: array.tolist() for name, array in joined.items()} == {"a": [1, 2, 3]}  # type: ignore[attr-defined]
    assert batches.number_of_rows({"a": numpy.array([1]), "b": numpy.array([1, 2])}) is None
    assert batches.number_of_rows([1]) is None
