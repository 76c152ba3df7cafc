"""The extension record as a document: what loads, what is refused, and that secrets stay where they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import extension
from tests.unit import registry_examples


def problems(data: object) -> dict[str, str]:
    """Path -> message of everything that is wrong with a record."""
    with pytest.raises(errors.InvalidError) as refused:
        document.validate(extension.Extension, data)
    return {problem.path: problem.message for problem in refused.value.problems}


def record(**service: Any) -> extension.Extension:
    return extension.Extension.model_validate({"id": "e", "services": [{"id": "s", **service}]})


# What loads


@pytest.mark.parametrize("text", registry_examples.TEXTS.values(), ids=registry_examples.TEXTS)
def test_every_example_of_the_specification_loads_unchanged(text: str) -> None:
    written: dict[str, Any] = yaml.safe_load(text)
    loaded = registry_examples.load(text).model_dump(mode="json")

    def compare(data: Any, found: Any, path: str) -> None:
        if isinstance(data, dict):
            for key, value in data.items():
                compare(value, found[{"authrequired": "auth_required"}.get(key, key)], f"{path}.{key}")
        elif isinstance(data, list):
            assert len(data) == len(found), path
            for index, value in enumerate(data):
                compare(value, found[index], f"{path}[{index}]")
        else:
            expected = str(data).lower() if isinstance(data, bool) and isinstance(found, str) else data
            assert found == expected, path

    compare(written, loaded, "")


@pytest.mark.parametrize("text", registry_examples.TEXTS.values(), ids=registry_examples.TEXTS)
def test_what_is_shown_loads_again_and_is_the_same(text: str) -> None:
    loaded = registry_examples.load(text)
    assert document.load(extension.Extension, json.dumps(loaded.model_dump(mode="json"))) == loaded
    assert document.load(extension.Extension, yaml.safe_dump(loaded.model_dump(mode="json"))) == loaded


@pytest.mark.parametrize("spelling", ["auth_required", "authrequired", "AuthRequired", "authRequired"])
def test_the_spellings_of_the_original_are_read(spelling: str) -> None:
    assert record(**{spelling: True}).services[0].auth_required


def test_the_original_installers_capitals_are_read() -> None:
    read = extension.Extension.model_validate({"ID": "e", "Product": "mlflow", "Services": [{"ID": "s", "Resource": "s3"}]})
    assert (read.id, read.product, read.services[0].resource) == ("e", "mlflow", "s3")


def test_a_field_that_is_spelled_twice_is_refused() -> None:
    assert "services[0].authrequired" in problems({"services": [{"authrequired": True, "auth_required": False}]})


def test_scalars_of_yaml_are_the_text_that_was_meant() -> None:
    text = "{version: 1.10, services: [{configuration: {INSECURE: False, PORT: 80, NAME: prj}}]}"
    read = document.load(extension.Extension, text)
    assert read.services[0].configuration == {"INSECURE": "false", "PORT": "80", "NAME": "prj"}


def test_the_defaults_are_those_of_the_original() -> None:
    read = record(endpoints=[{"url": "http://x"}], credentials=[{"id": "c"}]).services[0]
    assert (read.endpoints[0].type, read.credentials[0].scope, read.credentials[0].default, read.auth_required) == (
        "external",
        "global",
        False,
        False,
    )


def test_null_is_nothing() -> None:
    read = extension.Extension.model_validate({"id": "e", "zone": None, "services": None, "configuration": None})
    assert (read.zone, read.services, read.configuration) == ("", (), {})
    assert {"zone", "services", "configuration"} <= read.model_fields_set, "a patch that says null has named the field"


# What is refused


def test_all_violations_are_told_at_once_with_their_paths() -> None:
    found = problems(
        {
            "id": "a b",
            "product": "p" * 101,
            "version": ["1"],
            "description": "d" * 1001,
            "zone": "z" * 101,
            "configuration": {"no dots.": "x", "-k": "x"},
            "services": [
                {"id": "s/1", "resource": "r" * 101, "auth_required": "perhaps"},
                {
                    "endpoints": [{"url": ""}, {"url": "u" * 201}, {"type": "internal"}, {"url": "http://x", "type": "outside"}],
                    "credentials": [{"scope": "everybody", "default": 3, "projects": "alpha"}, {"configuration": {"KEY": {"nested": 1}}}],
                },
            ],
            "colour": "red",
        }
    )
    assert set(found) == {
        "id",
        "product",
        "version",
        "description",
        "zone",
        "configuration.no dots.",
        "configuration.-k",
        "services[0].id",
        "services[0].resource",
        "services[0].auth_required",
        "services[1].endpoints[0].url",
        "services[1].endpoints[1].url",
        "services[1].endpoints[2].url",
        "services[1].endpoints[3].type",
        "services[1].credentials[0].scope",
        "services[1].credentials[0].default",
        "services[1].credentials[0].projects",
        "services[1].credentials[1].configuration.KEY",
        "colour",
    }
    assert found["services[1].endpoints[2].url"] == "is required"
    assert found["id"] == "may hold letters, digits, '-' and '_' only, and must not begin with '-'"


def test_problems_of_a_text_have_line_and_column() -> None:
    with pytest.raises(errors.InvalidError) as refused:
        document.load(extension.Extension, "id: e\nservices:\n  - id: s\n    endponts: []\n")
    (problem,) = refused.value.problems
    assert (problem.path, problem.line, problem.column, problem.suggestion) == ("services[0].endponts", 4, 5, "endpoints")


@pytest.mark.parametrize(
    ("name", "field", "legal", "too_many"),
    [
        ("services", "services", [{}] * 100, [{}] * 101),
        ("endpoints", "services[0].endpoints", [{"url": "u"}] * 50, [{"url": "u"}] * 51),
        ("credentials", "services[0].credentials", [{}] * 200, [{}] * 201),
    ],
)
def test_the_number_of_parts_is_limited(name: str, field: str, legal: list[Any], too_many: list[Any]) -> None:
    def data(parts: list[Any]) -> object:
        return {"services": parts} if name == "services" else {"services": [{name: parts}]}

    extension.Extension.model_validate(data(legal))
    assert list(problems(data(too_many))) == [field]


@pytest.mark.parametrize("text", ["nul\0", "a" * 65_537])
def test_a_value_that_no_environment_can_hold_is_refused(text: str) -> None:
    assert list(problems({"configuration": {"KEY": text}})) == ["configuration.KEY"]


# Secrets

CANARY = "canary-4711"


def secret_record() -> extension.Extension:
    return record(
        configuration={"OPEN": "open"},
        credentials=[{"id": "c", "configuration": {"KEY": CANARY, "KEPT": extension.HIDDEN}}, {"id": "empty"}],
    )


def test_secrets_are_not_in_any_representation() -> None:
    held = secret_record()
    assert CANARY not in f"{held!r} {held} {held.services[0].credentials[0]!r}"


def test_what_is_shown_hides_every_value_and_nothing_else() -> None:
    shown = extension.hidden(secret_record()).services[0]
    assert shown.credentials[0].configuration == {"KEY": extension.HIDDEN, "KEPT": extension.HIDDEN}
    assert shown.configuration == {"OPEN": "open"}


def test_a_refusal_does_not_quote_the_input() -> None:
    with pytest.raises(errors.InvalidError) as refused:
        document.validate(
            extension.Extension, {"services": [{"credentials": [{"configuration": {"KEY": [CANARY]}, CANARY[:6]: 1, "scope": CANARY}]}]}
        )
    assert CANARY not in f"{refused.value.message} {refused.value.details}"


def test_a_placeholder_stays_one_when_values_are_changed() -> None:
    sealed = extension.map_secrets(secret_record(), str.upper).services[0].credentials[0]
    assert sealed.configuration == {"KEY": CANARY.upper(), "KEPT": extension.HIDDEN}


@given(st.sets(st.sampled_from(["services", "zone", "configuration"])))
def test_changing_secrets_names_no_field_that_was_not_named(named: set[str]) -> None:
    patch = extension.Extension.model_validate(dict.fromkeys(named))
    assert extension.map_secrets(patch, str.upper).model_fields_set == named
