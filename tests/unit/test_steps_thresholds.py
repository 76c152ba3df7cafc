"""Thresholds and metrics of an evaluation: pure rules, and the same numbers as scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import sdk
from fuseml.steps.scoring import evaluation, features, metrics, thresholds

NUMBERS = st.floats(-1e6, 1e6)


def test_thresholds_are_separated_by_commas_or_lines() -> None:
    parsed = thresholds.parse("accuracy >= 0.9, log_loss<.3\nroc_auc > 1e-1,")
    assert parsed == [
        thresholds.Threshold("accuracy", ">=", 0.9),
        thresholds.Threshold("log_loss", "<", 0.3),
        thresholds.Threshold("roc_auc", ">", 0.1),
    ]
    assert thresholds.parse(" \n ") == []


@given(st.lists(st.tuples(st.sampled_from(sorted(metrics.METRICS)), st.sampled_from(["<", "<=", ">", ">="]), NUMBERS), max_size=5))
def test_every_list_of_thresholds_is_read_as_it_was_written(items: list[tuple[str, str, float]]) -> None:
    text = ", ".join(f"{metric} {sign} {value!r}" for metric, sign, value in items)
    assert [(item.metric, item.operator, item.value) for item in thresholds.parse(text)] == items


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("acuracy >= 0.9", 1, "there is no metric 'acuracy'; did you mean 'accuracy'?"),
        ("accuracy >= 0.9, latency < 3", 18, "there is no metric 'latency'; use accuracy, "),
        ("accuracy", 9, "after 'accuracy' one of >= <= > < is needed"),
        ("accuracy == 1", 10, "one of >= <= > < is needed, not '=='"),
        ("rmse <= three", 9, "a number is needed, not 'three'"),
        ("rmse <= nan", 9, "a number is needed, not 'nan'"),
        ("rmse <=", 8, "a number is needed"),
        ("rmse <= 3 or 4", 11, "'or 4' is not expected here"),
        ("  >= 3", 3, "the name of a metric is missing"),
        ("r2 > 0,, mae < 1", 8, "a threshold is missing before ','"),
    ],
)
def test_an_error_names_its_position(text: str, position: int, problem: str) -> None:
    with pytest.raises(sdk.StepError) as caught:
        thresholds.parse(text)
    assert str(caught.value).startswith(f"the input 'thresholds', character {position}: ")
    assert problem in str(caught.value)


@given(st.text("acurysmel0.9<>=, \n", max_size=25))
def test_any_text_is_read_or_refused_with_a_position_in_it(text: str) -> None:
    try:
        thresholds.parse(text)
    except sdk.StepError as error:
        position = int(str(error).partition("character ")[2].partition(":")[0])
        assert 1 <= position <= len(text) + 1


def test_unmet_thresholds_name_metric_value_and_threshold() -> None:
    required = thresholds.parse("rmse <= 3, r2 > 0.5, mae < 2")
    assert thresholds.unmet({"rmse": 3.0, "r2": 0.5, "mae": 2.25}, required) == [
        "r2 is 0.5, and > 0.5 is required",
        "mae is 2.25, and < 2 is required",
    ]
    assert thresholds.unmet({"rmse": math.nan, "r2": 1.0, "mae": 0.0}, required) == ["rmse is nan, and <= 3 is required"]


@given(NUMBERS, NUMBERS, st.floats(0, 1e3), st.sampled_from(sorted(metrics.METRICS)))
def test_a_model_is_worse_by_more_than_the_tolerance_only(own: float, other: float, tolerance: float, name: str) -> None:
    sign = 1 if metrics.METRICS[name].greater_is_better else -1
    assert bool(thresholds.worse({name: own}, {name: other}, [name], tolerance)) is (sign * (other - own) > tolerance)
    assert thresholds.worse({name: own}, {name: own}, [name], 0) == []
    assert thresholds.worse({name: math.nan}, {name: own}, [name], tolerance)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=30))
def test_metrics_of_regression_are_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    import numpy
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    actual, predicted = zip(*pairs, strict=True)
    # The oldest allowed scikit-learn warns where the quotient of squares is infinite.
    with numpy.errstate(over="ignore"):
        expected = {
            "mae": mean_absolute_error(actual, predicted),
            "rmse": root_mean_squared_error(actual, predicted),
            "r2": r2_score(actual, predicted),
        }
    assert metrics.regression(actual, predicted) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_r2_needs_two_rows() -> None:
    assert metrics.regression([1.0], [3.0]) == {"mae": 2.0, "rmse": 2.0}


def averages(actual: list[str], predicted: list[str], positive: str = "") -> dict[str, float]:
    """accuracy, precision, recall and f1 by scikit-learn: of the positive class for labels of two classes, else the mean over its own choice of
    classes."""
    from sklearn import metrics as theirs

    accuracy = {"accuracy": theirs.accuracy_score(actual, predicted)}
    labels, all_names = sorted(set(actual)), {*actual, *predicted}
    chosen = positive or labels[-1]
    if len(labels) == 1 and not positive:
        return accuracy
    how: dict[str, Any] = {"average": "macro"}
    if len(labels) <= 2:
        # It refuses "binary" for predictions of further classes.
        how = {"average": "binary", "pos_label": chosen} if len(all_names | {chosen}) <= 2 else {"average": "macro", "labels": [chosen]}
    scores = {"precision": theirs.precision_score, "recall": theirs.recall_score, "f1": theirs.f1_score}
    return accuracy | {name: score(actual, predicted, zero_division=0, **how) for name, score in scores.items()}


@st.composite
def classifications(draw: st.DrawFn) -> tuple[list[str], list[str], Any, list[str]]:
    classes = [["0", "1"], ["no", "yes"], ["a", "b", "c"]][draw(st.integers(0, 2))]
    rows = draw(st.lists(st.tuples(st.sampled_from(classes), st.sampled_from(classes)), min_size=1, max_size=25))
    weights = draw(
        st.lists(st.lists(st.integers(1, 4), min_size=len(classes), max_size=len(classes)), min_size=len(rows), max_size=len(rows))
    )
    probabilities = numpy.asarray(weights, dtype="float64")
    return [row[0] for row in rows], [row[1] for row in rows], probabilities / probabilities.sum(axis=1, keepdims=True), classes


@given(classifications())
def test_metrics_of_classification_are_scikit_learns(case: tuple[list[str], list[str], Any, list[str]]) -> None:
    from sklearn import metrics as theirs

    actual, predicted, probabilities, classes = case
    found = metrics.classification(actual, predicted, probabilities, classes)
    expected = {**averages(actual, predicted), "log_loss": theirs.log_loss(actual, probabilities, labels=classes)}
    if len(classes) == 2 and len(set(actual)) == 2:
        expected["roc_auc"] = theirs.roc_auc_score([name == classes[1] for name in actual], probabilities[:, 1])
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_least_probability_of_log_loss_is_scikit_learns(dtype: str) -> None:
    from sklearn.metrics import log_loss

    actual, probabilities = ["no", "no", "yes"], numpy.asarray([[0, 1], [1, 0], [0.25, 0.75]], dtype)
    found = metrics.classification(actual, ["yes", "no", "yes"], probabilities, ["no", "yes"])
    assert found["log_loss"] == pytest.approx(log_loss(actual, probabilities), rel=1e-5)


def test_the_probabilities_of_a_model_keep_their_type() -> None:
    class Model:
        classes_ = ["no", "yes"]

        def get_raw_model(self) -> Any:
            return self

        def predict(self, _: Any) -> Any:
            return ["no"]

        def predict_proba(self, _: Any) -> Any:
            return numpy.asarray([[1.0, 0.0]], "float32")

    item = subject()
    item.model = Model()
    item.predict(pandas.DataFrame({"a": [1]}, index=[1]))
    assert [one.dtype for one in item.probabilities] == ["float32"]


@pytest.mark.parametrize("value", ["1_000", "one", True, math.inf])
def test_a_label_of_regression_is_a_number(value: object) -> None:
    with pytest.raises(sdk.StepError, match=f"row 2: the label '{value}' is not a finite number"):
        evaluation.measured(metrics.REGRESSION, [1, value], [subject("1", "2")], "")


def test_classes_are_compared_as_text_and_the_greater_number_is_positive() -> None:
    assert [metrics.class_of(value) for value in ("1", 1, 1.0, "1.0", True, "True", "true", "01", "1.5", "a")] == [
        *["1"] * 4, *["true"] * 3, "01", "1.5", "a",
    ]  # fmt: skip
    assert metrics.ordered(["10", "9", "9"]) == ["9", "10"]
    assert metrics.classification(["9", "10", "10"], ["9", "10", "9"])["recall"] == 0.5
    assert metrics.classification(["9", "10", "10"], ["9", "10", "9"], positive="9")["recall"] == 1.0


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(sdk.StepError, match="'positive' is 'maybe', and the classes are no, yes"):
        evaluation.measured(metrics.CLASSIFICATION, ["no"], [subject("yes")], "maybe")
    with pytest.raises(sdk.StepError, match="the model knows no class 'maybe'"):
        metrics.classification(["maybe"], ["yes"], numpy.asarray([[0.5, 0.5]]), ["no", "yes"])


def subject(*predicted: str, classes: list[str] | None = None) -> evaluation.Subject:
    probabilities = [numpy.full((len(predicted), len(classes)), 1 / len(classes))] if classes else []
    return evaluation.Subject("m", None, features.Inputs(features.signature(None)), list(predicted), probabilities, classes or [])


ROWS = st.lists(
    st.tuples(*(st.sampled_from(["no", "yes", *more]) for more in (["rare"], ["rare", "odd"], ["a", "maybe", "zero"]))), min_size=1
)


@given(ROWS, st.sampled_from(["", "no", "yes"]), st.booleans())
def test_a_model_has_the_same_metrics_with_and_without_another_one(rows: list[tuple[str, str, str]], positive: str, certain: bool) -> None:
    labels, own, other = (list(column) for column in zip(*rows, strict=True))
    positive = positive if positive in labels else ""
    served = [subject(*other, classes=classes) for classes in (None, sorted(set(other)), ["a", "b", "no", "rare", "yes", "zero"])]
    candidate = subject(*own, classes=sorted({*labels, *own}) if certain else None)
    [alone] = evaluation.measured(metrics.CLASSIFICATION, labels, [candidate], positive)
    assert {name: value for name, value in alone.items() if name not in ("log_loss", "roc_auc")} == pytest.approx(
        averages(labels, own, positive)
    )
    for another in served:
        found = evaluation.measured(metrics.CLASSIFICATION, labels, [candidate, another], positive)
        assert found[0] == alone
        expected = averages(labels, other, positive)
        assert {name: found[1][name] for name in expected} == pytest.approx(expected), "both have the average that the labels decide"
        assert ("f1" in found[0]) is ("f1" in found[1])


def test_labels_of_one_class_leave_the_positive_one_open() -> None:
    alone = [subject("no", "yes", classes=["no", "yes"])]
    assert evaluation.measured(metrics.CLASSIFICATION, ["no", "no"], alone, "")[0].keys() == {"accuracy", "log_loss"}
    assert evaluation.measured(metrics.CLASSIFICATION, ["no", "no"], alone, "no")[0]["recall"] == 0.5
    assert evaluation.measured(metrics.CLASSIFICATION, ["no", "no"], alone, "yes")[0]["recall"] == 0


def test_a_class_of_the_other_model_leaves_the_probabilities_alone() -> None:
    both = [subject("no", "yes", classes=["no", "yes"]), subject("no", "zero", classes=["no", "yes", "zero"])]
    found = evaluation.measured(metrics.CLASSIFICATION, ["no", "yes"], both, "")
    assert [one.get("roc_auc") for one in found] == [0.5, None]
    assert found[0]["log_loss"] == pytest.approx(math.log(2))
    for subjects in (both[:1], both):
        with pytest.raises(sdk.StepError, match="'positive' is 'zero', and the classes are no, yes"):
            evaluation.measured(metrics.CLASSIFICATION, ["no", "yes"], subjects, "zero")


def test_a_compared_model_that_is_older_than_a_class_has_no_log_loss() -> None:
    candidate, older = subject("no", "new", classes=["new", "no"]), subject("no", "no", classes=["no", "yes"])
    found = evaluation.measured(metrics.CLASSIFICATION, ["no", "new"], [candidate, older], "")
    assert found[0] == evaluation.measured(metrics.CLASSIFICATION, ["no", "new"], [candidate], "")[0]
    assert found[1].keys() == {"accuracy", "precision", "recall", "f1"}
    with pytest.raises(sdk.StepError, match="the model knows no class 'new'"):
        evaluation.measured(metrics.CLASSIFICATION, ["no", "new"], [older, candidate], "")
