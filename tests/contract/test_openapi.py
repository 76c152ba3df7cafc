"""The OpenAPI document of all functions, from the embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuseml.runtime import catalog
from infra import schema
from tests.component import test_http


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return schema.openapi(tmp_path_factory.mktemp("home"))


def test_the_committed_document_is_the_generated_one(described: Any) -> None:
    assert schema.OPENAPI.read_text() == schema.text(described), "run `task schema`"


def test_the_committed_document_of_agents_is_the_generated_one(tmp_path: Path) -> None:
    described = schema.agents(tmp_path)
    assert schema.AGENTS.read_text() == schema.text(described), "run `task schema`"
    assert len(test_http.check_document(dict(described))) > 20
    public = {path for path, methods in described["paths"].items() for operation in methods.values() if "security" not in operation}
    assert public == {"/store/v1", "/workload/v1"}


def test_the_document_is_valid_and_every_reference_resolves(described: Any) -> None:
    assert len(test_http.check_document(described)) > 40


def test_every_path_is_served_by_the_function_that_documents_it(described: Any) -> None:
    for path, methods in described["paths"].items():
        function = catalog.find(path)
        assert function is not None, path
        assert {tuple(operation["tags"]) for operation in methods.values()} == {(function.name,)}


def test_only_webhooks_need_no_token(described: Any) -> None:
    public = {path for path, methods in described["paths"].items() for operation in methods.values() if "security" not in operation}
    assert all(path.startswith("/webhooks/") for path in public)


def test_every_prefix_of_the_catalogue_has_operations(described: Any) -> None:
    silent = [
        prefix
        for function in catalog.FUNCTIONS
        for prefix in function.paths
        if not any(path == prefix or path.startswith(prefix + "/") for path in described["paths"])
    ]
    assert silent == []
