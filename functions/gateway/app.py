"""The application of `gateway`."""

from __future__ import annotations

import flask
import werkzeug.exceptions

from functions.gateway import description, forward
from functions.gateway.deps import Deps
from fuseml.domain import errors
from fuseml.runtime import catalog, http, openapi_page, targets
from fuseml.version import __version__

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(deps: Deps) -> flask.Flask:
    """The Flask application."""
    api = http.Api("gateway", "One address for all functions", tokens=None)
    app = api.app
    forwarder = forward.Forwarder(deps.functions_url, deps.timeout)
    # Metrics are internal, and this function is open to the outside.
    app.view_functions["metrics"] = lambda: forwarded("metrics")
    app.view_functions["openapi"] = lambda: http.describe(description.merge(description.fetch(forwarder)))

    def index() -> flask.Response:
        return http.encode(
            {"name": "FuseML", "version": __version__, "api": "/openapi.json", "docs": "/docs", "readiness": "/readyz"}, 200, {}
        )

    def forwarded(path: str) -> flask.Response:
        received = targets.path_of(flask.request.environ)
        function = None if targets.is_reserved(received, catalog.INTERNAL) else catalog.find(f"/{path}")
        if function is None:
            raise errors.NotFoundError(f"nothing is served at /{path}")
        flask.request.max_content_length = function.max_body
        try:
            return forwarder.forward(function, received, flask.request)
        except werkzeug.exceptions.RequestEntityTooLarge as error:
            raise errors.TooLargeError(f"the request body is larger than {function.max_body} bytes") from error

    app.add_url_rule("/", "index", index)
    openapi_page.serve(app)
    app.add_url_rule("/<path:path>", "forwarded", forwarded, methods=_METHODS, provide_automatic_options=False)
    return app
