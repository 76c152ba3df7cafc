"""Observation of HTTP requests: trace, span, count and duration of each."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import flask

from fuseml.runtime.telemetry import metrics, trace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_ROUTE = "fuseml.route"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def watch(app: flask.Flask) -> None:
    """Observe the requests of an application."""
    inner = app.wsgi_app

    def observed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun = time.perf_counter()
        status = "500"

        def start(line: str, headers: list[tuple[str, str]], failure: _Failure | None = None) -> Any:
            nonlocal status
            status = line[:3]
            return start_response(line, headers, failure)

        with trace.span("request", "server", trace.read(_carrier(environ))) as work:
            try:
                return inner(environ, start)
            finally:
                method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in _METHODS else "other"
                route = environ.get(_ROUTE, "other")
                work.name = f"{method} {route}"
                work.attributes |= {"http.request.method": method, "http.route": route, "http.response.status_code": int(status)}
                if status >= "500":
                    work.attributes["error.type"] = status
                metrics.REQUESTS.count(app.name, method, route, status)
                metrics.REQUEST_SECONDS.observe(time.perf_counter() - begun, app.name, method, route)

    app.before_request(_note_route)
    app.wsgi_app = observed  # type: ignore[method-assign]


_Failure = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


def _note_route() -> None:
    if flask.request.url_rule is not None:
        flask.request.environ[_ROUTE] = flask.request.url_rule.rule


def _carrier(environ: WSGIEnvironment) -> dict[str, str]:
    # The trace of an event precedes that of the broker that delivers it.
    prefix = "HTTP_CE_" if "HTTP_CE_TRACEPARENT" in environ else "HTTP_"
    return {name: environ[key] for name in ("traceparent", "tracestate") if (key := prefix + name.upper()) in environ}
