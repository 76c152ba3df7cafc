"""Fuzzing of every function by the published OpenAPI document: no server errors, responses as documented, and no secrets.

`task fuzz` runs the same with many more examples.
"""

from __future__ import annotations

import functools
import json
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.config import SchemathesisConfig

from fuseml.domain import events
from fuseml.embedded import mount, triggers
from fuseml.runtime import catalog, clock, cloudevents
from tests import yaml_files
from tests.component import furnished, ingress

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DEEP = settings.get_current_profile_name() == "deep"
# The examples are sent by test_every_operation_takes_its_example.
CONFIG = {"phases": {"coverage": {"enabled": DEEP}, "examples": {"enabled": False}}}
# The document that the server serves; the server itself takes seconds, which only runs of these tests need.
api = schemathesis.openapi.from_path(pathlib.Path(__file__).parents[2] / "docs/openapi.json", config=SchemathesisConfig.from_dict(CONFIG))
FUZZ = settings(
    settings.get_profile("deep") if DEEP else settings(max_examples=20, derandomize=True), suppress_health_check=list(HealthCheck)
)
# The operations that need a server beside FuseML, which is not there: a tracker, a git repository.
NEED_A_SERVER = ("POST /extensions/{id}/webhook", "POST /catalogs", "POST /sources")
PROMISES = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# What the published examples name, and what it is called on the server of these tests.
LOCAL = {
    "http://localhost:5000": furnished.ENDPOINT,
    "http://localhost:9000": furnished.ENDPOINT,
    "https://git.example.com/ml/templates.git": furnished.ENDPOINT,
    "dataset://demo/raw/7": furnished.DATASET,
    "3f2c8a1b9d4e5f60718293a4b5c6d7e8f9012345": furnished.COMMIT,
    "demo/iris": "demo/m",
}
ERROR = {"name", "id", "message", "temporary", "timeout", "fault", "details"}


def _example(operation: Mapping[str, Any]) -> dict[str, Any]:
    """The request that the document shows: its body, or its query. Those of events have none."""
    if body := operation.get("requestBody"):
        content = body["content"]["application/json"]
        found = content["examples"]["example"]["value"] if "examples" in content else {}
    else:
        found = {item["name"]: item["example"] for item in operation["parameters"] if item["in"] == "query" and "example" in item}
    text = json.dumps(found)
    for shown, local in LOCAL.items():
        text = text.replace(shown, local)
    example: dict[str, Any] = json.loads(text)
    return example


def _described_events() -> dict[str, Any]:
    """An OpenAPI document with one operation for each type of event: its body is the event's data."""
    contract = triggers.contract_folder()
    types = yaml_files.document(contract / "catalog.yaml")["events"]
    done = {"responses": {"default": {"description": "any"}}}

    def operation(entry: Mapping[str, Any]) -> dict[str, Any]:
        schema = json.loads((contract / entry["schema"]).read_text())
        return {"post": {**done, "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}}

    paths = {f"/{entry['type']}": operation(entry) for entry in types}
    return {"openapi": "3.1.0", "info": {"title": "events", "version": "1"}, "paths": paths}


@functools.cache
def _system() -> furnished.Furnished:
    return furnished.Furnished(pathlib.Path(tempfile.mkdtemp()))


@pytest.fixture(scope="module", autouse=True)
def _end() -> Iterator[None]:
    yield
    if _system.cache_info().currsize:
        _system().close()
        shutil.rmtree(_system().home)


def _gateway(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return _system().gateway(environ, start_response)


api.app = _gateway


def _existing(path: str, name: str, sent: object) -> object:
    """The value of something that exists, for a parameter of a path, a query or a body."""
    values = _system().existing(path, name)
    return values[len(str(sent)) % len(values)] if values else sent


def _make_nearly_valid(case: schemathesis.Case[Any], valid: Mapping[str, Any]) -> None:
    """Replace the query or the body by a valid one, with one of the generated values in it at times."""
    name = "body" if "requestBody" in case.operation.definition.raw else "query"
    sent = getattr(case, name)
    odd = dict(list(sent.items())[:1]) if isinstance(sent, dict) and len(str(sent)) % 3 == 0 else {}
    setattr(case, name, {**valid, **odd})


def _address(case: schemathesis.Case[Any]) -> None:
    """Half of the requests name what exists, which random text never would; none names a server that is not there."""
    path, parts = case.operation.path, (case.path_parameters, case.query, case.body)
    if sum(map(len, map(repr, parts))) % 2 == 0:
        for part in parts:
            if isinstance(part, dict):
                part |= {name: _existing(path, name, value) for name, value in part.items()}
        if valid := _example(case.operation.definition.raw):
            _make_nearly_valid(case, valid)
    # `/workflows/runs` is another operation than `/workflows/{name}`, whose names are never that.
    if case.path_parameters and path.format(**case.path_parameters) in api.raw_schema["paths"]:
        case.path_parameters = {name: f"{value}-1" for name, value in case.path_parameters.items()}
    if path == "/extensions/discover" and isinstance(case.body, dict) and isinstance(urls := case.body.get("urls"), list):
        case.body["urls"] = [furnished.ENDPOINT if isinstance(url, str) and "://" in url else url for url in urls]
    if path in ("/catalogs", "/sources") and isinstance(case.body, dict) and "//" in str(case.body.get("url")):
        case.body["url"] = furnished.ENDPOINT


def _delivery(case: schemathesis.Case[Any]) -> dict[str, Any]:
    """What is sent beside the case: headers, and for a webhook a signed body, which no document can describe."""
    if case.operation.path == "/webhooks/gitea":
        sent = _system().push
    elif case.path_parameters.get("extension") == "tracker":
        event = {"entity": "registered_model", "action": "created", "timestamp": "x", "data": {"name": "m"}}
        sent = ingress.delivery("mlflow", event, _system().tracker_secret, at=int(time.time()))
    else:
        return {"headers": furnished.TOKEN}
    return {"headers": sent.headers, "data": sent.body}


@api.parametrize()
@FUZZ
def test_every_request_is_handled_as_documented(case: schemathesis.Case[Any]) -> None:
    _address(case)
    _check(case)


def _check(case: schemathesis.Case[Any]) -> int:
    """Send the request and check the promises. Returns the status."""
    _system().restore()
    response = case.call(**_delivery(case))
    assert furnished.CANARY not in response.text
    assert furnished.CANARY not in str(response.headers)
    case.validate_response(response, checks=PROMISES)
    assert response.status_code < 500 or (response.status_code == 503 and case.operation.label in NEED_A_SERVER), response.text
    documented = case.operation.definition.raw["responses"]
    if case.method.lower() == case.operation.method.lower():
        # `default` documents the shape of any error; a client needs to know which ones to expect.
        assert str(response.status_code) in documented, response.text
    if response.status_code >= 400:
        assert set(response.json()) == ERROR
    status: int = response.status_code
    return status


def _example_succeeds(path: str, method: str, operation: Mapping[str, Any]) -> bool:
    names = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
    body = "body" if "requestBody" in operation else "query"
    # The length of a text chooses among what exists.
    for choice in ("", "1", "22"):
        case = api[path][method.upper()].Case(path_parameters={name: _existing(path, name, choice) for name in names})
        case.media_type = "application/json" if body == "body" else None
        setattr(case, body, _example(operation))
        if _check(case) < 300:
            return True
        if not names:
            break
    return False


def test_every_operation_takes_its_example() -> None:
    """The published examples; requests that are all refused would keep every promise."""
    operations = [(path, method, operation) for path, methods in api.raw_schema["paths"].items() for method, operation in methods.items()]
    refused = {f"{method.upper()} {path}" for path, method, operation in operations if not _example_succeeds(path, method, operation)}
    # A catalogue is stored once its repository was read; tests/component/test_catalogs.py has one.
    # A codeset that is no copy gets no origin, and no delivery of one; tests/component/test_copied_codesets.py has copies.
    assert refused == {"POST /catalogs", "POST /codesets/{project}/{name}/origin", "POST /webhooks/git/{project}/{codeset}"}


consumers = schemathesis.openapi.from_dict(_described_events(), config=SchemathesisConfig.from_dict(CONFIG))


@consumers.parametrize()
@FUZZ
def test_every_consumer_takes_or_refuses_every_event(case: schemathesis.Case[Any]) -> None:
    """With a valid signature; a broker repeats what is answered with 5xx, so that an event must never cause it."""
    _system().restore()
    _address(case)
    # Some bodies are bytes that are no JSON.
    data: Any = case.body if isinstance(case.body, Mapping) else {"data": repr(case.body)}
    event = events.Event(case.operation.path[1:], "/fuzz", "1", None, clock.now(), data)
    headers, body = cloudevents.encode(_system().signer.sign(event))
    for function in catalog.FUNCTIONS:
        if function.events:
            answer = mount.call(_system().gateway.functions[function.name], "POST", catalog.EVENTS, headers, body)
            assert answer.status < 500, (function.name, answer)
