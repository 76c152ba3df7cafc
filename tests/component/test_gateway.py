"""The gateway in front of real functions: it changes neither requests nor responses."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import flask
import pytest
import werkzeug.serving
from flask.testing import FlaskClient

from functions.artifacts import app as artifacts_app
from functions.artifacts import deps as artifacts_deps
from functions.extensions import app as extensions_app
from functions.extensions import deps as extensions_deps
from functions.gateway import app as gateway_app
from functions.gateway import deps as gateway_deps
from functions.gateway import description
from fuseml.domain import errors, events
from fuseml.runtime import auth, catalog, http, openapi, secrets
from fuseml.store import database
from fuseml.webhooks import gitea
from tests import event_keys
from tests.waiting import PATIENCE, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

TOKEN = {"Authorization": "Bearer one"}
RECORD = {"id": "minio", "product": "minio", "services": [{"id": "s3", "resource": "s3"}]}


class Nowhere:
    def publish(self, event: events.Event) -> None:
        """No consumer."""


class Cluster:
    """Every function below the first part of the path, as if that were its host."""

    def __init__(self, functions: dict[str, WSGIApplication]) -> None:
        self.functions = functions
        self.seen: list[WSGIEnvironment] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        service, _, rest = environ["PATH_INFO"].removeprefix("/").partition("/")
        received = environ["RAW_URI"].removeprefix(f"/{service}")
        self.seen.append(environ)
        return self.functions[service]({**environ, "PATH_INFO": f"/{rest}", "RAW_URI": received, "REQUEST_URI": received}, start_response)


def echo() -> flask.Flask:
    app = flask.Flask("echo")

    @app.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
    def echo(path: str) -> flask.Response:
        request = flask.request
        answer = flask.jsonify(
            path=request.path, query=request.query_string.decode(), method=request.method, body=request.get_data(as_text=True)
        )
        answer.headers.extend([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Kept", request.headers.get("X-Kept", ""))])
        answer.status_code = 418
        return answer

    return app


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    store = database.Database("sqlite://")
    tokens = auth.Tokens({auth.digest_of("one"): auth.Caller("admin", "admin")})
    keyring = secrets.Keyring([secrets.new_key()])
    store.close()
    found = Cluster(
        {
            "extensions": extensions_app.create_app(
                extensions_deps.Deps(store=store, publisher=Nowhere(), keyring=keyring, tokens=tokens, zone="")
            ).wsgi_app,
            "artifacts": artifacts_app.create_app(
                artifacts_deps.Deps(store=store, publisher=Nowhere(), signer=event_keys.SIGNER, tokens=tokens, keyring=keyring)
            ).wsgi_app,
            "runs": echo().wsgi_app,
        }
    )
    yield found
    store.close()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[FlaskClient]:
    server = werkzeug.serving.make_server("127.0.0.1", 0, cluster, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        deps = gateway_deps.Deps(functions_url=f"http://127.0.0.1:{server.server_port}/{{function}}", timeout=PATIENCE)
        yield gateway_app.create_app(deps).test_client()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_requests_and_responses_are_forwarded_unchanged(client: FlaskClient) -> None:
    answer = client.put("/runs/a%20b/c?x=%2F&x=2", data="text", headers={"X-Kept": "yes", "Connection": "close"})
    request: dict[str, Any] = answer.get_json()
    assert (answer.status_code, answer.headers.getlist("Set-Cookie"), answer.headers["X-Kept"]) == (418, ["a=1", "b=2"], "yes")
    assert request == {"path": "/runs/a b/c", "query": "x=%2F&x=2", "method": "PUT", "body": "text"}


def test_a_function_gets_its_own_host_header(client: FlaskClient, cluster: Cluster) -> None:
    client.get("/runs/1", headers={"Host": "fuseml.example"})
    assert cluster.seen[0]["HTTP_HOST"].startswith("127.0.0.1:")


def test_an_error_of_a_function_is_forwarded(client: FlaskClient) -> None:
    answer = client.get("/extensions")
    assert (answer.status_code, answer.get_json()["name"], answer.headers["WWW-Authenticate"]) == (401, "unauthenticated", "Bearer")


@pytest.mark.parametrize(
    ("status", "text", "expected", "name"),
    [
        (504, "activator request timeout", 504, "timeout"),
        (503, "no healthy upstream", 503, "unavailable"),
        (502, "", 503, "unavailable"),
    ],
)
def test_an_answer_of_the_platform_becomes_an_error_of_the_api(
    client: FlaskClient, cluster: Cluster, status: int, text: str, expected: int, name: str
) -> None:
    cluster.functions["runs"] = flask.Flask.response_class(text, status, content_type="text/plain")
    answer = client.get("/runs")
    body = answer.get_json()
    assert (answer.status_code, body["name"], body["timeout"]) == (expected, name, expected == 504)
    assert body["message"].startswith("runs ") and (text or f"status {status}") in body["message"]


def test_a_function_that_is_unavailable_gives_the_cause_itself(client: FlaskClient, cluster: Cluster) -> None:
    api = http.Api("runs", "Always busy", tokens=None)

    def busy() -> flask.Response:
        raise errors.TemporaryError("the engine is busy", delay=7)

    api.app.add_url_rule("/runs", "busy", busy)
    cluster.functions["runs"] = api.app.wsgi_app
    answer = client.get("/runs")
    assert (answer.status_code, answer.get_json()["message"], answer.headers["Retry-After"]) == (503, "the engine is busy", "7")


@pytest.mark.parametrize("path", ["/nothing", "/metrics", "/extensionsx", "/nothing/", "/favicon"])
def test_a_path_that_no_function_serves_is_not_found(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.get_json()["name"]) == (404, "not_found")


def test_events_cannot_be_posted_from_outside(client: FlaskClient, cluster: Cluster) -> None:
    assert client.post("/", headers={"ce-type": "x"}).status_code == 405
    assert cluster.seen == []


def test_the_gateway_answers_its_own_paths(client: FlaskClient, cluster: Cluster) -> None:
    assert client.get("/").get_json()["name"] == "FuseML"
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").get_json()["status"] == "ready"
    assert client.get("/version").get_json()["version"]
    assert cluster.seen == []


def test_a_function_that_cannot_be_reached_is_a_temporary_error() -> None:
    gateway = gateway_app.create_app(gateway_deps.Deps(functions_url="http://127.0.0.1:9/{function}", timeout=PATIENCE)).test_client()
    answer = gateway.get("/runs")
    assert (answer.status_code, answer.get_json()["temporary"], "runs" in answer.get_json()["message"]) == (503, True, True)
    assert answer.headers["Retry-After"]


def test_a_body_that_is_too_large_reaches_no_function(client: FlaskClient, cluster: Cluster) -> None:
    assert client.post("/runs", data=b"x" * (http.MAX_BODY + 1)).status_code == 413
    assert cluster.seen == []


def test_a_webhook_of_a_git_host_may_be_larger(client: FlaskClient, cluster: Cluster) -> None:
    largest = next(function.max_body for function in catalog.FUNCTIONS if function.name == "gitea_ingress")
    assert largest == gitea.MAX_BODY
    cluster.functions["gitea-ingress"] = echo().wsgi_app
    body = b"x" * largest
    answer = client.post("/webhooks/gitea", data=body)
    assert (answer.status_code, len(answer.get_json()["body"])) == (418, largest)
    assert client.post("/webhooks/gitea", data=body + b"x").status_code == 413
    assert len(cluster.seen) == 1


def test_the_documents_of_all_functions_are_merged(cluster: Cluster) -> None:
    store, tokens = database.Database("sqlite://"), auth.Tokens({})
    keyring = secrets.Keyring([secrets.new_key()])
    apps = [
        extensions_app.create_app(extensions_deps.Deps(store=store, publisher=Nowhere(), keyring=keyring, tokens=tokens, zone="")),
        artifacts_app.create_app(
            artifacts_deps.Deps(store=store, publisher=Nowhere(), signer=event_keys.SIGNER, tokens=tokens, keyring=keyring)
        ),
    ]
    apis = [app.extensions["fuseml"] for app in apps]
    store.close()
    assert description.merge([(api.name, openapi.document([api])) for api in apis]) == openapi.document(apis)


def test_two_schemas_of_one_name_stay_two() -> None:
    def document(kind: str) -> dict[str, Any]:
        reference = {"schema": {"$ref": "#/components/schemas/Thing"}}
        return {
            "openapi": "3.1.0",
            "tags": [],
            "paths": {f"/{kind}": {"get": reference}},
            "components": {"schemas": {"Thing": {"type": kind}}, "examples": {"Thing": {"value": kind}}},
        }

    whole = description.merge([("one", document("string")), ("two", document("integer"))])
    assert whole["components"]["schemas"] == {"Thing": {"type": "string"}, "two_Thing": {"type": "integer"}}
    assert whole["components"]["examples"] == {"Thing": {"value": "string"}, "two_Thing": {"value": "integer"}}
    assert whole["paths"]["/integer"]["get"]["schema"]["$ref"] == "#/components/schemas/two_Thing"


def test_every_path_of_the_catalogue_has_a_function_behind_the_gateway() -> None:
    assert all(catalog.find(path) is function for function in catalog.FUNCTIONS for path in function.paths)


def test_a_function_that_does_not_answer_leaves_places_for_others(client: FlaskClient, cluster: Cluster) -> None:
    gate, app = threading.Event(), client.application

    def hang(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert gate.wait(PATIENCE)
        return http_ok(environ, start_response)

    http_ok, cluster.functions["extensions"] = echo().wsgi_app, hang
    answers: list[Any] = []
    callers = [threading.Thread(target=lambda: answers.append(app.test_client().get("/extensions", headers=TOKEN))) for _ in range(50)]
    try:
        for caller in callers:
            caller.start()
        wait_until(lambda: len(answers) >= 28, "the requests without a place to be refused")
        assert client.get("/runs/1").status_code == 418
        assert {(answer.status_code, answer.get_json()["temporary"]) for answer in answers} == {(503, True)}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
    finally:
        gate.set()
        for caller in callers:
            caller.join(PATIENCE)
    assert len(answers) == 50
    for answer in answers:
        answer.close()
    # Places are free again, also after responses that were not read.
    for _ in range(40):
        answer = app.test_client().get("/extensions")
        assert answer.status_code == 418
        answer.close()


def test_slow_bodies_leave_places_for_requests_without_one(client: FlaskClient) -> None:
    gate, app = threading.Event(), client.application

    class Slow(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            assert gate.wait(PATIENCE)
            return super().readinto(buffer)

        def read(self, size: int | None = -1) -> bytes:
            assert gate.wait(PATIENCE)
            return super().read(size)

    def send() -> None:
        answers.append(app.test_client().post("/runs/1", input_stream=Slow(b"0123456789"), content_length=10))

    answers: list[Any] = []
    callers = [threading.Thread(target=send) for _ in range(40)]
    try:
        for caller in callers:
            caller.start()
        wait_until(lambda: len(answers) == 16, "the bodies without a place to be refused")
        assert {answer.status_code for answer in answers} == {503}
        assert client.get("/runs/1").status_code == 418
    finally:
        gate.set()
        for caller in callers:
            caller.join(PATIENCE)
    for answer in answers:
        answer.close()
    assert client.post("/runs/1", data="x").status_code == 418
