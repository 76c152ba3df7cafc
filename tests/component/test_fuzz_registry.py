"""Whatever the served OpenAPI document allows, and some of what it does not: no fault of ours, and no secret in any answer."""

from __future__ import annotations

import pathlib
import tempfile

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from functions.resolver import app as resolver
from fuseml.runtime import auth
from tests.component import extensions_app

CANARY = "canary-5b1e-never-shown"

_FOLDER = tempfile.TemporaryDirectory()
REGISTRY = extensions_app.Registry(pathlib.Path(_FOLDER.name))
CREDENTIALS = {"id": "account", "configuration": {"AWS_SECRET_ACCESS_KEY": CANARY}}
REGISTRY.client.post("/extensions", json={"id": "store", "services": [{"id": "s3", "resource": "s3", "credentials": [CREDENTIALS]}]})
RESOLVER = resolver.create_app(resolver.Deps(store=REGISTRY.store, tokens=auth.Tokens({}, anonymous=True), zone=""))

# Discovery asks addresses; whatever is generated for it must not be asked from a test.
registry_api = schemathesis.openapi.from_wsgi("/openapi.json", REGISTRY.app).exclude(path="/extensions/discover")
resolver_api = schemathesis.openapi.from_wsgi("/openapi.json", RESOLVER)
FUZZ = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module", autouse=True)
def _end() -> object:
    yield
    REGISTRY.store.close()
    _FOLDER.cleanup()


def _check(case: schemathesis.Case) -> None:
    response = case.call()

    assert response.status_code < 500, response.text
    assert CANARY not in response.text
    if response.status_code >= 400:
        assert set(response.json()) == {"name", "id", "message", "temporary", "timeout", "fault", "details"}


@registry_api.parametrize()
@FUZZ
def test_the_registry_answers_anything(case: schemathesis.Case) -> None:
    _check(case)


@resolver_api.parametrize()
@FUZZ
def test_the_resolver_answers_anything(case: schemathesis.Case) -> None:
    _check(case)
