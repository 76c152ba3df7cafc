"""The OpenAPI document of all functions, from the embedded server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import werkzeug.test

from fuseml.embedded import composition
from fuseml.runtime import catalog
from tests.component import test_http


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("home")
    # The composition starts no part.
    parts = composition.compose(home, "http://127.0.0.1:1", "token", mlflow="none", anonymous=False, environment={})
    answer = werkzeug.test.Client(parts.gateway).get("/openapi.json")
    assert answer.status_code == 200
    yield answer.json
    parts.state.store.close()


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
