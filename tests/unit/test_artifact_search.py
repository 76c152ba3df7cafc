"""The search for artifacts, their conditions, tags and descriptors: rules without a database."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import conditions, descriptor, names, search

_word = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8)
_segment = st.text(min_size=1, max_size=8).filter(lambda text: not set(text) & set("/*?\n"))
_number = st.floats(allow_nan=False, allow_infinity=False)
_condition = st.builds(conditions.Condition, _word, st.sampled_from(sorted(conditions.OPERATORS)), _number)
_framework = st.builds(search.Framework, _word, st.sampled_from(["", ">=1.4", "~1.10.0", "^0.2, <0.4", "1.x", "1.2 - 1.4 || >=2"]))
_search = st.builds(
    search.Search,
    kind=st.sampled_from(artifact.KINDS),
    project=_segment,
    name=st.none() | _segment,
    type=st.none() | st.sampled_from(["text/csv", "application/vnd.oci.image.manifest.v1+json"]),
    format=st.none() | _word,
    framework=st.none() | _framework,
    tag=st.none() | _word,
    labels=st.lists(_word, max_size=2, unique=True).map(tuple),
    metrics=st.lists(_condition, max_size=2, unique_by=str).map(tuple),
)


@given(_condition)
def test_a_condition_is_parsed_as_it_is_printed(condition: conditions.Condition) -> None:
    assert conditions.parse(str(condition)) == condition


@given(_condition, _number)
def test_a_condition_holds_as_python_compares(condition: conditions.Condition, value: float) -> None:
    operator = {"=": "=="}.get(condition.operator, condition.operator)
    assert condition.holds({condition.metric: value}) is eval(f"{value!r} {operator} {condition.value!r}")
    assert not condition.holds({})


@given(_search)
def test_a_search_is_parsed_as_it_is_printed(wanted: search.Search) -> None:
    assert search.parse(str(wanted)) == wanted
    assert wanted.narrowed(wanted) == wanted.narrowed(search.Search()) == wanted


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code://*", search.Search("code")),
        ("model://demo/*", search.Search("model", "demo")),
        ("image://demo/a/b", search.Search("image", "demo", "a/b")),
        (
            "model://demo/*?format=mlflow&framework=scikit-learn>=1.4&metrics.rmse<0.8",
            search.Search(
                "model",
                "demo",
                format="mlflow",
                framework=search.Framework("scikit-learn", ">=1.4"),
                metrics=(conditions.Condition("rmse", "<", 0.8),),
            ),
        ),
        (
            "model://*?framework=torch 2.x&tag=best & label=a",
            search.Search("model", framework=search.Framework("torch", "2.x"), tag="best", labels=("a",)),
        ),
    ],
)
def test_patterns_with_filters(text: str, expected: search.Search) -> None:
    assert search.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("models://*", "is not a pattern to search for"),
        ("model://demo", "is not a pattern to search for"),
        ("model://*/a", "is not a pattern to search for"),
        ("model://*?", "is not a pattern to search for"),
        ("model://*?" + "&".join(["label=a"] * 30), "at most 20 filters, not 30"),
        ("model://*?colour=red", "is not a filter"),
        ("model://*?format", "is not a filter"),
        ("model://*?format=", "is not a filter"),
        ("model://*?metrics.rmse", "is not a condition"),
        ("model://*?framework=sk>=", "is not a version constraint"),
        ("model://*?framework=>=1", "names no framework"),
        ("model://*?tag=a/b", "is not a tag"),
        ("model://*?tag=a&tag=b", "nothing is both"),
    ],
)
def test_a_wrong_pattern_is_refused_with_its_fault(text: str, word: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        search.parse(text)
    assert word in caught.value.message


@pytest.mark.parametrize(
    "text",
    ["", "rmse<1", "metrics.<1", "metrics.a<", "metrics.a<b", "metrics.a<1e999", "metrics.a<nan", "metrics.a<\u0661", "metrics.a<1;b" * 99],
)
def test_a_wrong_condition_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError, match=r"metrics\.rmse < 0\.8"):
        conditions.parse(text)


# Tags


def test_only_an_immutable_tag_stays_where_it_is() -> None:
    first = names.place("best", None, "model://p/m/1", None)
    assert first == names.Placed("model://p/m/1", immutable=False)
    moved = names.place("best", first, "model://p/m/2", immutable=True)
    assert moved == names.place("best", moved, "model://p/m/2", None) == names.Placed("model://p/m/2", immutable=True)
    with pytest.raises(errors.ConflictError, match="is immutable and on model://p/m/2"):
        names.place("best", moved, "model://p/m/1", immutable=False)
    with pytest.raises(errors.ConflictError, match="immutable"):
        names.check_removal("best", moved)
    freed = names.place("best", moved, "model://p/m/2", immutable=False)
    assert names.place("best", freed, "model://p/m/1", None).address == "model://p/m/1"


@pytest.mark.parametrize("text", ["", ".a", "-a", "a/b", "a@b", "a b", "a" * 101, "a\n", "\u00e4"])
def test_a_name_that_no_reference_holds_is_refused(text: str) -> None:
    for check in (names.check_tag, names.check_label):
        with pytest.raises(errors.InvalidError):
            check(text)


# Descriptors


MODEL = {"address": "model://demo/m/1", "digest": f"sha256:{'0' * 64}"}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"address": "model://demo/m"}, "it names no version"),
        ({"address": "model://demo/../1"}, "a dot segment"),
        ({"digest": "0000"}, "must be algorithm:value"),
        ({"size": -1}, "size"),
        ({"metrics": {"rmse": float("inf")}}, "metrics"),
        ({"metrics": {" rmse": 1}}, "metrics"),
        ({"metadata": {"x": "y" * 17000}}, "at most 16384 bytes"),
        ({"external": True}, "needs its location"),
        ({"external": True, "location": "s3://a/b", "run": "w-1"}, "was made by no run"),
        ({"step": "train"}, "a step belongs to a run"),
        ({"sources": ["model://demo/m/1"]}, "no source of itself"),
        ({"location": "s3://a b"}, "location"),
        ({"colour": "red"}, "unknown key"),
    ],
)
def test_a_wrong_descriptor_is_refused(fields: dict[str, Any], problem: str) -> None:
    from fuseml.domain.documents import document

    with pytest.raises(errors.InvalidError) as caught:
        document.validate(descriptor.Descriptor, {**MODEL, **fields})
    assert problem in caught.value.message


def test_facts_that_one_side_lacks_do_not_differ() -> None:
    descriptor.check_same("a", {"digest": None, "format": "mlflow"}, {"digest": "x", "format": None})
    with pytest.raises(errors.ConflictError) as caught:
        descriptor.check_same("a", {"digest": "x", "format": "mlflow"}, {"digest": "y", "format": "onnx"})
    assert caught.value.details["different"] == {
        "digest": {"stored": "x", "given": "y"},
        "format": {"stored": "mlflow", "given": "onnx"},
    }
    assert "digest x" in caught.value.message


def test_only_finite_numbers_are_metrics() -> None:
    assert descriptor.metrics_of({"a": 1, "b": True, "c": "1", "d": float("nan"), "e": float("inf"), " f": 1, 7: 1}) == {"a": 1.0}
    assert descriptor.metrics_of("a") == {}
