"""Responses of the server itself, to requests that reach no application."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from waitress.utilities import Error

from fuseml.domain import errors
from fuseml.githosts import smart_http
from fuseml.runtime import http
from fuseml.runtime.operations import ErrorBody

_NAMES = {400: "invalid", 408: "request_timeout", 413: "too_large", 431: "too_large", 500: "fault", 501: "not_implemented"}


class Refusal(Error):
    """The response with the one error body; plain text for git, which shows it."""

    def __init__(self, status: int, message: str, *, name: str = "", headers: Mapping[str, str] | None = None, path: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self._path = status, message, path
        self._name, self._headers = name or _NAMES.get(status, "error"), dict(headers or {})

    @staticmethod
    def of(error: errors.FusemlError, path: str) -> Refusal:
        """The response to a request for `path` that failed with `error`."""
        status = next(code for kind, code in http.STATUS.items() if isinstance(error, kind))
        headers: dict[str, str] = {}
        if status == 401:
            headers["WWW-Authenticate"] = smart_http.CHALLENGE if path.startswith("/git/") else "Bearer"
        if isinstance(error, errors.TemporaryError):
            headers["Retry-After"] = str(max(1, round(error.delay)))
        return Refusal(status, error.message, name=error.name, headers=headers, path=path)

    def to_response(self, ident: str | None = None) -> Any:
        """See `Error.to_response`."""
        if self._path.startswith("/git/"):
            kind, text = "text/plain; charset=utf-8", self.message + "\n"
        else:
            body = ErrorBody(
                name=self._name,
                id=uuid.uuid4().hex[:12],
                message=self.message,
                temporary=self.code == 503,
                timeout=self.code == 408,
                fault=self.code == 500,
                details={},
            )
            kind, text = "application/json", json.dumps(body.model_dump(mode="json"), separators=(",", ":")) + "\n"
        own = {"Content-Type": kind, http.ERROR_HEADER: self._name}
        return f"{self.code} {HTTPStatus(self.code).phrase}", list({**self._headers, **own}.items()), text.encode()
