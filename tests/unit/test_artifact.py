"""Addresses of artifacts and the patterns that match them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import artifact, errors

_name = st.text(min_size=1, max_size=8).filter(lambda text: not set(text) & set("/*\n"))
_path = st.lists(_name, min_size=1, max_size=3).map("/".join)
# An @ in the last segment is that of a tag.
_version = _name.filter(lambda text: "@" not in text)


@given(st.sampled_from(artifact.KINDS), _name, _path, _version)
def test_an_address_is_parsed_as_it_is_printed(kind: str, project: str, name: str, version: str) -> None:
    address = artifact.Address(kind, project, name, version)
    assert artifact.Address.parse(str(address)) == artifact.reference(str(address)) == address


@given(st.sampled_from(artifact.KINDS), _name, _path, _version)
def test_a_reference_by_tag_is_parsed_as_it_is_printed_and_is_no_address(kind: str, project: str, name: str, tag: str) -> None:
    tagged = artifact.Tagged(kind, project, name, tag)
    assert artifact.reference(str(tagged)) == tagged
    with pytest.raises(errors.InvalidError):
        artifact.Address.parse(str(tagged))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("modell://demo/a/1", "'modell' is no kind of artifact (code, model, dataset, runnable, image)"),
        ("model://demo/a", "it names no version"),
        ("model://demo/a@champion", "it names a tag, not a version"),
    ],
)
def test_the_fault_of_an_address_is_named(text: str, reason: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        artifact.Address.parse(text)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "model://demo/../1",
        "model://demo/a/.",
        "model:// demo/a/1",
        "model://demo/a%2f/1",
        "model://demo/a\t/1",
        f"model://demo/{'a' * 500}/1",
    ],
)
def test_an_address_that_no_url_holds_is_not_registered(text: str) -> None:
    with pytest.raises(errors.InvalidError):
        artifact.check_new(artifact.Address.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "code://demo/diabetes",
        "images://demo/a/1",
        "code:///a/1",
        "code://demo//1",
        "code://demo/a/",
        "code://*/a/1",
        "code://demo/a/1\n",
        " code://demo/a/1",
    ],
)
def test_an_invalid_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(errors.InvalidError, match="examples: code://project/name/commit"):
        artifact.Address.parse(text)


def test_a_commit_is_an_artifact() -> None:
    assert str(artifact.code("demo", "diabetes", "b" * 40)) == f"code://demo/diabetes/{'b' * 40}"


def test_only_a_registered_model_version_is_a_model_artifact() -> None:
    assert str(artifact.dataset_of("demo", "dataset://demo/a/b/12")) == "dataset://demo/a/b/12"
    assert [artifact.dataset_of("demo", text) for text in ("dataset://other/a/1", "model://demo/a/1", "dataset://demo/a", "x")] == [
        None
    ] * 4
    assert str(artifact.model_of("demo", "models:/sklearn diabetes/12")) == "model://demo/sklearn diabetes/12"
    for text in (
        "models:/m-9b3a3cf55b7d4337",
        "models:/m@champion",
        "models:/m/latest",
        "runs:/1/model",
        "models:/m/1\n",
        "x models:/m/1",
        "",
    ):
        assert artifact.model_of("demo", text) is None


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("code://demo/diabetes", ["demo/diabetes"], ["demo/diabetes2", "demo2/diabetes", "demo/x/diabetes"]),
        ("code://demo/*", ["demo/diabetes", "demo/a/b"], ["prod/diabetes"]),
        ("code://*", ["demo/diabetes", "prod/x"], []),
        ("code://*/diabetes", ["demo/diabetes"], ["demo/mnist"]),
        ("code://demo/sk[l]earn?", ["demo/sk[l]earn?"], ["demo/sklearnx", "demo/sklearn?"]),
        ("code://demo/a.c", ["demo/a.c"], ["demo/abc"]),
    ],
)
def test_only_stars_are_special_in_patterns(pattern: str, matching: list[str], other: list[str]) -> None:
    artifact.check_pattern(pattern)
    for path, expected in [*((path, True) for path in matching), *((path, False) for path in other)]:
        project, name = path.split("/", 1)
        assert artifact.matches(pattern, "code", project, name) is expected, path
        assert not artifact.matches(pattern, "model", project, name)


@given(st.sampled_from(artifact.KINDS), _name, _path)
def test_an_artifact_matches_its_own_name_and_the_patterns_above_it(kind: str, project: str, name: str) -> None:
    for pattern in (f"{kind}://{project}/{name}", f"{kind}://{project}/*", f"{kind}://*"):
        assert artifact.check_pattern(pattern) == pattern
        assert artifact.matches(pattern, kind, project, name)


@pytest.mark.parametrize("text", ["", "*", "code", "code://", "code://demo", "code://demo/", "images://*", "code://demo/a\n", "code:///a"])
def test_a_pattern_that_matches_nothing_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not a pattern; examples: "):
        artifact.check_pattern(text)
