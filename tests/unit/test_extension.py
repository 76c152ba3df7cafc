"""The extension record as a document: valid and invalid records, and the protection of secrets."""

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
    """Path -> message of every problem of a record."""
    with pytest.raises(errors.InvalidError) as caught:
        document.validate(extension.Extension, data)
    return {problem.path: problem.message for problem in caught.value.problems}


def record(**service: Any) -> extension.Extension:
    return extension.Extension.model_validate({"id": "e", "services": [{"id": "s", **service}]})


# Valid records


@pytest.mark.parametrize("text", registry_examples.TEXTS.values(), ids=registry_examples.TEXTS)
def test_every_example_of_the_specification_loads_unchanged(text: str) -> None:
    written: dict[str, Any] = yaml.safe_load(text)
    loaded = registry_examples.load(text).model_dump(mode="json")

    def compare(data: Any, actual: Any, path: str) -> None:
        if isinstance(data, dict):
            for key, value in data.items():
                compare(value, actual[{"authrequired": "auth_required"}.get(key, key)], f"{path}.{key}")
        elif isinstance(data, list):
            assert len(data) == len(actual), path
            for index, value in enumerate(data):
                compare(value, actual[index], f"{path}[{index}]")
        else:
            expected = str(data).lower() if isinstance(data, bool) and isinstance(actual, str) else data
            assert actual == expected, path

    compare(written, loaded, "")


@pytest.mark.parametrize("text", registry_examples.TEXTS.values(), ids=registry_examples.TEXTS)
def test_a_dumped_record_loads_back_unchanged(text: str) -> None:
    loaded = registry_examples.load(text)
    assert document.load(extension.Extension, json.dumps(loaded.model_dump(mode="json"))) == loaded
    assert document.load(extension.Extension, yaml.safe_dump(loaded.model_dump(mode="json"))) == loaded


@pytest.mark.parametrize("spelling", ["auth_required", "authrequired", "AuthRequired", "authRequired"])
def test_the_spellings_of_the_original_are_accepted(spelling: str) -> None:
    assert record(**{spelling: True}).services[0].auth_required


def test_the_capitals_of_the_original_installer_are_accepted() -> None:
    loaded = extension.Extension.model_validate({"ID": "e", "Product": "mlflow", "Services": [{"ID": "s", "Resource": "s3"}]})
    assert (loaded.id, loaded.product, loaded.services[0].resource) == ("e", "mlflow", "s3")


def test_a_field_in_two_spellings_is_refused() -> None:
    assert "services[0].authrequired" in problems({"services": [{"authrequired": True, "auth_required": False}]})


def test_yaml_scalars_become_text() -> None:
    text = "{version: 1.10, services: [{configuration: {INSECURE: False, PORT: 80, NAME: prj}}]}"
    loaded = document.load(extension.Extension, text)
    assert loaded.services[0].configuration == {"INSECURE": "false", "PORT": "80", "NAME": "prj"}


def test_the_defaults_are_those_of_the_original() -> None:
    loaded = record(endpoints=[{"url": "http://x"}], credentials=[{"id": "c"}]).services[0]
    assert (loaded.endpoints[0].type, loaded.credentials[0].scope, loaded.credentials[0].default, loaded.auth_required) == (
        "external",
        "global",
        False,
        False,
    )


def test_null_is_the_default() -> None:
    loaded = extension.Extension.model_validate({"id": "e", "zone": None, "services": None, "configuration": None})
    assert (loaded.zone, loaded.services, loaded.configuration) == ("", (), {})
    assert {"zone", "services", "configuration"} <= loaded.model_fields_set, "a null in a patch names the field"


# Invalid records


def test_all_violations_are_reported_at_once_with_their_paths() -> None:
    violations = problems(
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
    assert set(violations) == {
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
    assert violations["services[1].endpoints[2].url"] == "is required"
    assert violations["id"] == "may hold letters, digits, '-' and '_' only, and must not begin with '-'"


def test_problems_have_line_and_column() -> None:
    with pytest.raises(errors.InvalidError) as caught:
        document.load(extension.Extension, "id: e\nservices:\n  - id: s\n    endponts: []\n")
    (problem,) = caught.value.problems
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
def test_a_value_that_is_illegal_in_an_environment_is_refused(text: str) -> None:
    assert list(problems({"configuration": {"KEY": text}})) == ["configuration.KEY"]


# Secrets

CANARY = "canary-4711"


def secret_record() -> extension.Extension:
    return record(
        configuration={"OPEN": "open"},
        credentials=[{"id": "c", "configuration": {"KEY": CANARY, "KEPT": extension.HIDDEN}}, {"id": "empty"}],
    )


def test_representations_hold_no_secrets() -> None:
    record_with_secrets = secret_record()
    assert CANARY not in f"{record_with_secrets!r} {record_with_secrets} {record_with_secrets.services[0].credentials[0]!r}"


def test_hidden_records_hide_credentials_values_only() -> None:
    shown = extension.hidden(secret_record()).services[0]
    assert shown.credentials[0].configuration == {"KEY": extension.HIDDEN, "KEPT": extension.HIDDEN}
    assert shown.configuration == {"OPEN": "open"}


def test_an_error_does_not_quote_the_input() -> None:
    with pytest.raises(errors.InvalidError) as caught:
        document.validate(
            extension.Extension, {"services": [{"credentials": [{"configuration": {"KEY": [CANARY]}, CANARY[:6]: 1, "scope": CANARY}]}]}
        )
    assert CANARY not in f"{caught.value.message} {caught.value.details}"


def test_placeholders_survive_changes_of_secrets() -> None:
    sealed = extension.map_secrets(secret_record(), str.upper).services[0].credentials[0]
    assert sealed.configuration == {"KEY": CANARY.upper(), "KEPT": extension.HIDDEN}


@given(st.sets(st.sampled_from(["services", "zone", "configuration"])))
def test_changes_of_secrets_keep_the_named_fields(named: set[str]) -> None:
    patch = extension.Extension.model_validate(dict.fromkeys(named))
    assert extension.map_secrets(patch, str.upper).model_fields_set == named
