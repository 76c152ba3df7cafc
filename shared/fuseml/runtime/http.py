"""The HTTP application of a function: typed routes, one error body, JSON and YAML, authentication, and its OpenAPI document.

Routes are declared with pydantic models for query and body. Everything wrong in a request is reported at once, with paths.
Why this and not a library: infra/decisions/0001-typed-routes.md.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import types
import typing
import urllib.parse
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import flask
import pydantic
import werkzeug.exceptions
import werkzeug.http

from fuseml.domain import errors
from fuseml.domain.documents import strict_json
from fuseml.domain.documents.document import Parsed, parse, validate
from fuseml.runtime import auth, catalog, routing, targets, telemetry, web_pages
from fuseml.runtime.operations import ErrorBody, Operation, Query
from fuseml.runtime.readiness import Need, Readiness
from fuseml.runtime.settings import Settings
from fuseml.runtime.telemetry import scrape, wsgi
from fuseml.version import __version__

if TYPE_CHECKING:
    from fuseml.store import database

MAX_BODY = catalog.MAX_BODY
"""Bytes. Documents are small; code and artifacts do not pass through the API."""

ERROR_HEADER = "goa-error"
"""The header of every error response, with the name of the error. Platforms and proxies do not set it."""

_log = logging.getLogger("fuseml.http")
T = TypeVar("T")

STATUS: Mapping[type[errors.FusemlError], int] = types.MappingProxyType(
    {
        errors.UnauthenticatedError: 401,
        errors.ForbiddenError: 403,
        errors.NotFoundError: 404,
        errors.ConflictError: 409,
        errors.StaleError: 412,
        errors.TooLargeError: 413,
        errors.UnresolvedError: 422,
        errors.InvalidError: 400,
        errors.TemporaryError: 503,
        errors.PermanentError: 400,
    }
)
"""Statuses for API clients. Event endpoints have a table of their own (runtime.cloudevents): a broker reads 404 as "try again"."""


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """A page of results; `next_cursor` becomes the Link header."""

    items: Sequence[T]
    next_cursor: str | None = None


class Api:
    """A function's Flask application and the routes on it.

    With `tokens` None every route is public: webhooks and event endpoints have their own proof. `/healthz`, `/readyz` and `/metrics` need
    no token. `/metrics` reports the depths in `store`, too, if it is given: by one function for the whole installation.
    """

    def __init__(self, name: str, summary: str, *, tokens: auth.Tokens | None, store: database.Database | None = None) -> None:
        self.app = flask.Flask(name, static_folder=None)
        self.app.url_rule_class = routing.Rule
        self.app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
        self.app.json.sort_keys = False  # type: ignore[attr-defined]
        self.app.url_map.strict_slashes = False
        # An ambiguous path is refused, not redirected.
        self.app.url_map.merge_slashes = False
        self.name, self.summary, self.operations = name, summary, list[Operation]()
        self._tokens, self._store = tokens, store
        self._internal = {"metrics"}
        self.readiness = Readiness()
        self.app.extensions["fuseml"] = self
        self.app.register_error_handler(Exception, error_response)
        self.app.add_url_rule("/healthz", "healthz", lambda: ("ok\n", 200, {"Content-Type": "text/plain"}))
        self.app.add_url_rule("/metrics", "metrics", self._metrics)
        self.app.add_url_rule("/readyz", "ready", self._ready)
        self.app.add_url_rule("/version", "version", lambda: encode(version(), 200, {}))
        for path in catalog.DESCRIPTIONS:
            self.app.add_url_rule(path, "openapi", self._document)
        wsgi.watch(self.app)
        self.app.before_request(_refuse_unreadable_address)
        self.app.before_request(self._hide_internal)

    def internal(self, path: str, endpoint: str, view: Callable[[], flask.Response], *, methods: Sequence[str]) -> None:
        """Serve `view` to callers inside of the installation: a request that an entrance forwarded gets 404, as `/metrics` does."""
        self.app.add_url_rule(path, endpoint, view, methods=methods)
        self._internal.add(endpoint)

    def _hide_internal(self) -> None:
        if flask.request.endpoint in self._internal and catalog.OUTSIDE in flask.request.headers:
            raise errors.NotFoundError(f"nothing is served at {flask.request.path}")

    @property
    def needs_token(self) -> bool:
        """Whether routes need a token, unless they are public."""
        return self._tokens is not None

    def route(
        self,
        method: str,
        path: str,
        *,
        query: type[Query] | None = None,
        body: type[pydantic.BaseModel] | None = None,
        document: type[pydantic.BaseModel] | None = None,
        returns: object = None,
        dry_run: object = None,
        status: int = 200,
        public: bool = False,
        media: Sequence[str] = (),
        step: str = "",
        text: str = "",
        refusals: Sequence[int] = (),
    ) -> Callable[[Callable[..., object]], Callable[..., object]]:
        """Serve `handler(path variables..., query=, body=)`. Its docstring documents the operation.

        `step` is the scope that a step's token needs for this route, `auth.ANY_SCOPE` for any; without it, steps may not use the route. `document` describes a body
        that the handler reads itself (`read_document`), because its checks need positions. The handler returns a model, `ListPage`, plain
        data, a Flask response, or None for an empty response. `dry_run` describes the body of a dry run, with status 200, where it differs
        from `status`. `media` are accepted content types beside JSON and YAML. `text` is the content type of a response of text. `refusals` are
        the statuses of errors beside those that every route of its kind has.
        """

        def register(handler: Callable[..., object]) -> Callable[..., object]:
            summary = (handler.__doc__ or "").strip()
            operation = Operation(
                method,
                path,
                summary,
                handler,
                query,
                body,
                document,
                returns,
                dry_run,
                status,
                public,
                step,
                tuple(media),
                text,
                tuple(refusals),
            )
            self.operations.append(operation)
            view = self._view(operation)
            self.app.add_url_rule(path, f"{method} {path}", view, methods=[method])
            return handler

        return register

    @property
    def requires_token(self) -> bool:
        """Whether the routes that are not public need a token."""
        return self._tokens is not None

    def _view(self, operation: Operation) -> Callable[..., flask.Response]:
        def view(**variables: str) -> flask.Response:
            if self._tokens is not None and not operation.public:
                caller = self._tokens.caller(flask.request.headers.get("Authorization"))
                if caller.step is not None and operation.step not in (auth.ANY_SCOPE, *caller.step.scopes):
                    raise errors.ForbiddenError(auth.STEPS_REFUSED)
                flask.g.caller = caller
            if _has_body():
                web_pages.check_body(flask.request.headers, operation.media)
            arguments: dict[str, object] = dict(variables)
            problems: list[errors.Problem] = []
            for name, model, read in (("query", operation.query, read_query), ("body", operation.body, read_body)):
                if model is not None:
                    try:
                        arguments[name] = read(model)
                    except errors.InvalidError as error:
                        if not error.problems:
                            raise
                        problems += error.problems
            if problems:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise errors.InvalidError(f"the request is not valid: {problems[0]}{more}", problems)
            return respond(operation.handler(**arguments), operation.status)

        return view

    def _ready(self) -> flask.Response:
        report = self.readiness.report()
        status = "ready" if report.ready else "failed"
        return encode({"status": status, "components": report.components}, 200 if report.ready else 503, {})

    def _metrics(self) -> flask.Response:
        text, kind = scrape.answer(self._store)
        return flask.Response(text, content_type=kind)

    def _document(self) -> flask.Response:
        from fuseml.runtime import openapi

        return describe(openapi.document([self]))


def _refuse_unreadable_address() -> None:
    targets.path_of(flask.request.environ)
    # PostgreSQL stores no NUL, and the query's parser fails on text that is not UTF-8.
    query = flask.request.query_string
    try:
        readable = "\0" not in urllib.parse.unquote(query.decode())
    except UnicodeDecodeError:
        readable = False
    if not readable:
        raise errors.InvalidError("the address of the request is not UTF-8 text, or holds a NUL character")


def caller() -> auth.Caller:
    """The caller of the request that is being handled; only on routes that need a token."""
    caller: auth.Caller = flask.g.caller
    return caller


def version() -> dict[str, str]:
    """The response of every server to `/version`; the fields are the original API's."""
    return {
        "version": __version__,
        "gitCommit": "",
        "buildDate": "",
        "golangVersion": "",
        "golangCompiler": "",
        "platform": "python",
    }


def read_query(model: type[pydantic.BaseModel]) -> pydantic.BaseModel:
    """The request's query parameters. Raises InvalidError."""
    data: dict[str, object] = {}
    lists = {info.alias or name for name, info in model.model_fields.items() if typing.get_origin(info.annotation) is list}
    for name, values in flask.request.args.lists():
        present = [value for value in values if value != ""]
        if present:
            data[name] = present if name in lists else present[-1]
    return validate(model, data, kind="query")


def read_document() -> Parsed:
    """The request's body as data with positions: JSON by its content type, else YAML. Raises InvalidError."""
    raw = flask.request.get_data()
    if not raw.strip():
        raise errors.InvalidError("the request needs a body (JSON or YAML)", [errors.Problem("", "the body is empty")])
    if web_pages.is_json(flask.request.content_type):
        try:
            return Parsed(strict_json.parse(raw))
        except (ValueError, RecursionError) as error:
            problem = errors.Problem(
                "", f"the body is not valid JSON: {error}", getattr(error, "lineno", None), getattr(error, "colno", None)
            )
            raise errors.InvalidError(problem.message, [problem]) from error
    try:
        return parse(raw.decode())
    except UnicodeDecodeError as error:
        raise errors.InvalidError("the body is not UTF-8 text") from error


def read_body(model: type[pydantic.BaseModel]) -> pydantic.BaseModel:
    """The request's body as a model. Raises InvalidError."""
    parsed = read_document()
    return validate(model, parsed.data, position=parsed.position if parsed.marks else None, kind="body")


def _has_body() -> bool:
    return bool(flask.request.content_length) or "Transfer-Encoding" in flask.request.headers


def describe(document: Mapping[str, object]) -> flask.Response:
    """An OpenAPI document, in the format that the path of the request names."""
    if not flask.request.path.endswith(".yaml"):
        return flask.jsonify(document)
    import yaml

    # The one in C takes a tenth of the time.
    text = yaml.dump(document, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False, allow_unicode=True)
    return flask.Response(text, content_type="application/x-yaml")


def respond(result: object, status: int) -> flask.Response:
    """Encode the result of a handler, as YAML where the client accepts it, else as JSON."""
    if isinstance(result, flask.Response):
        return result
    if result is None:
        return flask.Response(status=204 if status == 200 else status)
    headers: dict[str, str] = {}
    revision = getattr(result, "revision", None)
    if isinstance(revision, int):
        headers["ETag"] = f'"{revision}"'
    if isinstance(result, ListPage):
        if result.next_cursor:
            arguments = {**flask.request.args.to_dict(flat=False), "cursor": [result.next_cursor]}
            # Relative, because the client may use another address of this function.
            headers["Link"] = f'<{flask.request.path}?{urllib.parse.urlencode(arguments, doseq=True)}>; rel="next"'
        result = list(result.items)
    return encode(_plain(result), status, headers)


def _plain(value: object) -> object:
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def encode(data: object, status: int, headers: Mapping[str, str]) -> flask.Response:
    """Plain data as JSON, or as YAML when the Accept header asks for YAML."""
    if "yaml" in flask.request.headers.get("Accept", ""):
        import yaml

        text, kind = yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "application/x-yaml"
    else:
        text, kind = json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n", "application/json"
    # Lone surrogates came in as JSON escapes and go out as such; UTF-8 cannot hold them.
    return flask.Response(text.encode(errors="backslashreplace"), status, headers, content_type=kind)


def error_response(error: Exception) -> flask.Response:
    """Every failure in the one error body. An unexpected one is logged with its traceback, and the body has its id only."""
    status, headers = 500, dict[str, str]()
    if isinstance(error, errors.FusemlError):
        status = next(code for kind, code in STATUS.items() if isinstance(error, kind))
        name, message, details = error.name, error.message, error.details
        if isinstance(error, errors.TemporaryError):
            headers["Retry-After"] = str(max(1, round(error.delay)))
    elif isinstance(error, werkzeug.exceptions.HTTPException):
        status, details = error.code or 500, {}
        headers |= {field: value for field, value in error.get_headers() if field != "Content-Type"}
        name, message = _name_of(status), error.description or str(error)
        if isinstance(error, werkzeug.exceptions.RequestEntityTooLarge):
            message = f"the request body is larger than {flask.current_app.config['MAX_CONTENT_LENGTH']} bytes"
        elif isinstance(error, werkzeug.exceptions.NotFound):
            message = f"nothing is served at {flask.request.path}"
    else:
        name, message, details = "fault", "FuseML failed on this request; the server's log has the cause under this id", {}
    body = ErrorBody(
        name=name,
        id=uuid.uuid4().hex[:12],
        message=message,
        temporary=status == 503,
        timeout=status == 504,
        fault=status == 500,
        details=details,
    )
    if status == 500:
        _log.error("request failed id=%s %s %s", body.id, flask.request.method, flask.request.path, exc_info=error)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return encode(body.model_dump(mode="json"), status, {**headers, ERROR_HEADER: name})


# Names of the taxonomy and of the original; other statuses have the names of HTTP.
_HTTP_NAMES = {400: "invalid", 401: "unauthenticated", 412: "stale", 413: "too_large", 500: "fault", 503: "unavailable", 504: "timeout"}


def _name_of(status: int) -> str:
    phrase = werkzeug.http.HTTP_STATUS_CODES.get(status, "error")
    return _HTTP_NAMES.get(status) or "_".join(re.findall("[a-z]+", phrase.lower()))


def as_function(
    make: Callable[[], flask.Flask], settings: Settings, needs: Sequence[Need] = ()
) -> Callable[[flask.Request], flask.Response]:
    """A functions-framework http target that passes requests to the application; `/readyz` checks its `needs`.

    `make` runs at the first request, and telemetry begins with it: functions-framework imports a function before gunicorn forks
    (infra/platform-facts.md 4.2), when nothing may connect yet. `needs` are read after `make`.
    """
    app: flask.Flask | None = None
    making = threading.Lock()
    if flask.has_app_context():
        # functions-framework's own application, which would redirect // to another path.
        flask.current_app.url_map.merge_slashes = False

    def handle(request: flask.Request) -> flask.Response:
        nonlocal app
        if app is None:
            with making:
                if app is None:
                    made = make()
                    telemetry.configure(made.name, settings)
                    made.extensions["fuseml"].readiness = Readiness(needs)
                    app = made
        return typing.cast(flask.Response, flask.Response.from_app(app, request.environ))

    return handle
