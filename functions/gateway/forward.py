"""Forwards requests to functions, and their responses back, byte by byte."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

import flask
import urllib3
import werkzeug.exceptions

from functions.gateway import slots
from fuseml.domain import errors
from fuseml.runtime import catalog, forwarding, http

_BLOCK = 1 << 16
_IN_MEMORY = 1 << 20
_CONNECTIONS = 32
# Of the 50 requests that a pod of the gateway takes at once (`containerConcurrency`): those of one function, and those whose bodies are
# being received. Two functions that do not answer leave places for the others.
_OF_ONE_FUNCTION, _WAITING, _WAIT_SECONDS = 16, 6, 2.0
_BODIES = 24
# Knative answers in place of a function that has no ready pod or is too slow: a status and a line of plain text.
_PLATFORM_STATUSES = frozenset({502, 503, 504})
_PLATFORM_MESSAGE = 200


class Forwarder:
    """Connections to functions at `url`, with `{function}` for a service; safe to share between threads."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url.rstrip("/"), timeout
        self._slots = {function.name: slots.Slots(_OF_ONE_FUNCTION, _WAITING, _WAIT_SECONDS) for function in catalog.FUNCTIONS}
        self._bodies = slots.Slots(_BODIES, 0, 0.0)
        self._pool = urllib3.PoolManager(retries=False, maxsize=_CONNECTIONS, timeout=urllib3.Timeout(connect=5.0, read=timeout))

    def forward(self, function: catalog.Function, path: str, request: flask.Request) -> flask.Response:
        """The function's response to the request, streamed. `path` is that of the request as it was received and judged.

        Raises TemporaryError when the function cannot be reached, is not ready or has too many requests in progress, GatewayTimeout when it
        does not answer in time, InvalidError for a `Connection` header that takes fields from the request.
        """
        headers = urllib3.HTTPHeaderDict([*forwarding.request_fields(request.headers), (catalog.OUTSIDE, "gateway")])
        query = f"?{request.query_string.decode('latin-1')}" if request.query_string else ""
        with contextlib.ExitStack() as until_sent:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
                size = self._receive(request, body)
                if size:
                    headers["Content-Length"] = str(size)
                until_sent.enter_context(self._slot(function))
                answer = self._request(function, request.method, path + query, headers, body if size else None)
            if answer.status in _PLATFORM_STATUSES and http.ERROR_HEADER not in answer.headers:
                raise _unavailable(function, answer)
            response = flask.Response(_stream(answer), answer.status, forwarding.response_fields(answer.headers.iteritems()))
            response.call_on_close(until_sent.pop_all().close)
            return response

    def _receive(self, request: flask.Request, body: IO[bytes]) -> int:
        """Write the whole body to the file, and return its size: a request that breaks off must not reach a function."""
        if not request.content_length and "Transfer-Encoding" not in request.headers:
            return 0
        if not self._bodies.take():
            raise errors.TemporaryError("too many bodies are being received; try again later", delay=_WAIT_SECONDS)
        try:
            shutil.copyfileobj(request.stream, body, _BLOCK)
        finally:
            self._bodies.give_back()
        size = body.tell()
        body.seek(0)
        return size

    @contextlib.contextmanager
    def _slot(self, function: catalog.Function) -> Iterator[None]:
        found = self._slots[function.name]
        if not found.take():
            raise errors.TemporaryError(f"{function.service} has too many requests in progress; try again later", delay=_WAIT_SECONDS)
        try:
            yield
        finally:
            found.give_back()

    def get(self, function: catalog.Function, path: str) -> bytes:
        """The body of a function's response. Raises TemporaryError for another status than 200."""
        with self._slot(function):
            answer = self._request(function, "GET", path, urllib3.HTTPHeaderDict(), None)
            text: bytes = answer.read()
        if answer.status != 200:
            raise errors.TemporaryError(f"{function.service} answers {path} with status {answer.status}")
        return text

    def _request(
        self, function: catalog.Function, method: str, path: str, headers: urllib3.HTTPHeaderDict, body: IO[bytes] | None
    ) -> urllib3.BaseHTTPResponse:
        url = urlsplit(self._url.replace("{function}", function.service))
        try:
            # Not the manager's own `request`: it would normalise the path again.
            connections = self._pool.connection_from_host(url.hostname, url.port, url.scheme)
            return connections.urlopen(
                method, url.path + path, body=body, headers=headers, redirect=False, assert_same_host=False, preload_content=False
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
