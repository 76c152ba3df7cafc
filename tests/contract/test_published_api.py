"""The API that the original FuseML published: every operation, with requests as the original's client sends them (`tests/published/`)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import werkzeug.test
import yaml

from fuseml.domain import events, times
from fuseml.embedded import composition
from fuseml.runtime import catalog
from tests import yaml_files

FOLDER = Path(__file__).parent.parent / "published"
OPERATIONS = 48
SCHEMAS = yaml_files.document(FOLDER / "schemas.yaml")
EXCHANGES: list[dict[str, Any]] = yaml_files.document(FOLDER / "exchanges.yaml")
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: object) -> bool:
    return isinstance(value, str) and times.parse(value) is not None


@dataclass(frozen=True)
class Server:
    """The embedded server for clients without a token, its parts not started."""

    client: werkzeug.test.Client

    def send(self, method: str, target: str, body: object = None, **headers: str) -> werkzeug.test.TestResponse:
        data = None if body is None else json.dumps(body)
        return self.client.open(target, method=method, data=data, headers=headers)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    parts = composition.compose(tmp_path, "http://127.0.0.1:1", "admin", mlflow="none", anonymous=True, environment={})
    with contextlib.closing(parts.state.store):
        yield Server(werkzeug.test.Client(parts.gateway))


def accepted(name: str, answer: object) -> None:
    """Raise ValidationError unless the original's client accepts the answer."""
    is_list = name.startswith("[")
    reference = {"$ref": f"#/$defs/{name.strip('[]')}"}
    schema = {**SCHEMAS, **({"type": "array", "items": reference} if is_list else reference)}
    jsonschema.validate(_without_null(answer), schema, jsonschema.Draft202012Validator, format_checker=_FORMATS)


def _without_null(value: object) -> object:
    match value:
        case dict():
            return {key: _without_null(item) for key, item in value.items() if item is not None}
        case list():
            return [_without_null(item) for item in value]
    return value


def test_every_published_operation_answers_as_its_client_expects(server: Server) -> None:
    for number, exchange in enumerate(EXCHANGES):
        method, path = exchange["operation"].split()
        status, _, schema = exchange["answer"].partition(" ")
        response = server.send(method, exchange.get("target", path), exchange.get("body"))
        place = f"exchange {number}, {method} {exchange.get('target', path)}: {response.text[:500]}"
        assert response.status_code == int(status), place
        is_yaml = response.content_type == "application/x-yaml"
        # The parser in C takes a tenth of the time.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        answer: Any = (yaml.load(response.text, loader) if is_yaml else response.json) if response.data else None
        try:
            accepted(schema, answer)
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{place}\n{error}") from error
        for name, value in exchange.get("has", {}).items():
            assert answer[name] == value, place


def test_answers_in_yaml_hold_the_same_as_answers_in_json(server: Server) -> None:
    for path in ("/extensions/fuseml", "/runnables?kind=trainer", "/version"):
        answer = server.send("GET", path, Accept="application/x-yaml")
        assert answer.content_type == "application/x-yaml"
        assert yaml.safe_load(answer.text) == server.send("GET", path).json


def test_every_published_operation_has_exchanges_and_every_answer_is_refused_that_lacks_a_field() -> None:
    assert len({exchange["operation"] for exchange in EXCHANGES}) == OPERATIONS
    for name, schema in SCHEMAS["$defs"].items():
        for field in schema.get("required", ()):
            with pytest.raises(jsonschema.ValidationError, match=f"{field!r} is a required property"):
                accepted(name, {other: "x" for other in schema["required"] if other != field})


def test_the_published_description_has_these_operations_and_statuses() -> None:
    path = os.environ.get("FUSEML_PUBLISHED_API")
    if not path:
        pytest.skip("needs FUSEML_PUBLISHED_API, the path of the published OpenAPI document")
    published = {
        f"{method.upper()} {where}": {int(status) for status in operation["responses"]}
        for where, operations in yaml_files.document(Path(path))["paths"].items()
        for method, operation in operations.items()
    }
    seen: dict[str, set[int]] = {name: set() for name in published}
    for exchange in EXCHANGES:
        seen[exchange["operation"]].add(int(exchange["answer"].partition(" ")[0]))
    successes = {name: {status for status in statuses if status < 300} for name, statuses in published.items()}
    assert {name: {status for status in statuses if status < 300} for name, statuses in seen.items()} == successes
    # Statuses of errors beside the published ones: the original failed, or answered 400, where this says which it was.
    added = {name: statuses - published[name] for name, statuses in seen.items() if statuses - published[name]}
    assert added == {"DELETE /applications/{name}/": {404}, "DELETE /projects/{name}": {409}}


def test_a_codeset_of_an_original_client_begins_with_a_commit_which_is_one_push(server: Server) -> None:
    def pushes() -> list[Any]:
        listed: Any = server.send("GET", f"/events?type={events.CodesetPushed.TYPE}").json
        found: list[Any] = [server.send("GET", f"/events/{row['number']}").json for row in listed]
        return [(event["data"]["codeset"], event["data"]["ref"], event["data"]["before"]) for event in found]

    for _ in range(2):
        assert server.send("POST", "/codesets?project=p&name=begun&description=digits").status_code == 201
        assert pushes() == [("begun", "refs/heads/main", None)]
    # A repository that a client of this API has left empty.
    server.send("POST", "/codesets?project=p&name=empty", **{catalog.CLIENT: "tests"})
    assert len(pushes()) == 1
    server.send("POST", "/codesets?project=p&name=empty&initial_commit=true", **{catalog.CLIENT: "tests"})
    assert ("empty", "refs/heads/main", None) in pushes()
    server.send("POST", "/codesets?project=p&name=bare&initial_commit=false")
    assert len(pushes()) == 2


def test_clients_that_know_this_api_get_its_own_answers(server: Server) -> None:
    known = {catalog.CLIENT: "tests"}
    registered = server.send("POST", "/codesets?project=p&name=own", **known)
    assert registered.status_code == 201
    assert server.send("DELETE", "/workflows/none", **known).status_code == 404
    assert server.send("DELETE", "/codesets/p/none", **known).status_code == 404
    listed: Any = server.send("GET", "/runnables", **known).json
    kinds = {runnable["kind"]: runnable["created"] for runnable in listed}
    assert {"transformer", "validator"} <= kinds.keys() and set(kinds.values()) == {""}
    server.send("POST", "/workflows", {"name": "bare", "inputs": [{"name": "x"}], "steps": [{"name": "one", "image": "a:1"}]}, **known)
    bare: Any = server.send("GET", "/workflows/bare", **known).json
    assert bare["inputs"] == [{"name": "x"}]
    # What a client of the original reads, and sends back, makes no required input optional.
    shown: Any = server.send("GET", "/workflows/bare").json
    assert shown["inputs"][0]["default"] == ""
    sent = {name: value for name, value in shown.items() if name not in ("created", "revision")}
    assert server.send("PUT", "/workflows/bare", sent).status_code == 200
    again: Any = server.send("GET", "/workflows/bare", **known).json
    assert again["inputs"] == [{"name": "x"}]
