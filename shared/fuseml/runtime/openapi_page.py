"""The page `/docs`: the OpenAPI document in a browser, by Swagger UI from the package that carries it. Nothing comes from another server.

The page only reads: it sends no requests of the API. It needs no token, like the document.
"""

from __future__ import annotations

import importlib.util
import pathlib
import types
from collections.abc import Mapping

import flask

# Swagger UI sets styles by script, which this policy allows, and shows its icons from data URLs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

# Relative addresses, because a proxy may serve FuseML below a path.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>FuseML API</title>
<link rel="icon" href="docs/icon.svg">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/page.css">
</head>
<body>
<div id="page"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> is the document that it shows.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/page.js"></script>
</body>
</html>
"""
_SCRIPT = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  filter: true,
  supportedSubmitMethods: [],
  validatorUrl: null,
});
"""
# A page that only reads needs no token.
_STYLE = "body { margin: 0; }\n.swagger-ui .scheme-container, .swagger-ui .authorization__btn { display: none; }\n"

_OWN: Mapping[str, tuple[str, str]] = types.MappingProxyType({"page.js": (_SCRIPT, "text/javascript"), "page.css": (_STYLE, "text/css")})
_CARRIED: Mapping[str, tuple[str, str]] = types.MappingProxyType(
    {
        "swagger-ui-bundle.js": ("swagger/js/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        "swagger-ui.css": ("swagger/css/swagger-ui.css", "text/css; charset=utf-8"),
        "icon.svg": ("swagger/images/swagger.svg", "image/svg+xml"),
    }
)
"""Files of the package by the names that the page uses."""


def serve(app: flask.Flask) -> None:
    """Serve the page and its files."""
    app.add_url_rule("/docs", "docs", lambda: flask.Response(_PAGE, headers=_HEADERS, content_type="text/html; charset=utf-8"))
    app.add_url_rule("/docs/<name>", "docs_file", _file)


def _file(name: str) -> flask.Response:
    if name in _OWN:
        text, kind = _OWN[name]
        return flask.Response(text, headers=_HEADERS, content_type=f"{kind}; charset=utf-8")
    if name not in _CARRIED:
        flask.abort(404)
    path, kind = _CARRIED[name]
    response = flask.Response((_folder() / path).read_bytes(), headers=_HEADERS, content_type=kind)
    response.cache_control.max_age = 3600
    response.add_etag()
    response.make_conditional(flask.request)
    return response


def _folder() -> pathlib.Path:
    # Without an import, which would import a framework that FuseML does not use (infra/decisions/0001-typed-routes.md).
    spec = importlib.util.find_spec("flask_openapi3_swagger")
    assert spec is not None and spec.origin is not None, "flask-openapi3-swagger is a dependency"
    return pathlib.Path(spec.origin).parent / "templates"
