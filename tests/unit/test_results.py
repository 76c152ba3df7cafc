"""The rules of results: the addresses that runs were given and have made, and who follows whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.lineage import results

NAMES = st.sampled_from(["a-1", "a-2", "b-1", "c-7"])
MODELS = st.sampled_from([f"model://p/m/{number}" for number in range(5)])


@given(st.dictionaries(NAMES, st.frozensets(MODELS)), st.sets(MODELS), st.sets(NAMES))
def test_exactly_the_unknown_runs_that_took_an_artifact_come_next(
    taken: dict[str, frozenset[str]], addresses: set[str], known: set[str]
) -> None:
    takers = [results.Taker(name, inputs) for name, inputs in taken.items()]
    found = [taker.name for taker in results.next_runs([*takers, *takers], addresses, known)]
    assert set(found) == {name for name, inputs in taken.items() if inputs & addresses} - known
    assert len(found) == len(set(found))


@given(st.text(), st.text())
def test_any_text_is_a_value_and_only_artifacts_of_the_project_have_an_address(name: str, value: str) -> None:
    for item in (*results.inputs("p", {name: value}, {}), *results.outputs("p", {name: value}, ())):
        assert (item.name, item.value) == (name, value)
        assert not item.address


def test_addresses_and_model_versions_are_the_same_artifact() -> None:
    texts = ["models:/m/1", "model://p/m/1", "dataset://p/d/2", "dataset://q/d/2", "code://p/c/3", "dataset://p/anonymous/r/1", "7"]
    assert {"model://p/m/1", "dataset://p/d/2", "code://p/c/3", "image://p/i/1"} <= results.given("p", texts, "image://p/i/1")
    assert results.made("p", texts) == {"model://p/m/1", "dataset://p/d/2"}


def test_defaults_follow_what_was_given_and_empty_values_are_left_out() -> None:
    found = results.inputs("p", {"b": "1", "empty": ""}, {"a": "x", "b": "0", "empty": "", "none": ""})
    assert [(item.name, item.value, item.default) for item in found] == [("b", "1", False), ("a", "x", True)]


def test_artifacts_that_outputs_name_appear_once() -> None:
    found = results.outputs("p", {"best": "models:/m/1"}, {"model://p/m/1", "dataset://p/d/1"})
    assert [(item.name, item.address) for item in found] == [("best", "model://p/m/1"), ("dataset", "dataset://p/d/1")]


@pytest.mark.parametrize(
    "text", ["code://p/c/main", "code://p/c/abc123", "model://p/m/1234567", "code://p/c@main", "code://p", "", "x" * 9999]
)
def test_only_codeset_versions_are_accepted(text: str) -> None:
    with pytest.raises(errors.InvalidError):
        results.code_version(text)


def test_a_commit_may_be_abbreviated() -> None:
    assert results.code_version("code://p/a/b/f3b0924").version == "f3b0924"
