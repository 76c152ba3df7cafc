"""The application of `gateway`."""

from __future__ import annotations

import flask

import fuseml
from functions.gateway import description, forward
from functions.gateway.deps import Deps
from fuseml.domain import errors
from fuseml.runtime import catalog, http

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("gateway", "One address for all functions", tokens=None)
    app = api.app
    # Paths go on as they came.
    app.url_map.merge_slashes = False
    forwarder = forward.Forwarder(deps.functions_url, deps.timeout)
    # Counters are for the inside, and this function is the way in from outside.
    app.view_functions["metrics"] = lambda: passed_on("metrics")
    app.view_functions["openapi"] = lambda: flask.jsonify(description.merged(description.fetched(forwarder)))

    def index() -> flask.Response:
        return http.encode({"name": "FuseML", "version": fuseml.__version__, "api": "/openapi.json", "readiness": "/readyz"}, 200, {})

    def passed_on(path: str) -> flask.Response:
        function = catalog.find(f"/{path}")
        if function is None:
            raise errors.NotFoundError(f"nothing is served at /{path}")
        return forwarder.forward(function, flask.request)

    app.add_url_rule("/", "index", index)
    app.add_url_rule("/<path:path>", "passed_on", passed_on, methods=_METHODS, provide_automatic_options=False)
    return app
