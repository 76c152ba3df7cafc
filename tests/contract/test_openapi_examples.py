"""Every operation of the OpenAPI document has examples. tests/component/test_fuzz.py sends the requests among them to a server."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from fuseml.runtime import examples
from infra import schema
from tests import yaml_files

TABLE = yaml_files.document(pathlib.Path(examples.__file__).with_suffix(".yaml"))


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return schema.openapi(tmp_path_factory.mktemp("home"))


def operations(described: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for operation in methods.values():
            yield path, operation


def contents(described: Any, operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The media types of an operation, with the name of their place."""
    answers = {f"the answer {status}": answer for status, answer in operation["responses"].items() if status != "default"}
    for place, holder in {"the request": operation.get("requestBody", {}), **answers}.items():
        for content in _found(described, holder).get("content", {}).values():
            yield f"{operation['operationId']}: {place}", content


def _found(described: Any, value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        _, _, kind, name = value["$ref"].split("/")
        value = described["components"][kind][name]
    return value


def problems(described: Any, schema: dict[str, Any], example: object) -> list[str]:
    validator = jsonschema.Draft202012Validator({**schema, "components": {"schemas": described["components"]["schemas"]}})
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(example)]


def test_every_body_has_an_example_that_its_schema_accepts(described: Any) -> None:
    number = 0
    for _, operation in operations(described):
        for place, content in contents(described, operation):
            assert "examples" in content, f"{place} has no example; give its fields values in runtime/examples.yaml"
            example = _found(described, content["examples"]["example"])["value"]
            assert problems(described, content["schema"], example) == [], place
            number += 1
    assert number > 1000


def test_every_variable_of_a_path_and_every_needed_parameter_has_an_example(described: Any) -> None:
    for path, operation in operations(described):
        for parameter in operation["parameters"]:
            if parameter["required"]:
                assert "example" in parameter, f"{operation['operationId']} {path}: {parameter['name']}"
            if "example" in parameter:
                assert problems(described, parameter["schema"], parameter["example"]) == [], f"{operation['operationId']} {path}"


def test_every_error_has_an_example_of_its_own(described: Any) -> None:
    answers = [answer["content"]["application/json"] for answer in described["components"]["responses"].values()]
    names = [answer["examples"]["example"]["value"]["name"] for answer in answers]
    assert len(set(names)) == len(names)


def test_the_table_names_what_exists(described: Any) -> None:
    ids = {operation["operationId"] for _, operation in operations(described)}
    assert {*TABLE["requests"], *TABLE["answers"]} <= ids
    assert all(any(path == f"/{part}" or path.startswith(f"/{part}/") for path, _ in operations(described)) for part in TABLE["paths"])
    fields: dict[str, set[str]] = {}
    for documents in (described, json.loads(schema.AGENTS.read_text())):
        for name, info in documents["components"]["schemas"].items():
            fields.setdefault(name.rpartition("__")[2], set()).update(info.get("properties", {}))
    assert TABLE["models"].keys() <= fields.keys()
    for name in TABLE["fields"]:
        model, _, field = name.rpartition(".")
        assert field in (fields.get(model, set()) if model else set().union(*fields.values())), name
