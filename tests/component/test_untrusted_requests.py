"""Requests with hostile text and numbers, at every route of the server: a refusal, never a failure of the server."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

import flask
import pydantic
import pytest
from werkzeug import test as wsgi

from fuseml.domain import artifact, errors
from fuseml.embedded import composition, mount
from fuseml.runtime import catalog
from fuseml.runtime.operations import Operation
from fuseml.webhooks import mlflow
from tests.component.untrusted import ADDRESSES, BODIES, NUMBERS, TEXTS


@dataclasses.dataclass
class Server:
    gateway: mount.Gateway
    functions: Mapping[str, flask.Flask]

    def status(self, method: str, path: str, query: bytes = b"", **options: Any) -> int:
        environ = wsgi.EnvironBuilder(method=method, path="/", **options).get_environ()
        # Not by a client: it would escape the address.
        target = urllib.parse.quote(path.encode("latin-1"), safe="/") + (f"?{query.decode('latin-1')}" if query else "")
        environ |= {"PATH_INFO": path, "QUERY_STRING": query.decode("latin-1"), "RAW_URI": target, "REQUEST_URI": target}
        _, status, _ = wsgi.run_wsgi_app(self.gateway, environ, buffered=True)
        return int(status.split()[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home: pathlib.Path = tmp_path_factory.mktemp("home")
    parts = composition.compose(home, "http://127.0.0.1:1", "token", mlflow="http://127.0.0.1:1", anonymous=True, environment={})
    yield Server(parts.gateway, parts.gateway.functions)
    parts.state.store.close()


def _operations(server: Server) -> list[Operation]:
    return [operation for app in server.functions.values() for operation in app.extensions["fuseml"].operations]


def _path(operation: Operation, text: str = "x") -> str:
    return re.sub(r"<[^>]*>", lambda _match: text, operation.path)


def _whole_numbers(model: type[pydantic.BaseModel]) -> dict[str, dict[str, Any]]:
    """The schemas of the integer fields, by their names in the query."""
    choices = {name: [schema, *schema.get("anyOf", [])] for name, schema in model.model_json_schema()["properties"].items()}
    return {name: schema for name, schemas in choices.items() for schema in schemas if schema.get("type") == "integer"}


def test_every_whole_number_of_a_query_has_bounds(server: Server) -> None:
    numbers = [
        (operation, name, schema)
        for operation in _operations(server)
        if operation.query
        for name, schema in _whole_numbers(operation.query).items()
    ]
    assert {name for _, name, _ in numbers} >= {"limit", "offset", "revision", "from", "to"}
    for operation, name, schema in numbers:
        assert "minimum" in schema and schema["maximum"] < 1 << 63, f"{operation.method} {operation.path}: {name} has no bounds"
        for number in [*NUMBERS, str(schema["minimum"] - 1), str(schema["maximum"] + 1)]:
            query = f"{name}={number}".encode()
            assert server.status(operation.method, _path(operation), query) == 400, (
                f"{operation.method} {operation.path}?{name}={number[:40]}"
            )
        for bound in (schema["minimum"], schema["maximum"]):
            assert server.status("GET", _path(operation), f"{name}={bound}".encode()) < 500, f"{operation.path}?{name}={bound}"


def test_an_address_that_is_not_text_is_refused(server: Server) -> None:
    for operation in _operations(server):
        for address in ADDRESSES:
            if address != b"a\x00b":
                assert server.status(operation.method, _path(operation), b"name=" + address) == 400, (operation, address)
            escaped = b"".join(b"%%%02X" % byte for byte in address)
            assert server.status(operation.method, _path(operation), b"name=" + escaped) < 500, (operation, address)
            assert server.status(operation.method, _path(operation, address.decode("latin-1"))) < 500, (operation, address)


@pytest.mark.parametrize(
    "path", ["/", "/readyz", "/version", "/nothing", "/apps/x", "/apps/x/v2", "/git/p/c.git/info/refs", "/git/p/c.git/git-upload-pack"]
)
def test_an_address_outside_of_the_functions_is_no_failure(server: Server, path: str) -> None:
    for address in ADDRESSES:
        for method in ("GET", "POST"):
            assert server.status(method, path, b"service=" + address) < 500, (method, address)
            assert server.status(method, path + address.decode("latin-1")) < 500, (method, address)


def test_texts_in_a_path_are_no_failure(server: Server) -> None:
    for operation in _operations(server):
        if "<" in operation.path:
            for text in TEXTS:
                status = server.status(operation.method, _path(operation, text.encode().decode("latin-1")))
                assert status < 500, (operation.method, operation.path, text[:40], status)


@pytest.mark.parametrize("name", BODIES)
def test_half_a_character_in_a_body_is_refused(server: Server, name: str) -> None:
    kind, body = BODIES[name]
    for operation in _operations(server):
        if operation.body or operation.document or operation.path.startswith("/webhooks/"):
            status = server.status(operation.method, _path(operation), data=body, content_type=kind)
            # A webhook is refused for its missing signature first.
            refusals = (400, 401, 404) if operation.path.startswith("/webhooks/") else (400,)
            assert status in refusals, (operation.method, operation.path, status)


def test_half_a_character_in_an_event_is_refused(server: Server) -> None:
    attributes = {"ce-specversion": "1.0", "ce-type": "org.fuseml.run.requested", "ce-source": "/x", "ce-id": "1"}
    structured = b'{"specversion": "1.0", "type": "org.fuseml.run.requested", "source": "/\\ud800", "id": "1"}'
    for function in catalog.FUNCTIONS:
        if function.events:
            client = server.functions[function.name].test_client()
            for body in (b'{"project": "\\ud800"}', b'{"project": "\xed\xa0\x80"}'):
                response = client.post(catalog.EVENTS, headers=attributes, data=body, content_type="application/json")
                assert response.status_code == 400, (function.name, body)
            assert client.post(catalog.EVENTS, data=structured, content_type="application/cloudevents+json").status_code == 400


def test_half_a_character_in_a_signed_registry_event_is_refused() -> None:
    body = b'{"entity": "model_version", "action": "created", "timestamp": "x", "data": {"name": "\\ud800", "version": "1"}}'
    with pytest.raises(errors.InvalidError, match="not JSON"):
        mlflow.parse({"X-MLflow-Delivery-Id": "1"}, body)


@pytest.mark.parametrize("value", ["\u00b2", "\u00ff", '"' + "9" * 5000 + '"', '"' + "9" * 30 + '"', "\u00ed\u00a0\u0080", '"-1"'])
def test_headers_are_no_failure(server: Server, value: str) -> None:
    names = ["Authorization", "If-Match", "traceparent", "tracestate", "Accept", "X-Gitea-Delivery", "X-Gitea-Event", "X-Gitea-Signature"]
    names += ("X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature", "ce-id", "ce-traceparent")
    for operation in _operations(server):
        for given in (dict.fromkeys(names, value), dict.fromkeys(names, f"Bearer {value}")):
            status = server.status(operation.method, _path(operation), headers=given)
            assert status < 500, (operation.method, operation.path, given["If-Match"], status)


def test_an_unknown_kind_of_artifact_is_refused_with_the_known_ones(server: Server) -> None:
    response = server.functions["artifacts"].test_client().get("/artifacts?kind=modell")
    assert response.status_code == 400
    assert all(f"'{kind}'" in response.text for kind in artifact.KINDS)
    assert {server.status("GET", "/artifacts", f"kind={kind}".encode()) for kind in artifact.KINDS} == {200}
