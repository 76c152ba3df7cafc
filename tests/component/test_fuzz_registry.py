"""Fuzzing by the served OpenAPI document: no server errors, responses as documented, and no secrets."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks

from functions.resolver import app as resolver
from functions.resolver import deps as resolver_deps
from fuseml.runtime import auth
from tests.component import extensions_app

CANARY = "canary-5b1e-never-shown"
ENDPOINT = "http:%2F%2Fminio:9000"

_FOLDER = tempfile.TemporaryDirectory()
REGISTRY = extensions_app.Registry(pathlib.Path(_FOLDER.name))
RESOLVER = resolver.create_app(resolver_deps.Deps(store=REGISTRY.store, tokens=auth.Tokens({}, anonymous=True), zone=""))
STORE: dict[str, Any] = {
    "id": "store",
    "product": "minio",
    "services": [
        {
            "id": "s3",
            "resource": "s3",
            "endpoints": [{"url": "http://minio:9000"}],
            "credentials": [{"id": "account", "configuration": {"AWS_SECRET_ACCESS_KEY": CANARY}}],
        }
    ],
}

# Discovery sends requests to the given URLs; tests must not send any to generated ones.
registry_api = schemathesis.openapi.from_wsgi("/openapi.json", REGISTRY.app).exclude(path="/extensions/discover")
resolver_api = schemathesis.openapi.from_wsgi("/openapi.json", RESOLVER)
FUZZ = settings(max_examples=12, suppress_health_check=list(HealthCheck), derandomize=True)
PROMISES = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    REGISTRY.store.close()
    _FOLDER.cleanup()


@registry_api.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Half of the requests address existing records, which random ids never would."""
    if not path_parameters or context.operation is None or sum(map(len, map(str, path_parameters.values()))) % 2:
        return path_parameters
    address = ENDPOINT if "endpoints" in context.operation.path else "account" if "credentials" in context.operation.path else "s3"
    return {name: {"service_id": "s3", "address": address}.get(name, "store") for name in path_parameters}


def _check(case: schemathesis.Case[Any]) -> None:
    # Restores the changes of earlier cases.
    REGISTRY.client.post("/extensions", json=STORE)
    REGISTRY.client.put("/extensions/store?replace=true", json=STORE)
    response = case.call()
    assert CANARY not in response.text
    assert CANARY not in str(response.headers)
    case.validate_response(response, checks=PROMISES)
    if response.status_code >= 400:
        assert set(response.json()) == {"name", "id", "message", "temporary", "timeout", "fault", "details"}


@registry_api.parametrize()
@FUZZ
def test_the_registry_handles_any_request(case: schemathesis.Case[Any]) -> None:
    _check(case)


@resolver_api.parametrize()
@FUZZ
def test_the_resolver_handles_any_request(case: schemathesis.Case[Any]) -> None:
    _check(case)
