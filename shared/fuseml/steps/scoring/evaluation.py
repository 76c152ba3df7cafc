"""Predictions of several models for the same labelled rows, and their metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy
import pandas

from fuseml.steps import sdk
from fuseml.steps.scoring import features, metrics, predictions
from fuseml.steps.scoring.datasets import Chunk, Fault, listed

_SHOWN = 40  # characters of a refused value


@dataclass
class Subject:
    """A model under evaluation, and its predictions so far. `classes` and `probabilities` stay empty for a model that gives none."""

    uri: str
    model: Any
    inputs: features.Inputs
    predicted: list[object] = field(default_factory=list)
    probabilities: list[numpy.ndarray] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)

    def predict(self, frame: pandas.DataFrame) -> None:
        """Add the predictions for the rows. Raises StepError for the first invalid row."""
        taken, faults = self.inputs.of(frame)
        _refuse(faults)
        predicted = predictions.predict(self.model, taken, frame.index, "prediction")
        if predicted.shape[1] != 1:
            raise sdk.StepError(f"{self.uri} predicts {predicted.shape[1]} columns, and an evaluation needs one")
        self.predicted += predicted.iloc[:, 0].tolist()
        raw: Any = self.model.get_raw_model() if hasattr(self.model, "get_raw_model") else None
        # The model's own object gives probabilities where it is a classifier as scikit-learn's are.
        if hasattr(raw, "predict_proba") and hasattr(raw, "classes_"):
            self.classes = [metrics.class_of(name) for name in raw.classes_]
            probabilities = numpy.asarray(raw.predict_proba(taken))
            self.probabilities.append(probabilities if probabilities.dtype.kind == "f" else probabilities.astype("float64"))


def subject(uri: str, digest: str, label: str) -> Subject:
    """The model at `uri`, whose files must have the digest, if there is one. Raises StepError."""
    model = predictions.load(uri, digest)
    return Subject(uri, model, features.Inputs(features.signature(predictions.schema_of(model)), excluded=[label]))


def labels(chunks: Iterable[Chunk], label: str, subjects: Sequence[Subject]) -> list[object]:
    """The values of the column `label`. Each subject predicts every chunk. Raises StepError for the first invalid row, and without rows."""
    found: list[object] = []
    for chunk in chunks:
        _refuse(chunk.faults)
        if label not in chunk.frame:
            raise sdk.StepError(f"there is no column '{label}' (input 'label'); the columns are {listed(chunk.frame.columns)}")
        _refuse([Fault(int(row), label, "the label is empty") for row in chunk.frame.index[chunk.frame[label].isna()]])
        found += chunk.frame[label].tolist()
        for item in subjects:
            item.predict(chunk.frame)
    if not found:
        raise sdk.StepError("there are no rows to evaluate")
    return found


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        raise sdk.StepError(f"{min(faults, key=lambda fault: fault.row)}: an evaluation needs valid rows only")


def task_of(values: Iterable[object]) -> str:
    """The task by the labels: classification for text and truth values, regression for numbers with fractions. Raises StepError."""
    numbers = [_as_number(metrics.class_of(value)) for value in values]
    if None in numbers:
        return metrics.CLASSIFICATION
    if any(number is not None and not number.is_integer() for number in numbers):
        return metrics.REGRESSION
    raise sdk.StepError("the labels are whole numbers, which may be classes or amounts: add the input 'task', classification or regression")


def measured(task: str, actual: Sequence[object], subjects: Sequence[Subject], positive: str) -> list[dict[str, float]]:
    """The metrics of the task for each subject, which depend on no other one: the first is the candidate, the others are compared with it.

    Raises StepError, also for a `positive` class that neither the labels nor the candidate have.
    """
    if task == metrics.REGRESSION:
        amounts = list(_numbers(actual, "the label"))
        return [metrics.regression(amounts, list(_numbers(item.predicted, "the prediction"))) for item in subjects]
    labels, chosen = list(map(metrics.class_of, actual)), metrics.class_of(positive)
    found = []
    for item in subjects:
        predicted = list(map(metrics.class_of, item.predicted))
        if item is subjects[0]:
            _check_positive(chosen, [*labels, *predicted, *item.classes])
        # A compared model may be older than a class of the labels: then it has no log_loss, which must not fail the candidate.
        is_complete = item is subjects[0] or set(labels) <= set(item.classes)
        probabilities = numpy.concatenate(item.probabilities) if item.probabilities and is_complete else None
        found.append(metrics.classification(labels, predicted, probabilities, item.classes, chosen))
    return found


def _check_positive(positive: str, classes: Sequence[str]) -> None:
    if positive and positive not in classes:
        raise sdk.StepError(f"the input 'positive' is '{positive}', and the classes are {listed(metrics.ordered(classes))}")


def _numbers(values: Sequence[Any], name: str) -> Iterator[float]:
    for row, value in enumerate(values, 1):
        number = None if isinstance(value, bool) else _as_number(value)
        if number is None or not math.isfinite(number):
            raise sdk.StepError(f"row {row}: {name} {str(value)[:_SHOWN]!r} is not a finite number, and the task is regression")
        yield number


def _as_number(value: Any) -> float | None:
    if isinstance(value, str) and "_" in value:  # a number to Python only
        return None
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return None
