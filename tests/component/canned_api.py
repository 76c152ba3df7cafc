"""A small real HTTP server with canned responses of the API, for tests of the client and the command."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from wsgiref import simple_server

TOKEN = "canned-token-0123456789"

RUN: dict[str, object] = {
    "name": "mlflow-e2e-1",
    "id": "0123456789abcdef0123456789abcdef",
    "workflow": "mlflow-e2e",
    "revision": 1,
    "project": "demo",
    "codeset": "diabetes",
    "commit": "3f2a91c4" * 5,
    "state": "succeeded",
    "cause": None,
    "created": "2026-01-01T10:00:00Z",
    "started": "2026-01-01T10:00:01Z",
    "finished": "2026-01-01T10:01:05Z",
    "trigger": {"kind": "assignment", "event": None},
    "inputs": {"mlflow-codeset": "code://demo/diabetes/3f2a91c4"},
    "outputs": {"prediction-url": "http://127.0.0.1:8000/apps/demo-diabetes/v2/models/demo-diabetes/infer"},
    "steps": [
        {
            "name": "trainer",
            "image": "fuseml.local/mlflow-trainer:host",
            "state": "succeeded",
            "started": "2026-01-01T10:00:01Z",
            "finished": "2026-01-01T10:00:31Z",
            "duration": 30.0,
            "attempts": 2,
            "cause": None,
            "outputs": {"metrics": '{"rmse": 53.1}', "model": "models:/diabetes/1"},
            "log": None,
        },
        {
            "name": "predictor",
            "image": "ghcr.io/fuseml/predictor:v1",
            "state": "succeeded",
            "started": None,
            "finished": None,
            "attempts": 1,
        },
    ],
    "bindings": [
        {
            "step": "trainer",
            "name": "mlflow-tracking",
            "extension_id": "mlflow",
            "service_id": "mlflow-tracking",
            "credentials_id": None,
            "product": "mlflow",
            "version": "3.17.2",
            "zone": "",
            "url": "http://127.0.0.1:5000",
            "revision": 1,
        }
    ],
}
PROJECT = {"name": "demo", "description": "first steps", "users": [{"name": "ada", "email": "ada@example.org"}]}
CODESET = {
    "name": "diabetes",
    "project": "demo",
    "description": "",
    "labels": ["sklearn"],
    "url": "http://127.0.0.1:1/git/demo/diabetes.git",
}
WORKFLOW = {
    "name": "mlflow-e2e",
    "description": "train and serve",
    "created": "2026-01-01T10:00:00Z",
    "revision": 2,
    "inputs": [{"name": "mlflow-codeset", "type": "codeset", "description": "the code"}],
    "outputs": [{"name": "prediction-url", "type": "string"}],
    "steps": [{"name": "trainer", "image": "{{ steps.builder.outputs.image }}"}],
}
ASSIGNMENT = {"workflow": "mlflow-e2e", "codesets": [CODESET], "status": {"available": True, "URL": "http://127.0.0.1/"}}
APPLICATION = {
    "name": "demo-diabetes",
    "type": "predictor",
    "description": "models:/diabetes/1",
    "url": "http://127.0.0.1:8000/apps/demo-diabetes/v2/models/demo-diabetes/infer",
    "workflow": "mlflow-e2e",
    "k8s_namespace": "",
    "k8s_resources": [{"name": "demo-diabetes", "kind": "Deployment"}],
    "model": "models:/diabetes/1",
    "traffic": [{"revision": 2, "percent": 100, "model": "models:/diabetes/1"}],
    "answering": [{"revision": 2, "percent": 100, "model": "models:/diabetes/1"}],
    "status": "ready",
    "field_of_a_newer_server": 1,
}
ARTIFACT: dict[str, Any] = {
    "address": "model://demo/diabetes/1",
    "kind": "model",
    "project": "demo",
    "name": "diabetes",
    "version": "1",
    "type": None,
    "format": "mlflow",
    "framework": {"name": "scikit-learn", "version": "1.4.2"},
    "digest": f"sha256:{'1' * 64}",
    "size": None,
    "location": "models:/diabetes/1",
    "external": False,
    "run": "mlflow-e2e-1",
    "step": "trainer",
    "metrics": {"rmse": 53.1},
    "tags": [{"tag": "champion", "immutable": True, "by": "ada", "updated": "2026-01-01T10:01:00Z"}],
    "labels": ["reviewed"],
    "metadata": {"uri": "models:/diabetes/1", "metrics": {"rmse": 53.1}},
    "created": "2026-01-01T10:00:31Z",
}
LINEAGE: dict[str, Any] = {
    "address": "model://demo/diabetes/1",
    "nodes": [
        {"address": "model://demo/diabetes/1", "recorded": True},
        {"address": "code://demo/diabetes/3f2a91c4", "recorded": True},
        {"address": "dataset://demo/scored/1", "recorded": False},
        {"address": "dataset://demo/raw/7", "recorded": True},
    ],
    "edges": [
        {"source": "code://demo/diabetes/3f2a91c4", "target": "model://demo/diabetes/1", "run": "mlflow-e2e-1", "step": "trainer"},
        {"source": "dataset://demo/raw/7", "target": "model://demo/diabetes/1", "run": "mlflow-e2e-1", "step": None},
        {"source": "model://demo/diabetes/1", "target": "dataset://demo/scored/1", "run": "", "step": None},
    ],
    "truncated": False,
}
HISTORY: dict[str, Any] = {
    "address": "model://demo/diabetes/1",
    "deleted": False,
    "changes": [
        {
            "number": 4,
            "change": "tagged",
            "name": "champion",
            "address": "model://demo/diabetes/1",
            "previous": "model://demo/diabetes/0",
            "immutable": True,
            "by": "ada",
            "made": "2026-01-01T10:01:00Z",
        }
    ],
    "products": [LINEAGE["edges"][2]],
}
SERVICE = {
    "id": "tracking",
    "extension_id": "mlflow",
    "resource": "mlflow-tracking",
    "category": "experiment-tracking",
    "auth_required": True,
    "configuration": {},
    "endpoints": [{"url": "http://127.0.0.1:5000", "type": "internal", "configuration": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}}],
    "credentials": [{"id": "default", "scope": "global", "default": True, "configuration": {"MLFLOW_TRACKING_TOKEN": "<hidden>"}}],
}
EXTENSION = {
    "id": "mlflow",
    "product": "mlflow",
    "version": "3.17.2",
    "zone": "",
    "configuration": {},
    "services": [SERVICE],
    "revision": 3,
}
BINDING = {
    "name": "selector",
    "extension_id": "mlflow",
    "service_id": "tracking",
    "product": "mlflow",
    "version": "3.17.2",
    "url": "http://127.0.0.1:5000",
    "endpoint_type": "internal",
    "env": {"MLFLOW_TRACKING_URI": "http://127.0.0.1:5000", "MLFLOW_TRACKING_TOKEN": "<hidden>"},
    "secret_keys": ["MLFLOW_TRACKING_TOKEN"],
}
REJECTED = {"extension_id": "mlflow-old", "verdict": "rejected", "rule": "version", "sentence": "version 1.10.3 does not satisfy >=2.0"}
EXPLANATIONS = [{"name": "selector", "candidates": [{"extension_id": "mlflow", "verdict": "chosen", "sentence": "it matches"}, REJECTED]}]


@dataclass(frozen=True)
class Request:
    """A received request: header names in lower case, the query decoded, the path as sent."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """A canned response; `body` is sent as JSON unless it is bytes."""

    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Answer | Callable[[Request], Answer]


def refused(status: int, name: str, message: str, **details: object) -> Answer:
    """The API's error body."""
    body = {"name": name, "id": "abc", "message": message, "temporary": status == 503, "timeout": False, "fault": status == 500}
    return Answer({**body, "details": details}, status)


def causing_no_run(route: Callable[[Request], Answer]) -> Route:
    """The route of `GET /runs` where no run causes another one."""
    return lambda request: Answer([]) if "caused_by" in request.query else route(request)


CONTRACT: Mapping[tuple[str, str], Route] = {
    ("GET", "/version"): Answer({"version": "0.1.0"}),
    ("GET", "/readyz"): Answer({"status": "ready", "components": {"mlflow": {"status": "starting"}}}),
    ("GET", "/projects"): Answer([PROJECT]),
    ("POST", "/projects"): Answer(PROJECT, 201),
    ("GET", "/projects/demo"): Answer(PROJECT),
    ("DELETE", "/projects/demo"): Answer(status=204),
    ("GET", "/codesets"): Answer([CODESET]),
    ("POST", "/codesets"): Answer({"codeset": CODESET, "username": "fuseml-demo", "password": "canary"}, 201),
    ("GET", "/codesets/demo/diabetes"): Answer(CODESET),
    ("DELETE", "/codesets/demo/diabetes"): Answer(status=204),
    ("GET", "/workflows"): Answer([WORKFLOW]),
    ("POST", "/workflows"): Answer(WORKFLOW, 201),
    ("GET", "/workflows/mlflow-e2e"): Answer(WORKFLOW),
    ("PUT", "/workflows/mlflow-e2e"): Answer({**WORKFLOW, "revision": 3}),
    ("DELETE", "/workflows/mlflow-e2e"): Answer(status=204),
    ("GET", "/workflows/assignments"): Answer([ASSIGNMENT]),
    ("POST", "/workflows/assignments"): Answer(status=201),
    ("DELETE", "/workflows/assignments/mlflow-e2e"): Answer(status=204),
    ("GET", "/runs"): causing_no_run(lambda _: Answer([RUN])),
    ("GET", "/runs/mlflow-e2e-1"): Answer(RUN),
    ("GET", "/runs/mlflow-e2e-1/logs/trainer"): Answer(
        "epoch 1: süß\n".encode(), headers={"Fuseml-Log-Offset": "14", "Fuseml-Log-Complete": "true"}
    ),
    ("GET", "/runs/mlflow-e2e-1/logs/predictor"): Answer(b"ready\n", headers={"Fuseml-Log-Offset": "6", "Fuseml-Log-Complete": "true"}),
    ("POST", "/runs/mlflow-e2e-1/cancel"): Answer({**RUN, "state": "cancelled"}, 202),
    ("GET", "/applications"): Answer([APPLICATION]),
    ("GET", "/applications/demo-diabetes"): Answer(APPLICATION),
    ("PUT", "/applications/demo-diabetes/visibility"): Answer(APPLICATION),
    ("DELETE", "/applications/demo-diabetes"): Answer(status=204),
    ("PUT", "/applications/demo-diabetes/traffic"): Answer(APPLICATION),
    ("POST", "/applications/demo-diabetes/rollback"): Answer(APPLICATION),
    ("GET", "/artifacts"): Answer([ARTIFACT]),
    ("POST", "/artifacts"): Answer(ARTIFACT, 201),
    ("GET", "/artifacts/model/demo/diabetes@champion"): Answer(ARTIFACT),
    ("GET", "/artifacts/model/demo/diabetes/1"): Answer(ARTIFACT),
    ("GET", "/artifacts/dataset/demo/raw%2Ftrain/7"): Answer({**ARTIFACT, "address": "dataset://demo/raw/train/7"}),
    ("DELETE", "/artifacts/model/demo/diabetes/1"): Answer(status=204),
    ("GET", "/artifacts/model/demo/diabetes/1/history"): Answer(HISTORY),
    ("PUT", "/artifacts/model/demo/diabetes/1/tags/champion"): Answer(ARTIFACT),
    ("DELETE", "/artifacts/model/demo/diabetes/1/tags/champion"): Answer(ARTIFACT),
    ("PUT", "/artifacts/model/demo/diabetes/1/labels/reviewed"): Answer(ARTIFACT),
    ("DELETE", "/artifacts/model/demo/diabetes/1/labels/reviewed"): Answer(ARTIFACT),
    ("GET", "/lineage/model/demo/diabetes/1"): Answer(LINEAGE),
    ("GET", "/extensions"): Answer([EXTENSION]),
    ("POST", "/extensions"): Answer(EXTENSION, 201),
    ("GET", "/extensions/mlflow"): Answer(EXTENSION),
    ("PUT", "/extensions/mlflow"): Answer(EXTENSION),
    ("DELETE", "/extensions/mlflow"): Answer(status=204),
    ("GET", "/extensions/mlflow/services"): Answer([SERVICE]),
    ("POST", "/extensions/mlflow/services"): Answer(SERVICE, 201),
    ("PUT", "/extensions/mlflow/services/tracking"): Answer(SERVICE),
    ("DELETE", "/extensions/mlflow/services/tracking"): Answer(status=204),
    ("GET", "/extensions/mlflow/services/tracking/endpoints"): Answer(SERVICE["endpoints"]),
    ("POST", "/extensions/mlflow/services/tracking/endpoints"): Answer({"url": "http://other"}, 201),
    ("PUT", "/extensions/mlflow/services/tracking/endpoints/http%3A%2F%2Fother"): Answer({"url": "http://other"}),
    ("DELETE", "/extensions/mlflow/services/tracking/endpoints/http%3A%2F%2Fother"): Answer(status=204),
    ("GET", "/extensions/mlflow/services/tracking/credentials"): Answer(SERVICE["credentials"]),
    ("POST", "/extensions/mlflow/services/tracking/credentials"): Answer({"id": "ci"}, 201),
    ("PUT", "/extensions/mlflow/services/tracking/credentials/ci"): Answer({"id": "ci"}),
    ("DELETE", "/extensions/mlflow/services/tracking/credentials/ci"): Answer(status=204),
    ("POST", "/resolve"): Answer({"bindings": [BINDING], "explanations": EXPLANATIONS}),
}
"""Responses by method and path; the path is decoded once, as a WSGI server does."""


class CannedApi:
    """A running server; `requests` are the received requests, in order."""

    def __init__(self, routes: Mapping[tuple[str, str], Route], token: str | None) -> None:
        self.requests: list[Request] = []
        self.url = ""
        self._routes, self._token = routes, token

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        headers = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
        headers["content-type"] = environ.get("CONTENT_TYPE", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        request = Request(environ["REQUEST_METHOD"], environ["PATH_INFO"], query, headers, body)
        self.requests.append(request)
        answer = self._answer(request)
        text = b"" if answer.body is None else answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        start_response(
            f"{answer.status} Status", [("Content-Type", "application/json"), ("Content-Length", str(len(text))), *answer.headers.items()]
        )
        return [text]

    def _answer(self, request: Request) -> Answer:
        if self._token and request.headers.get("authorization") != f"Bearer {self._token}":
            return refused(401, "unauthenticated", "the token is not valid")
        route = self._routes.get((request.method, request.path))
        if route is None:
            return refused(404, "not_found", f"nothing is served at {request.path}")
        return route(request) if callable(route) else route


class _Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True


class _Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: `CannedApi` records the requests."""


@contextlib.contextmanager
def running(app: Callable[..., Iterable[bytes]]) -> Iterator[str]:
    """Run a WSGI application on a free port of this machine; yields its URL."""
    with simple_server.make_server("127.0.0.1", 0, app, server_class=_Server, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def serve(routes: Mapping[tuple[str, str], Route] = CONTRACT, token: str | None = TOKEN) -> Iterator[CannedApi]:
    """Run the canned API."""
    api = CannedApi(routes, token)
    with running(api) as api.url:
        yield api
