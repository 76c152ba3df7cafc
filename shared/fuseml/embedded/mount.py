"""One address for everything: HTTP paths to functions by the catalogue, git, MLflow, applications, and the server's own health.

On Knative event endpoints are at a function's own address. Here they have no path, so that events come through the broker only.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import flask
from werkzeug import datastructures
from werkzeug import test as wsgi_client

from fuseml.domain import application as application_names
from fuseml.domain import errors
from fuseml.embedded import admission, broker, model_servers, tracking_proxy
from fuseml.runtime import auth, catalog, http, openapi, openapi_page, targets, web_pages
from fuseml.store import applications, database
from fuseml.usecases import ownership
from fuseml.version import __version__

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


_REFUSAL = "fuseml.refusal"
_OUTSIDE = f"HTTP_{catalog.OUTSIDE.upper().replace('-', '_')}"


class Gateway:
    """The WSGI application that the server runs. Before anything reads a request, its address and its origin are judged."""

    def __init__(
        self,
        functions: Mapping[str, flask.Flask],
        git: WSGIApplication,
        tracking: WSGIApplication,
        own: flask.Flask,
        entrance: web_pages.Entrance,
    ) -> None:
        self.functions, self._git, self._tracking, self._own, self._entrance = functions, git, tracking, own, entrance

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            self._entrance.check(datastructures.EnvironHeaders(environ))
            targets.path_of(environ)
        except errors.FusemlError as error:
            # Answered by `own`, so that a refusal has the one error body and is counted.
            return self._own.wsgi_app({**environ, _REFUSAL: error}, start_response)
        path = environ["PATH_INFO"]
        if path.startswith("/git/"):
            return self._git({**environ, "SCRIPT_NAME": "/git", "PATH_INFO": path[4:]}, start_response)
        if path == tracking_proxy.PREFIX or path.startswith(f"{tracking_proxy.PREFIX}/"):
            return self._tracking(environ, start_response)
        function = catalog.find(path)
        if function is None:
            return self._own.wsgi_app(environ, start_response)
        return self.functions[function.name].wsgi_app({**environ, _OUTSIDE: "embedded"}, start_response)


def call(app: flask.Flask, method: str, path: str, headers: Mapping[str, str], body: bytes) -> broker.Answer:
    """One HTTP request to an application of this process, without a network."""
    environ = wsgi_client.create_environ(path, method=method, headers=dict(headers), data=body)
    chunks, status, fields = wsgi_client.run_wsgi_app(app.wsgi_app, environ, buffered=True)
    return broker.Answer(int(status.split(" ", 1)[0]), {name.lower(): value for name, value in fields}, b"".join(chunks))


def is_public(store: database.Database, name: str) -> bool:
    """Whether the application answers callers without a token."""
    if not application_names.is_name(name):
        return False
    with store.read() as session:
        row = applications.find(session, name)
    return row is not None and bool(row.document.get("public"))


def own_app(
    apps: model_servers.ModelServers,
    functions: Mapping[str, flask.Flask],
    tokens: auth.Tokens,
    readiness: Callable[[], dict[str, Any]],
    store: database.Database,
) -> flask.Flask:
    """The paths of the embedded server itself: `/`, `/readyz`, `/version`, `/metrics`, `/openapi.json`, `/docs`, `/apps/<name>/`."""
    api = http.Api("embedded", "The embedded server", tokens=None, store=store)
    app = api.app
    app.config["MAX_CONTENT_LENGTH"] = admission.APPLICATION_BODY
    description = functools.cache(lambda: openapi.document([entry.extensions["fuseml"] for entry in functions.values()]))
    app.view_functions["openapi"] = lambda: http.describe(description())

    def refuse() -> None:
        if (refusal := flask.request.environ.get(_REFUSAL)) is not None:
            raise refusal

    # First of all: other checks read the address, which may be what was refused.
    app.before_request_funcs[None].insert(0, refuse)

    @app.before_request
    def guard_metrics() -> None:
        # Processes of this machine need no token; callers from other machines do.
        if flask.request.path != "/metrics" or ipaddress.ip_address(flask.request.remote_addr or "::").is_loopback:
            return
        if tokens.caller(flask.request.headers.get("Authorization")).step is not None:
            raise errors.ForbiddenError(auth.STEPS_REFUSED)

    @app.get("/")
    def index() -> flask.Response:
        return http.encode(
            {"name": "FuseML", "version": __version__, "api": "/openapi.json", "docs": "/docs", "readiness": "/readyz"}, 200, {}
        )

    openapi_page.serve(app)

    def ready() -> flask.Response:
        state = readiness()
        return http.encode(state, 200 if state["status"] == "ready" else 503, {})

    app.view_functions["ready"] = ready

    def authorise(name: str) -> None:
        caller = tokens.caller(flask.request.headers.get("Authorization"))
        if caller.step is not None:
            with store.read() as session:
                row = applications.find(session, name)
            ownership.check_step(row.document if row else None, name, caller.step)

    def application_status(name: str) -> flask.Response:
        authorise(name)
        return http.encode(dataclasses.asdict(apps.status(name)), 200, {})

    def application(name: str, rest: str) -> flask.Response:
        authorization = flask.request.headers.get("Authorization")
        # In this order, because a request with a token needs no look at the database.
        if authorization is not None or not is_public(store, name):
            authorise(name)
        query = flask.request.query_string.decode()
        # As received, after /apps/<name>: decoded, it would be another path for the tool.
        path = "/" + targets.path_of(flask.request.environ).split("/", 3)[3] + (f"?{query}" if query else "")
        answer = apps.request(name, flask.request.method, path, list(flask.request.headers), flask.request.get_data())
        return flask.Response(answer.body, answer.status, answer.headers)

    methods = ["GET", "POST"]
    app.add_url_rule("/apps/<name>", "application_status", application_status)
    app.add_url_rule("/apps/<name>/<path:rest>", "application", application, methods=methods)
    app.register_error_handler(errors.PermanentError, _unservable)
    return app


def _unservable(error: errors.PermanentError) -> flask.Response:
    # A model that cannot be served is a fault of the server, not of the request, and waiting does not repair it.
    response = http.error_response(error)
    if type(error) is errors.PermanentError:
        response.status_code = 502
    return response
