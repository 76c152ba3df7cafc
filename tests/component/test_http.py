"""The HTTP application of a function: responses, errors, and the OpenAPI document."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Annotated, Any

import flask
import jsonschema
import pydantic
import pytest
import waitress.server
import werkzeug.exceptions
import yaml
from flask.testing import FlaskClient

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.runtime import auth, catalog, openapi, settings
from fuseml.runtime.http import MAX_BODY, Api, ListPage, as_function, read_document
from fuseml.runtime.operations import PageQuery
from fuseml.runtime.telemetry import logs
from tests.waiting import PATIENCE

ADMIN, STEP = "admin-token", f"{auth.STEP_PREFIX}applications"
TOKENS = auth.Tokens({auth.digest_of(ADMIN): auth.Caller("admin", "admin")}).accepting(
    lambda token: auth.StepCaller("demo", None, "train", "train-1", "predictor", (token.removeprefix(auth.STEP_PREFIX),))
)


class Part(document.Model):
    name: document.Text
    size: int = 1


class Thing(document.Model):
    """Something with parts."""

    name: document.Text
    parts: list[Part] = []


class Stored(Thing):
    revision: int = 1


class Search(PageQuery):
    kind: str | None = None
    labels: Annotated[list[str], pydantic.Field(alias="label")] = []
    size: int = 0


REFUSALS = {
    "refused": (errors.PermanentError("no"), 400),
    "invalid": (errors.InvalidError("no", [errors.Problem("steps[0].name", "is required", 2, 3, "name")]), 400),
    "unauthenticated": (errors.UnauthenticatedError("no"), 401),
    "forbidden": (errors.ForbiddenError("no"), 403),
    "not_found": (errors.NotFoundError("no"), 404),
    "conflict": (errors.ConflictError("no", details={"with": "x"}), 409),
    "stale": (errors.StaleError("no"), 412),
    "too_large": (errors.TooLargeError("no"), 413),
    "unresolved": (errors.UnresolvedError("no", details={"unresolved": ["store"]}), 422),
    "unavailable": (errors.TemporaryError("no", delay=7), 503),
}


def make() -> Api:
    api = Api("things", "Things", tokens=TOKENS)

    @api.route("GET", "/things", query=Search, returns=[Thing])
    def list_things(query: Search) -> ListPage[Thing]:
        """The things.

        In pages.
        """
        names = [name for name in ("a", "b", "c", "d", "e") if not query.cursor or name > query.cursor]
        more = names[query.limit - 1] if len(names) > query.limit else None
        return ListPage([Thing(name=name) for name in names[: query.limit]], more)

    @api.route("POST", "/things", query=Search, body=Thing, returns=Stored, status=201)
    def create_thing(query: Search, body: Thing) -> Stored:
        """Make a thing."""
        return Stored(**body.model_dump(), revision=7)

    @api.route("GET", "/things/<name>", returns=Stored)
    def get_thing(name: str) -> Stored:
        """One thing."""
        return Stored(name=name)

    @api.route("DELETE", "/things/<name>", step="applications")
    def delete_thing(name: str) -> None:
        """Remove it."""

    @api.route("PUT", "/things/<name>", document=Thing, returns=Thing)
    def write_thing(name: str) -> Thing:
        """Reads its body itself."""
        parsed = read_document()
        return document.validate(Thing, parsed.data, position=parsed.position)

    @api.route("GET", "/refusals/<name>", public=True)
    def refuse(name: str) -> None:
        """Raises."""
        if name == "surprise":
            raise RuntimeError("canary: the cause")
        raise REFUSALS[name][0]

    return api


@pytest.fixture(scope="module")
def api() -> Api:
    return make()


@pytest.fixture
def client(api: Api) -> FlaskClient:
    client = api.app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {ADMIN}"
    return client


def problems(answer: Any) -> list[str]:
    assert answer.status_code == 400, answer.text
    return [str(errors.Problem(**problem)) for problem in answer.json["details"]["problems"]]


@pytest.mark.parametrize("name", REFUSALS)
def test_every_error_has_the_one_body(client: FlaskClient, name: str) -> None:
    error, status = REFUSALS[name]
    answer = client.get(f"/refusals/{name}")
    body = answer.json
    assert body is not None
    assert answer.status_code == status
    assert list(body) == ["name", "id", "message", "temporary", "timeout", "fault", "details"]
    assert (body["name"], body["message"], body["details"]) == (name, "no", error.details)
    assert (body["temporary"], body["timeout"], body["fault"]) == (name == "unavailable", False, False)
    assert answer.headers["goa-error"] == name
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert answer.headers.get("Retry-After") == ("7" if status == 503 else None)


def test_each_error_has_its_own_id(client: FlaskClient) -> None:
    assert len({client.get("/refusals/conflict").json["id"] for _ in range(5)}) == 5  # type: ignore[index]


def test_an_unexpected_error_has_an_id_and_the_log_has_the_cause(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = client.get("/refusals/surprise")
    body = answer.json
    assert body is not None
    assert answer.status_code == 500
    assert (body["name"], body["fault"], body["temporary"]) == ("fault", True, False)
    assert "canary" not in answer.text
    assert "Traceback" not in answer.text
    (record,) = caplog.records
    assert body["id"] in record.getMessage()
    assert "GET /refusals/surprise" in record.getMessage()
    assert record.exc_text is not None or record.exc_info is not None
    assert "canary: the cause" in caplog.text


def test_all_violations_of_query_and_body_are_reported_at_once(client: FlaskClient) -> None:
    answer = client.post("/things?limit=0&sise=1&limit=900", json={"nmae": "x", "parts": [{"name": [], "size": "big"}]})
    assert problems(answer) == [
        "limit: input should be less than or equal to 500",
        "sise: unknown key 'sise' (did you mean 'size'?)",
        "name: is required",
        "parts[0].name: must be text",
        "parts[0].size: must be a whole number",
        "nmae: unknown key 'nmae' (did you mean 'name'?)",
    ]
    assert answer.json["message"].startswith("the request is not valid: limit: ")  # type: ignore[index]
    assert answer.json["message"].endswith("(and 5 more)")  # type: ignore[index]


def test_problems_in_yaml_have_line_and_column(client: FlaskClient) -> None:
    answer = client.post("/things", data="name: x\nparts:\n  - nmae: y\n", content_type="application/x-yaml")
    assert problems(answer) == [
        "line 3, column 5: parts[0].name: is required",
        "line 3, column 5: parts[0].nmae: unknown key 'nmae' (did you mean 'name'?)",
    ]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"name": "x", "parts": [{"name": "1.10"}]}', "application/json"),
        ('{"name": "x", "parts": [{"name": "1.10"}]}', "application/json; charset=utf-8"),
        ('\n{\n\t"name": "x",\n\t"parts": [{"name": "1.10"}]\n}\n', "application/json"),
        ("name: x\nparts: [{name: 1.10}]\n", "application/x-yaml"),
        ("name: x\nparts: [{name: 1.10}]\n", "text/yaml"),
        ("name: x\nparts: [{name: 1.10}]\n", None),
        ("name: x\nparts: [{name: 1.10}]\n", "application/vnd.thing+yaml"),
        ('{"name": "x", "parts": [{"name": "1.10"}]}', "Application/VND.thing+JSON; charset=utf-8"),
        ('{"name": "x", "parts": [{"name": "1.10"}]}', None),
    ],
)
def test_json_and_yaml_are_read_by_content_type_or_by_guess(client: FlaskClient, body: str, content_type: str | None) -> None:
    answer = client.post("/things", data=body, content_type=content_type)
    assert answer.status_code == 201, answer.text
    assert answer.json == {"name": "x", "parts": [{"name": "1.10", "size": 1}], "revision": 7}
    assert answer.headers["ETag"] == '"7"'


@pytest.mark.parametrize("status", sorted(werkzeug.exceptions.default_exceptions))
def test_every_status_has_a_name_of_its_own(status: int) -> None:
    api = Api("things", "Things", tokens=None)

    def fail() -> flask.Response:
        raise werkzeug.exceptions.default_exceptions[status]("a cause")

    api.app.add_url_rule("/things", "fail", fail)
    body = api.app.test_client().get("/things").get_json()
    assert body["name"] not in ("", "error") and body["timeout"] == (status == 504) and (body["name"] == "timeout") == (status == 504)


@pytest.mark.parametrize("accept", ["application/x-yaml", "text/yaml, */*", "application/yaml"])
def test_yaml_is_returned_to_clients_that_accept_it_errors_too(client: FlaskClient, accept: str) -> None:
    answer = client.get("/things/größe", headers={"Accept": accept})
    assert answer.content_type == "application/x-yaml"
    assert answer.text == "name: größe\nparts: []\nrevision: 1\n"
    refused = client.get("/refusals/unresolved", headers={"Accept": accept})
    assert yaml.safe_load(refused.text)["details"] == {"unresolved": ["store"]}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"name": "a\tb"}', (1, 12)),
        ('{"name": "x",\n\t"parts": [}', (2, 12)),
        ('{"name": "x"} {}', (1, 15)),
        ("name: x", (1, 1)),
        ('{"a":' * 100_000, (None, None)),
        (b'{"name": "\xff"}', (None, None)),
    ],
)
def test_malformed_json_is_refused_with_its_place(client: FlaskClient, body: str | bytes, place: tuple[int, int]) -> None:
    answer = client.post("/things", data=body, content_type="application/json")
    assert answer.status_code == 400
    (problem,) = answer.json["details"]["problems"]  # type: ignore[index]
    assert problem["message"].startswith("the body is not valid JSON: ")
    assert (problem.get("line"), problem.get("column")) == place


def test_an_empty_body_and_a_body_that_is_no_text_are_refused(client: FlaskClient) -> None:
    assert problems(client.post("/things", data=" \n")) == ["the body is empty"]
    answer = client.post("/things", data=b"name: \xff")
    assert (answer.status_code, answer.json["message"]) == (400, "the body is not UTF-8 text")  # type: ignore[index]


@pytest.mark.parametrize(
    "body", ['{"name": "\\ud800"}', '{"name": "x", "\\ud800": 1}', '{"name": NaN}', '{"name": 1, "parts": [-Infinity]}']
)
def test_json_that_strict_readers_refuse_is_refused(client: FlaskClient, body: str) -> None:
    (problem,) = problems(client.post("/things", data=body, content_type="application/json"))
    assert problem.startswith("the body is not valid JSON: ")


def test_escaped_characters_and_a_byte_order_mark_are_fine(client: FlaskClient) -> None:
    body = '\ufeff{"name": "\\ud83d\\ude00"}'.encode()
    assert client.post("/things", data=body, content_type="application/json").json["name"] == "\N{GRINNING FACE}"  # type: ignore[index]


def test_an_empty_parameter_is_an_absent_one_and_lists_take_several(client: FlaskClient) -> None:
    assert client.get("/things?kind=&limit=").status_code == 200
    assert client.get("/things?label=a&label=b").status_code == 200


def test_a_missing_token_is_refused_with_the_header_to_send(client: FlaskClient) -> None:
    answer = client.get("/things", headers={"Authorization": ""})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer <token>" in answer.json["message"]  # type: ignore[index]
    wrong = client.get("/things", headers={"Authorization": "Bearer canary"})
    assert wrong.status_code == 401
    assert "canary" not in wrong.text


def test_a_step_may_use_the_routes_of_its_scopes_only(client: FlaskClient) -> None:
    step = {"Authorization": f"Bearer {STEP}"}
    assert client.get("/things", headers=step).status_code == 403
    assert client.delete("/things/a", headers=step).status_code == 204
    assert client.delete("/things/a").data == b""


def test_the_token_is_checked_before_the_body_is_read(client: FlaskClient) -> None:
    assert client.post("/things?limit=x", data="{", headers={"Authorization": ""}).status_code == 401


def test_an_unknown_path_has_the_one_error_body(client: FlaskClient) -> None:
    missing = client.get("/nothing")
    assert (missing.status_code, missing.json["name"], missing.json["message"]) == (404, "not_found", "nothing is served at /nothing")  # type: ignore[index]
    wrong = client.post("/things/a", json={})
    assert (wrong.status_code, wrong.json["name"]) == (405, "method_not_allowed")  # type: ignore[index]
    assert {"GET", "DELETE", "PUT"} < set(wrong.headers["Allow"].split(", "))


def test_a_trailing_slash_changes_nothing(client: FlaskClient) -> None:
    assert client.get("/things/").status_code == 200


def test_pages_are_linked_with_all_parameters_kept(client: FlaskClient) -> None:
    url, names = "/things?limit=2&kind=a%26b%20c%23&label=x&label=%C3%BC", []
    while url:
        answer = client.get(url)
        names += [thing["name"] for thing in answer.json]  # type: ignore[union-attr]
        link = answer.headers.get("Link", "")
        assert link == "" or (link.startswith("</things?") and link.endswith('>; rel="next"'))
        url = link[1:].partition(">")[0]
        if url:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query, strict_parsing=True)
            assert (query["kind"], query["label"], query["limit"]) == (["a&b c#"], ["x", "ü"], ["2"])
    assert names == ["a", "b", "c", "d", "e"]


def test_health_and_the_document_are_public(api: Api) -> None:
    client = api.app.test_client()
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/openapi.json").json == json.loads(json.dumps(openapi.document([api])))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A real server instead of a test client."""
    server: Any = waitress.server.create_server(make().app, host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield server.effective_port
    server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map))
    thread.join(PATIENCE)
    server.task_dispatcher.shutdown()


@pytest.mark.parametrize("chunked", [False, True], ids=["counted", "chunked"])
def test_a_body_of_fifty_megabytes_is_refused(port: int, chunked: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    size = 50 << 20
    body = (bytes(1 << 20) for _ in range(50)) if chunked else bytes(size)
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json", **({} if chunked else {"Content-Length": str(size)})}
    connection.request("POST", "/things", body, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    refusal = json.loads(answer.read())
    connection.close()
    assert (answer.status, refusal["name"]) == (413, "too_large")
    assert refusal["message"] == f"the request body is larger than {MAX_BODY} bytes"


def test_a_body_at_the_limit_is_read(client: FlaskClient) -> None:
    head, tail = b'{"name": "', b'"}'
    body = head + b"x" * (MAX_BODY - len(head) - len(tail)) + tail
    assert client.post("/things", data=body, content_type="application/json").status_code == 201
    assert client.post("/things", data=body + b" ", content_type="application/json").status_code == 413


SCHEMA_OF_OPENAPI: dict[str, Any] = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "properties": {
        "openapi": {"const": "3.1.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "paths": {
            "propertyNames": {"pattern": "^/"},
            "additionalProperties": {
                "propertyNames": {"enum": ["get", "post", "put", "delete", "patch"]},
                "additionalProperties": {
                    "type": "object",
                    "required": ["operationId", "responses", "summary"],
                    "properties": {
                        "summary": {"type": "string", "minLength": 1},
                        "parameters": {"items": {"type": "object", "required": ["name", "in", "schema"]}},
                        "requestBody": {"type": "object", "required": ["content"]},
                        "responses": {"additionalProperties": {"anyOf": [{"required": ["description"]}, {"required": ["$ref"]}]}},
                    },
                },
            },
        },
    },
}


def check_document(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The operations by id, after a check of the document by the rules of OpenAPI 3.1."""
    jsonschema.validate(described, SCHEMA_OF_OPENAPI)
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in _references(described):
        found: Any = described
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    operations: dict[str, dict[str, Any]] = {}
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert operation["operationId"] not in operations
            operations[operation["operationId"]] = operation
            named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}
    return operations


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def test_the_document_describes_every_route(api: Api) -> None:
    described = json.loads(json.dumps(openapi.document([api])))
    operations = check_document(described)
    assert operations.keys() == {operation.handler.__name__ for operation in api.operations}
    routes = {
        (rule.rule.replace("<name>", "{name}"), method.lower()) for rule in api.app.url_map.iter_rules() for method in rule.methods or ()
    }
    documented = {(path, method) for path, methods in described["paths"].items() for method in methods}
    assert documented == {
        route
        for route in routes
        if route[1] not in ("head", "options") and route[0] not in ("/healthz", "/readyz", "/version", "/metrics", *catalog.DESCRIPTIONS)
    }


def test_the_document_has_parameters_bodies_responses_and_security(api: Api) -> None:
    operations = check_document(openapi.document([api]))
    listed = operations["list_things"]
    assert (listed["summary"], listed["description"]) == ("The things.", "In pages.")
    assert {parameter["name"] for parameter in listed["parameters"]} == {"limit", "cursor", "kind", "label", "size"}
    assert listed["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "array"
    assert listed["security"] == [{"token": []}]
    assert "security" not in operations["refuse"]
    created = operations["create_thing"]
    assert created["requestBody"]["content"].keys() == {"application/json", "application/x-yaml"}
    assert "201" in created["responses"]
    assert "204" in operations["delete_thing"]["responses"]
    assert "requestBody" in operations["write_thing"]
    assert all("default" in operation["responses"] for operation in operations.values())
    assert "404" in operations["delete_thing"]["responses"] and "404" not in listed["responses"]
    assert "401" in listed["responses"] and "401" not in operations["refuse"]["responses"]


def test_models_of_one_name_in_two_functions_stay_apart() -> None:
    other = Api("others", "Others", tokens=None)

    class Thing(document.Model):
        colour: str

    @other.route("POST", "/others", body=Thing, returns=Thing)
    def create_other(body: Thing) -> Thing:
        """Make another."""
        return body

    described = openapi.document([make(), other])
    operations = check_document(described)
    assert _body(described, operations["create_other"])["properties"].keys() == {"colour"}
    assert _body(described, operations["create_thing"])["properties"].keys() == {"name", "parts"}


def _body(described: dict[str, Any], operation: dict[str, Any]) -> Any:
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    return described["components"]["schemas"][name]


def test_a_function_is_made_once_and_at_the_first_request() -> None:
    made: list[flask.Flask] = []

    def make_app() -> flask.Flask:
        made.append(make().app)
        return made[-1]

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    handle = as_function(make_app, settings.Settings())
    assert (made, root.handlers) == ([], handlers)
    outer = flask.Flask("outer")
    try:
        for _ in range(3):
            with outer.test_request_context("/healthz"):
                assert handle(flask.request).get_data() == b"ok\n"
        assert isinstance(root.handlers[0].formatter, logs.JsonLines), "its log begins with it"
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert len(made) == 1
