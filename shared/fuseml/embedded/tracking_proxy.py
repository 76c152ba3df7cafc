"""`/mlflow/`: the only way to the embedded MLflow, for people, steps and model servers, by the tokens of the API.

A token comes as a bearer token or as the password of basic authentication, with any user name, so that MLflow's own client needs only
`MLFLOW_TRACKING_TOKEN`, or `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`; browsers sign in. Bodies are passed on in pieces.
MLflow has no tenants: a token of a step reaches what MLflow holds for all projects, while the step runs.
"""

from __future__ import annotations

import base64
import binascii
import http
import json
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import urllib3

from fuseml.domain import errors
from fuseml.embedded import access, sign_in
from fuseml.runtime import auth, forwarding

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PREFIX = "/mlflow"
SCOPE = "tracking"
"""The scope of a step's token that opens this path."""

SIGN_IN = f"{PREFIX}/sign-in"

_PIECE = 1 << 16
_MOST_FORM = 1 << 16
_TIMEOUT = urllib3.Timeout(connect=5.0, read=300.0)
# The caller's own; MLflow gets the key of this process instead, and its own checks of hosts and origins are done here.
_NOT_FORWARDED = frozenset({"authorization", "cookie", "origin", "referer", "content-type"})
_PAGE_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
]
# Files of runs come from steps: opened in a browser, they must not act as this server's pages.
_FILES = ("get-artifact", "artifacts/files", "mlflow-artifacts/artifacts", "get-trace-artifact")

Headers = list[tuple[str, str]]


class TrackingProxy:
    """The WSGI application. `server` is the pool of connections to MLflow and the key's header; None while there is no MLflow."""

    def __init__(
        self,
        server: Callable[[], tuple[urllib3.HTTPConnectionPool, Mapping[str, str]] | None],
        tokens: auth.Tokens,
        sessions: sign_in.Sessions,
        processes: access.ProcessTokens,
    ) -> None:
        self._server, self._tokens, self._sessions, self._processes = server, tokens, sessions, processes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == SIGN_IN:
            return self._sign_in(environ, start_response)
        if path == f"{PREFIX}/sign-out":
            return _answer(start_response, 303, [("Location", f"{PREFIX}/sign-in"), ("Set-Cookie", self._sessions.end())])
        try:
            self.authenticate(environ)
        except errors.PermanentError as error:
            if _is_navigation(environ):
                return _answer(start_response, 303, [("Location", f"{PREFIX}/sign-in")])
            return _refuse(start_response, 403 if isinstance(error, errors.ForbiddenError) else 401, error.message)
        except errors.TemporaryError as error:
            return _refuse(start_response, 503, error.message)
        if path == PREFIX:
            return _answer(start_response, 308, [("Location", f"{PREFIX}/")])
        return self._forward(environ, start_response)

    def authenticate(self, environ: Mapping[str, Any]) -> None:
        """Check the credentials in a request's headers. Raises UnauthenticatedError, and ForbiddenError for a step whose token is for
        something else.
        """
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else _password(given) if scheme.lower() == "basic" else ""
        if token:
            if not self._processes.accept(token):
                caller = self._tokens.bearer(token)
                if caller.step is not None and SCOPE not in caller.step.scopes:
                    raise errors.ForbiddenError("this step selects no tracking server of FuseML, so its token is not for MLflow")
        elif scheme or not self._sessions.is_open(environ):
            if sign_in.is_foreign(environ):
                raise errors.UnauthenticatedError("a page of another origin sent this request")
            self._tokens.caller(None)

    def _sign_in(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            return _answer(start_response, 200, _PAGE_HEADERS, sign_in.page(PREFIX))
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if not sign_in.is_own(environ) or size > _MOST_FORM:
            return _answer(start_response, 403, _PAGE_HEADERS, sign_in.page(PREFIX, "Sign in on this page."))
        form = urllib.parse.parse_qs(environ["wsgi.input"].read(size).decode("utf-8", "replace"))
        try:
            cookie = self._sessions.begin((form.get("token") or [""])[0].strip())
        except errors.PermanentError as error:
            return _answer(start_response, 403, _PAGE_HEADERS, sign_in.page(PREFIX, f"Not signed in: {error.message}."))
        return _answer(start_response, 303, [("Location", f"{PREFIX}/"), ("Set-Cookie", cookie), ("Cache-Control", "no-store")])

    def _forward(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        target = self._server()
        if target is None:
            return _refuse(start_response, 404, "this server runs no MLflow of its own; see `fuseml up --mlflow`")
        pool, key = target
        # `quote` spells the path that the server has decoded, so that MLflow and this check see one path.
        path = urllib.parse.quote(environ["PATH_INFO"].encode("latin-1"), safe="/:@!$&'()*+,;=~-._")
        if any(part in (".", "..") for part in environ["PATH_INFO"].split("/")):
            return _refuse(start_response, 400, "the path has a dot segment")
        query = environ.get("QUERY_STRING", "")
        length = environ.get("CONTENT_LENGTH") or ""
        try:
            headers = {**_request_headers(environ), **key}
        except errors.InvalidError as error:
            return _refuse(start_response, 400, error.message)
        if length:
            headers["Content-Length"] = length
        # A body without a length ends with its stream, where the server says that it does.
        endless = not length and bool(environ.get("wsgi.input_terminated")) and "HTTP_TRANSFER_ENCODING" in environ
        try:
            response = pool.urlopen(
                environ["REQUEST_METHOD"],
                f"{path}?{query}" if query else path,
                body=_pieces(environ["wsgi.input"].read, int(length or sys.maxsize)) if endless or length not in ("", "0") else None,
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=_TIMEOUT,
                chunked=endless,
            )
        except urllib3.exceptions.HTTPError as error:
            return _refuse(start_response, 503, f"MLflow does not answer now ({type(error).__name__}); see `fuseml up` and /readyz")
        kept = forwarding.response_fields(response.headers.items())
        if any(part in path for part in _FILES):
            kept.append(("Content-Security-Policy", "sandbox"))
        start_response(f"{response.status} {_reason(response.status)}", kept)
        return _Streamed(response)


def _pieces(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    """A request body: at most `length` bytes."""
    while length > 0 and (piece := read(min(length, _PIECE))):
        length -= len(piece)
        yield piece


class _Streamed:
    """The body of a response, in pieces. The connection goes back to the pool after the last one, and is closed if the client left."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        # `stream` would wait for whole pieces.
        while piece := self._response.read1(_PIECE, decode_content=False):
            yield piece

    def close(self) -> None:
        self._response.close()


def _request_headers(environ: WSGIEnvironment) -> dict[str, str]:
    """The headers for MLflow. Raises InvalidError (`forwarding.request_fields`)."""
    named = [(name[5:].replace("_", "-").lower(), str(value)) for name, value in environ.items() if name.startswith("HTTP_")]
    fields = forwarding.request_fields(named)
    headers = {name: value for name, value in fields if name not in _NOT_FORWARDED and not name.startswith("x-fuseml-")}
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return headers


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _is_navigation(environ: WSGIEnvironment) -> bool:
    """Whether a browser opens a page: then a form helps more than an error."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and "HTTP_AUTHORIZATION" not in environ
        and "text/html" in environ.get("HTTP_ACCEPT", "")
        and environ.get("HTTP_SEC_FETCH_MODE", "navigate") == "navigate"
    )


def _refuse(start_response: StartResponse, status: int, message: str) -> Iterable[bytes]:
    """An error in the form of MLflow, whose clients show the message."""
    code = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 503: "TEMPORARILY_UNAVAILABLE"}
    headers = [("Content-Type", "application/json")]
    if status == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="mlflow"'))
    if status == 503:
        headers.append(("Retry-After", "2"))
    body = json.dumps({"error_code": code.get(status, "INVALID_PARAMETER_VALUE"), "message": message})
    return _answer(start_response, status, headers, body.encode() + b"\n")


def _answer(start_response: StartResponse, status: int, headers: Headers, body: bytes = b"") -> Iterable[bytes]:
    start_response(f"{status} {_reason(status)}", [*headers, ("Content-Length", str(len(body)))])
    return [body]


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
