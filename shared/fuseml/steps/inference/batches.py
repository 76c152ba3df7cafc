"""Batches: the rows of concurrent requests are joined for one call of the model, and its prediction is split again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy
import pandas

_ARRAYS = (list, tuple, numpy.ndarray, pandas.Series, pandas.DataFrame)


@dataclass(frozen=True, eq=False)
class _Waiting:
    data: object
    parameters: Mapping[str, object] | None
    rows: int
    until: float  # of the monotonic clock
    answer: Future[object]


class Batcher:
    """Calls `predict` with the rows of up to `size` rows of requests, each of which waits at most `wait` seconds for others.

    Only requests with the same columns or array shape, types and parameters are joined. Where the call fails, or its prediction has not one
    element for each row, every request of the batch is predicted alone: an invalid one fails no other.
    """

    def __init__(self, predict: Callable[[object, Mapping[str, object] | None], object], size: int, wait: float) -> None:
        self._predict, self._size, self._wait = predict, size, wait
        self._waiting: list[_Waiting] = []
        self._changed = threading.Condition()
        self._calls = ThreadPoolExecutor(thread_name_prefix="batch")
        threading.Thread(target=self._collect, name="batches", daemon=True).start()

    def submit(self, data: object, parameters: Mapping[str, object] | None) -> Future[object]:
        """The future prediction for these data."""
        answer: Future[object] = Future()
        rows = number_of_rows(data)
        waiting = _Waiting(data, parameters, rows or 0, time.monotonic() + self._wait, answer)
        if rows is None or rows >= self._size:
            self._calls.submit(self._run, [waiting])
            return answer
        with self._changed:
            self._waiting.append(waiting)
            self._changed.notify()
        return answer

    def _collect(self) -> None:
        while True:
            batch = self._next()
            self._calls.submit(self._run, batch)

    def _next(self) -> list[_Waiting]:
        """The next batch, as soon as it has enough rows or its first request has waited long enough."""
        with self._changed:
            while True:
                batch = self._joinable()
                if batch and (sum(one.rows for one in batch) >= self._size or batch[0].until <= time.monotonic()):
                    self._waiting = [one for one in self._waiting if one not in batch]
                    return batch
                self._changed.wait(batch[0].until - time.monotonic() if batch else None)

    def _joinable(self) -> list[_Waiting]:
        """The first waiting request and those that can join it, within the size."""
        batch: list[_Waiting] = []
        rows = 0
        for one in self._waiting:
            alike = not batch or (one.parameters == batch[0].parameters and joinable(one.data, batch[0].data))
            if alike and rows + one.rows <= self._size:
                batch.append(one)
                rows += one.rows
        return batch

    def _run(self, batch: Sequence[_Waiting]) -> None:
        batch = [one for one in batch if one.answer.set_running_or_notify_cancel()]
        if len(batch) > 1:
            try:
                prediction = self._predict(join([one.data for one in batch]), batch[0].parameters)
                parts = split(prediction, [one.rows for one in batch])
            except Exception:  # of any kind, because of one request: each alone gets its own
                parts = None
            if parts is not None:
                for index, one in enumerate(batch):
                    one.answer.set_result(parts[index])
                return
        for one in batch:
            try:
                one.answer.set_result(self._predict(one.data, one.parameters))
            except Exception as error:
                one.answer.set_exception(error)


def number_of_rows(data: object) -> int | None:
    """The rows of a model's input; None if it cannot be joined with another one."""
    if isinstance(data, pandas.DataFrame):
        return len(data)
    if isinstance(data, numpy.ndarray):
        return len(data) if data.ndim else None
    if isinstance(data, Mapping) and data:
        numbers = {number_of_rows(array) for array in data.values()}
        return numbers.pop() if len(numbers) == 1 else None
    return None


def joinable(one: object, other: object) -> bool:
    """Whether two inputs differ in their rows only."""
    if isinstance(one, pandas.DataFrame) and isinstance(other, pandas.DataFrame):
        return bool(one.columns.equals(other.columns) and one.dtypes.equals(other.dtypes))
    if isinstance(one, numpy.ndarray) and isinstance(other, numpy.ndarray):
        return bool(one.dtype == other.dtype and one.shape[1:] == other.shape[1:])
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(joinable(one[name], other[name]) for name in one)
    return False


def join(inputs: Sequence[object]) -> object:
    """Joinable inputs as one."""
    first = inputs[0]
    if isinstance(first, pandas.DataFrame):
        return pandas.concat(inputs, ignore_index=True)  # type: ignore[call-overload,unused-ignore]
    if isinstance(first, Mapping):
        return {name: join([one[name] for one in inputs]) for name in first}  # type: ignore[index]
    return numpy.concatenate(inputs)  # type: ignore[arg-type]


def split(prediction: object, sizes: Sequence[int]) -> list[object] | None:
    """The parts of a prediction for inputs of these numbers of rows; None if it has not one element for each row."""
    if isinstance(prediction, Mapping):
        parts = {name: split(values, sizes) for name, values in prediction.items()}
        if not parts or any(part is None for part in parts.values()):
            return None
        return [{name: part[index] for name, part in parts.items() if part is not None} for index in range(len(sizes))]
    if not isinstance(prediction, (pandas.DataFrame, pandas.Series, list)) and not (
        isinstance(prediction, numpy.ndarray) and prediction.ndim
    ):
        return None
    rows = sum(sizes)
    if len(prediction) != rows:
        return None
    # As many arrays as rows, of as many elements: it may be one array for each output.
    if isinstance(prediction, list) and all(isinstance(one, _ARRAYS) and len(one) == rows for one in prediction):
        return None
    sliced, begin = [], 0
    for size in sizes:
        part = slice(begin, begin + size)
        sliced.append(prediction.iloc[part] if isinstance(prediction, (pandas.DataFrame, pandas.Series)) else prediction[part])
        begin += size
    return sliced
