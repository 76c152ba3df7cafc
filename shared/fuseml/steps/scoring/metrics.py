"""Metrics of classification and regression, equal to scikit-learn's, which an environment may lack.

Classes are compared as text: `1`, `1.0` and 1 are one class. The labels decide about precision, recall and F1, so that models are comparable:
with two classes in the labels they are those of the positive class; with more they are the mean (macro) over the classes of the labels and of the
model's own predictions. They are 0 for a class without predictions or rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from fuseml.steps import sdk

CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass(frozen=True)
class Metric:
    """A metric of a task. A greater value is better, or a smaller one; `needs` completes "it needs" where it cannot be computed."""

    task: str
    greater_is_better: bool
    needs: str = "more rows"


_OF_CLASS = "labels of at least two classes, or the input 'positive'"
_OF_PROBABILITIES = "probabilities of its classes (predict_proba), and for roc_auc labels of two"
METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(CLASSIFICATION, True),
    "precision": Metric(CLASSIFICATION, True, _OF_CLASS),
    "recall": Metric(CLASSIFICATION, True, _OF_CLASS),
    "f1": Metric(CLASSIFICATION, True, _OF_CLASS),
    "roc_auc": Metric(CLASSIFICATION, True, _OF_PROBABILITIES),
    "log_loss": Metric(CLASSIFICATION, False, _OF_PROBABILITIES),
    "mae": Metric(REGRESSION, False),
    "rmse": Metric(REGRESSION, False),
    "r2": Metric(REGRESSION, True),
}


def class_of(value: Any) -> str:
    """The name of a class: of text, a number or a truth value."""
    text = str(value)
    if text in ("True", "False"):
        return text.lower()
    whole = re.fullmatch(r"(-?\d+)\.0+", text)
    return whole[1] if whole else text


def ordered(classes: Sequence[str]) -> list[str]:
    """Classes in the order of their numbers or, if one is no number, of their text."""
    distinct = set(classes)
    return sorted(distinct, key=float) if all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in distinct) else sorted(distinct)


def regression(actual: Sequence[float], predicted: Sequence[float]) -> dict[str, float]:
    """mae, rmse and r2; r2 needs two rows, and is 0 or 1 for equal labels."""
    y, p = numpy.asarray(actual, dtype="float64"), numpy.asarray(predicted, dtype="float64")
    errors = y - p
    found = {"mae": float(numpy.mean(numpy.abs(errors))), "rmse": float(numpy.sqrt(numpy.mean(errors**2)))}
    if len(y) > 1:
        spread, missed = float(numpy.sum((y - y.mean()) ** 2)), float(numpy.sum(errors**2))
        found["r2"] = 1 - missed / spread if spread else float(missed == 0)
    return found


def classification(
    actual: Sequence[str],
    predicted: Sequence[str],
    probabilities: numpy.ndarray | None = None,
    classes: Sequence[str] = (),
    positive: str = "",
) -> dict[str, float]:
    """The metrics of one model: accuracy, precision, recall and f1; with `probabilities` [rows, classes] log_loss and, for two classes in the
    labels, roc_auc.

    `positive` is the positive class of two, by default the greater one in the labels; labels of one class have no precision, recall and f1 without
    it. Raises StepError for a label that is not among the `classes` of the probabilities.
    """
    y, p = numpy.asarray(actual, dtype=object), numpy.asarray(predicted, dtype=object)
    found = {"accuracy": float(numpy.mean(y == p))}
    averaged = _averaged(actual, predicted, positive)
    if averaged:
        found.update(_by_class(y, p, averaged))
    if probabilities is not None:
        found.update(_of_probabilities(y, probabilities, list(classes), positive or ordered(classes)[-1]))
    return found


def _averaged(actual: Sequence[str], predicted: Sequence[str], positive: str) -> list[str]:
    """The classes whose precision, recall and F1 are averaged; none if the labels have one class and leave the positive one open."""
    labels = ordered(actual)
    if len(labels) > 2:
        return ordered([*labels, *predicted])
    return [positive] if positive else labels[1:]


def _by_class(y: numpy.ndarray, p: numpy.ndarray, names: Sequence[str]) -> dict[str, float]:
    """The means of precision, recall and F1 over the classes."""
    rows = []
    for name in names:
        hits, taken, existing = (float(numpy.sum(mask)) for mask in ((y == name) & (p == name), p == name, y == name))
        rows.append(
            (
                hits / taken if taken else 0.0,
                hits / existing if existing else 0.0,
                2 * hits / (taken + existing) if taken + existing else 0.0,
            )
        )
    means = numpy.mean(numpy.asarray(rows), axis=0)
    return {"precision": float(means[0]), "recall": float(means[1]), "f1": float(means[2])}


def _of_probabilities(y: numpy.ndarray, probabilities: numpy.ndarray, classes: list[str], positive: str) -> dict[str, float]:
    unknown = sorted(set(y) - set(classes))
    if unknown:
        raise sdk.StepError(
            f"the model knows no class {unknown[0]!r}, which is a label of the dataset; its classes are {', '.join(classes)}"
        )
    places = numpy.asarray([classes.index(name) for name in y])
    smallest = numpy.finfo(probabilities.dtype).eps  # scikit-learn's bound: that of float32 for a model of such probabilities
    own = numpy.clip(probabilities[numpy.arange(len(y)), places], smallest, 1 - smallest)
    found = {"log_loss": float(-numpy.mean(numpy.log(own), dtype="float64"))}
    is_positive = y == positive
    if len(classes) == 2 and 0 < is_positive.sum() < len(y):
        found["roc_auc"] = _area(is_positive, probabilities[:, classes.index(positive)])
    return found


def _area(is_positive: numpy.ndarray, scores: numpy.ndarray) -> float:
    """The area under the ROC curve: the share of pairs of a positive and a negative row in which the positive one has the greater score.

    Equal scores count half.
    """
    _, places, counts = numpy.unique(scores, return_inverse=True, return_counts=True)
    ranks = (numpy.cumsum(counts) - (counts - 1) / 2)[places]
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    return float((ranks[is_positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
