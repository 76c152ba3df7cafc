"""Forwards requests to functions, and their responses back, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import flask
import urllib3
import werkzeug.exceptions

from fuseml.domain import errors
from fuseml.runtime import catalog, forwarding, http

_BLOCK = 1 << 16
_CONNECTIONS = 32
# Knative answers in place of a function that has no ready pod or is too slow: a status and a line of plain text.
_PLATFORM_STATUSES = frozenset({502, 503, 504})
_PLATFORM_MESSAGE = 200


class Forwarder:
    """Connections to functions at `url`, with `{function}` for a service; safe to share between threads."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._pool = urllib3.PoolManager(retries=False, maxsize=_CONNECTIONS, timeout=urllib3.Timeout(connect=5.0, read=timeout))

    def forward(self, function: catalog.Function, path: str, request: flask.Request) -> flask.Response:
        """The function's response to the request, streamed. `path` is that of the request as it was received and judged.

        Raises TemporaryError when the function cannot be reached or is not ready, GatewayTimeout when it does not answer in time,
        InvalidError for a `Connection` header that takes fields from the request.
        """
        headers = urllib3.HTTPHeaderDict([*forwarding.request_fields(request.headers), (catalog.OUTSIDE, "gateway")])
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        # The whole body: a request that breaks off must not reach a function.
        body = request.get_data()
        answer = self._request(function, request.method, path + query, headers, body)
        if answer.status in _PLATFORM_STATUSES and http.ERROR_HEADER not in answer.headers:
            raise _unavailable(function, answer)
        return flask.Response(_stream(answer), answer.status, forwarding.response_fields(answer.headers.iteritems()))

    def get(self, function: catalog.Function, path: str) -> bytes:
        """The body of a function's response. Raises TemporaryError for another status than 200."""
        answer = self._request(function, "GET", path, urllib3.HTTPHeaderDict(), b"")
        text: bytes = answer.read()
        if answer.status != 200:
            raise errors.TemporaryError(f"{function.service} answers {path} with status {answer.status}")
        return text

    def _request(
        self, function: catalog.Function, method: str, path: str, headers: urllib3.HTTPHeaderDict, body: bytes
    ) -> urllib3.BaseHTTPResponse:
        url = urlsplit(self._url.replace("{function}", function.service))
        try:
            # Not the manager's own `request`: it would normalise the path again.
            connections = self._pool.connection_from_host(url.hostname, url.port, url.scheme)
            return connections.urlopen(
                method, url.path + path, body=body or None, headers=headers, redirect=False, assert_same_host=False, preload_content=False
            )
        except urllib3.exceptions.ReadTimeoutError:
            raise werkzeug.exceptions.GatewayTimeout(f"{function.service} did not answer within {self._timeout:g} s") from None
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"{function.service} cannot be reached now: {type(error).__name__}") from None


def _unavailable(function: catalog.Function, answer: urllib3.BaseHTTPResponse) -> Exception:
    """The error for an answer of the platform; a response of the function would have `http.ERROR_HEADER`."""
    text = b"".join(_stream(answer))[:_PLATFORM_MESSAGE].decode("utf-8", "replace").strip()
    cause = f"({text or f'status {answer.status}'}); if it happens again, check the readiness and the logs of its pods"
    if answer.status == 504:
        return werkzeug.exceptions.GatewayTimeout(f"{function.service} did not answer in time {cause}")
    return errors.TemporaryError(f"{function.service} is not ready {cause}")


def _stream(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer.stream(_BLOCK, decode_content=False)
    finally:
        # A connection with an unread rest is of no use to the next request.
        answer.close()
        answer.release_conn()
