"""The admission of a request by its head, before its body is read: the pool of its kind, the bound of its body, and its authentication.

An application checks the token again; here an unauthenticated body is refused before it occupies memory or disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import flask
from werkzeug.datastructures import Authorization

from fuseml.domain import errors
from fuseml.embedded import tracking_proxy
from fuseml.githosts import smart_http
from fuseml.runtime import auth, catalog, http

PoolName = Literal["health", "probes", "control", "applications", "tracking", "git"]

APPLICATION_BODY = 64 << 20
"""Bytes of a request to an application."""

_SIGN_IN_BODY = 64 << 10

# They need no database, so that their threads are always free.
_HEALTH = frozenset({"/healthz", "/version"})


@dataclass(frozen=True, slots=True)
class Admission:
    """`caller` shares the pool fairly with the others; `max_body` is in bytes. `proven`: the caller has authenticated itself, if necessary."""

    pool: PoolName
    caller: str
    max_body: int
    proven: bool = True


class Admissions:
    """Of a server with these functions. `authorise` decides about requests to repositories; `authenticate` about those to MLflow, by their
    headers as WSGI names them (`tracking_proxy.TrackingProxy.authenticate`). `is_public` says whether an application needs no token;
    `largest_push` is the limit of a request to a path below the git host, in bytes.
    """

    def __init__(
        self,
        tokens: auth.Tokens,
        authorise: smart_http.Authorise,
        functions: Mapping[str, flask.Flask],
        authenticate: Callable[[Mapping[str, str]], None],
        is_public: Callable[[str], bool],
        largest_push: Callable[[str], int],
    ) -> None:
        self._largest_push = largest_push
        self._tokens, self._authorise, self._functions, self._authenticate = tokens, authorise, functions, authenticate
        self._is_public = is_public

    def admit(self, path: str, headers: Mapping[str, str], address: str, *, has_body: bool) -> Admission:
        """The admission of a request. `path` is decoded; the names of `headers` are those of WSGI without `HTTP_`.

        Raises UnauthenticatedError for a body that its sender may not send, InvalidError for an upgrade of the protocol.
        """
        # As the server gives it to the application.
        path = "/" + path.lstrip("/")
        if headers.get("UPGRADE", "").lower() == "websocket":
            raise errors.InvalidError("WebSocket is not supported; use plain HTTP requests")
        authorization = headers.get("AUTHORIZATION", "")
        # A hash separates accounts as well, and shows no token. Without an account the address counts.
        account = hashlib.sha256("".join(authorization.split()).encode()).hexdigest()[:16] if authorization else address
        if path.startswith("/git/"):
            return self._git(path, authorization, has_body)
        if path == tracking_proxy.PREFIX or path.startswith(f"{tracking_proxy.PREFIX}/"):
            return self._tracking(path, headers, account, has_body)
        function = catalog.find(path)
        if path.startswith("/apps/"):
            admission = Admission("applications", path.split("/", 3)[2], APPLICATION_BODY)
            if has_body and not authorization and self._is_public(admission.caller):
                return dataclasses.replace(admission, proven=False)
        elif function is not None:
            app = self._functions[function.name]
            admission = Admission("control", f"{function.name} {account}", app.config["MAX_CONTENT_LENGTH"])
            if not app.extensions["fuseml"].needs_token:
                # A webhook proves itself by the signature of its body.
                return dataclasses.replace(admission, proven=False)
        else:
            admission = Admission("health" if path in _HEALTH else "probes", account, http.MAX_BODY)
        if has_body:
            self._tokens.caller(authorization or None)
        return admission

    def _tracking(self, path: str, headers: Mapping[str, str], account: str, has_body: bool) -> Admission:
        if path == tracking_proxy.SIGN_IN:
            return Admission("tracking", account, _SIGN_IN_BODY, proven=False)
        if has_body:
            self._authenticate({"REQUEST_METHOD": "POST", **{f"HTTP_{name}": value for name, value in headers.items()}})
        # Artifacts come this way, as large as contents of repositories.
        return Admission("tracking", account, smart_http.MAX_BODY)

    def _git(self, path: str, authorization: str, has_body: bool) -> Admission:
        project, _, rest = path[len("/git/") :].partition("/")
        codeset = rest.partition("/")[0].removesuffix(".git")
        if has_body:
            username, password = smart_http.credentials(Authorization.from_header(authorization))
            if not password or not self._authorise(project, codeset, username, password):
                raise errors.UnauthenticatedError(smart_http.NEEDS_CREDENTIALS)
        return Admission("git", f"{project}/{codeset}", self._largest_push(path.removeprefix("/git")))
