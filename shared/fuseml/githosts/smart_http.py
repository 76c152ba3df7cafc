"""git over HTTP for the embedded git host: a WSGI application for clone, fetch and push, and for the contents of Git LFS.

It is mounted under a prefix (`/git`), serves `/<project>/<codeset>.git/...`, and authorises each request first: unauthorised clients
cannot learn which repositories exist. Requests and responses are buffered, large ones in temporary files, so that a failure has a status
of its own and a slow client never holds the lock of a repository.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import tempfile
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

from werkzeug import exceptions, wrappers, wsgi
from werkzeug.datastructures import Authorization

from fuseml.domain import errors
from fuseml.githosts import lfs_transfer, payload
from fuseml.githosts.embedded import EmbeddedGitHost

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from dulwich.repo import Repo

    from fuseml.githosts import ref_moves

log = logging.getLogger(__name__)

Authorise = Callable[[str, str, str, str], bool]
"""(project, codeset, username, password or token) -> whether the client may read and push."""
Deliver = Callable[[payload.Delivery], None]
Secret = Callable[[str, str], str]
"""(project, codeset) -> the secret that signs the codeset's webhooks."""

_FETCH, _PUSH = "git-upload-pack", "git-receive-pack"

MAX_BODY = 1 << 30
NEEDS_CREDENTIALS = "authentication is required: use the user name and password (or token) of the codeset"
CHALLENGE = 'Basic realm="FuseML", charset="UTF-8"'
_IN_MEMORY = 1 << 20
_CHUNK = 1 << 16

_ADDRESS = re.compile(
    r"/(?P<project>[\w-]+)/(?P<codeset>[\w-]+)(?:\.git)?/(?P<resource>info/refs|git-upload-pack|git-receive-pack)", re.ASCII
)
_LFS = re.compile(r"/(?P<project>[\w-]+)/(?P<codeset>[\w-]+)(?:\.git)?/info/lfs/(?P<resource>[\w/-]+)", re.ASCII)
_NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate", "Expires": "Fri, 01 Jan 1980 00:00:00 GMT", "Pragma": "no-cache"}
_STATUS: dict[type[errors.FusemlError], int] = {errors.NotFoundError: 404, errors.TooLargeError: 413, errors.InvalidError: 400}


class SmartHttp:
    """The WSGI application. `max_body` limits a request in bytes, both compressed and decompressed; contents of Git LFS have the limit of
    a push. `urls` are its addresses, with which contents are named to clients that use one of them.

    `deliver` receives the webhooks of a push while the repository is locked, and so in the order of the pushes; it should only store
    them. Its errors are logged: a push that moved its refs has succeeded.
    """

    def __init__(
        self,
        host: EmbeddedGitHost,
        *,
        authorise: Authorise,
        deliver: Deliver,
        secret: Secret,
        max_body: int = MAX_BODY,
        urls: Sequence[str] = (),
    ) -> None:
        self._host = host
        self._urls = {urllib.parse.urlsplit(url).netloc: url.rstrip("/") for url in urls}
        self._authorise = authorise
        self._deliver = deliver
        self._secret = secret
        self._max_body = max_body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = wrappers.Request(environ)
        try:
            response = self._respond(request)
        except tuple(_STATUS) as error:
            response = _refusal(_STATUS[type(error)], error.message)
        return response(environ, start_response)

    def largest_body(self, path: str) -> int:
        """The limit of a request to this path below the mount point, in bytes."""
        return max(self._max_body, self._host.limits.pack) if _LFS.fullmatch(path) else self._max_body

    def _respond(self, request: wrappers.Request) -> wrappers.Response:
        match = _ADDRESS.fullmatch(request.path) or _LFS.fullmatch(request.path)
        if match is None:
            return _refusal(404, "this is not the address of a codeset; use <project>/<codeset>.git")
        project, codeset, resource = match["project"], match["codeset"], match["resource"]
        username, password = credentials(request.authorization)
        if not password or not self._authorise(project, codeset, username, password):
            return _unauthorised(match)
        if match.re is _LFS:
            return self._lfs(request, project, codeset, resource)
        with self._host.open(project, codeset) as repository:
            if resource == "info/refs":
                return _advertisement(request, repository)
            if request.method != "POST" or request.mimetype != f"application/x-{resource}-request":
                return _refusal(400, f"{resource} requires a POST of application/x-{resource}-request")
            with self._body(request) as body:
                if resource == _FETCH:
                    return _fetch(repository, body)
                return self._push(project, codeset, username or "token", body)

    def _lfs(self, request: wrappers.Request, project: str, codeset: str, resource: str) -> wrappers.Response:
        try:
            with self._host.open(project, codeset):
                objects = self._host.lfs_objects(project, codeset)
            # By the name of the server that the client uses: it has credentials for that one.
            url = self._urls.get(request.host, f"{request.scheme}://{request.host}") + request.root_path
            return lfs_transfer.respond(request, resource, objects, f"{url}/{project}/{codeset}.git/info/lfs", self._host.limits.pack)
        except tuple(_STATUS) as error:
            return lfs_transfer.message(_STATUS[type(error)], {"message": error.message})

    def _push(self, project: str, codeset: str, pusher: str, body: IO[bytes]) -> wrappers.Response:
        from fuseml.githosts import git_protocol

        # Opened again to see the changes of a push that held the lock before.
        with self._host.pushing(project, codeset), self._host.open(project, codeset) as repository, _spool() as output:

            def move(changes: Sequence[payload.Change], atomic: bool) -> Sequence[ref_moves.Move]:
                return self._host.move_refs(project, codeset, repository, changes, pusher, atomic=atomic)

            def deliver(moves: Sequence[ref_moves.Move]) -> None:
                address = payload.CodesetAddress(project, codeset, self._host.clone_url(project, codeset))
                for each in moves:
                    self._deliver_webhooks(repository, each, address, pusher)

            git_protocol.receive_pack(repository, body, output, move, deliver, self._host.limits)
            output.seek(0)
            return _result(_PUSH, "result", output.read())

    def _deliver_webhooks(self, repository: Repo, move: ref_moves.Move, address: payload.CodesetAddress, pusher: str) -> None:
        try:
            secret = self._secret(address.project, address.codeset)
            for delivery in payload.deliveries(repository, move.change, address, pusher, secret, move.delivery):
                self._deliver(delivery)
        except Exception:
            # The refs have moved, so the push must not fail now.
            log.exception("the webhooks of %s in %s/%s were not delivered", move.change.text, address.project, address.codeset)

    @contextlib.contextmanager
    def _body(self, request: wrappers.Request) -> Iterator[IO[bytes]]:
        too_large = errors.TooLargeError(f"the request exceeds the limit of {self._max_body} bytes; push in parts")
        request.max_content_length = self._max_body
        compressed = request.headers.get("Content-Encoding") in ("gzip", "x-gzip")
        received: IO[bytes] = request.environ["wsgi.input"]
        if not compressed and _size(received) == request.content_length and _size(received) <= self._max_body:
            # The server has received it whole; a copy of a large pack would take its time and disk again.
            yield received
            return
        with _spool() as body:
            try:
                read = gzip.GzipFile(fileobj=request.stream).read if compressed else request.stream.read
                while chunk := read(_CHUNK):
                    body.write(chunk)
                    if body.tell() > self._max_body:
                        raise too_large
            except exceptions.RequestEntityTooLarge as error:
                raise too_large from error
            except (exceptions.ClientDisconnected, gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise errors.InvalidError("the body of the request is incomplete or does not match its headers") from error
            body.seek(0)
            yield body


def _advertisement(request: wrappers.Request, repository: Repo) -> wrappers.Response:
    from fuseml.githosts import git_protocol

    try:
        service = request.args.get("service", "")
    except UnicodeDecodeError:
        return _refusal(400, "the query of the address is not UTF-8 text")
    if service not in (_FETCH, _PUSH):
        return _refusal(403, "only git's smart protocol is supported; use git 1.6.6 or newer")
    with _spool() as output:
        git_protocol.advertise(repository, service, output)
        output.seek(0)
        return _result(service, "advertisement", output.read())


def _fetch(repository: Repo, body: IO[bytes]) -> wrappers.Response:
    from fuseml.githosts import fetches

    with contextlib.ExitStack() as until_sent:
        output = until_sent.enter_context(_spool())
        fetches.upload_pack(repository, body, output)
        size = output.tell()
        output.seek(0)
        until_sent.pop_all()
        response = _result(_FETCH, "result", wsgi.FileWrapper(output, _CHUNK))
        response.content_length = size
        return response


def _result(service: str, part: str, content: bytes | Iterable[bytes]) -> wrappers.Response:
    return wrappers.Response(
        content, content_type=f"application/x-{service}-{part}", headers=_NO_CACHE, direct_passthrough=not isinstance(content, bytes)
    )


def _refusal(status: int, message: str) -> wrappers.Response:
    return wrappers.Response(f"{message}\n", status, content_type="text/plain; charset=utf-8", headers=_NO_CACHE)


def _unauthorised(match: re.Match[str]) -> wrappers.Response:
    if match.re is _LFS:
        refusal = lfs_transfer.message(401, {"message": NEEDS_CREDENTIALS})
        refusal.headers["LFS-Authenticate"] = CHALLENGE
    else:
        refusal = _refusal(401, NEEDS_CREDENTIALS)
    refusal.headers["WWW-Authenticate"] = CHALLENGE
    return refusal


def credentials(authorization: Authorization | None) -> tuple[str, str]:
    """User name and password of a request; a token is a password. Empty where they are missing."""
    if authorization is None:
        return "", ""
    if authorization.type == "bearer":
        return "", authorization.token or ""
    return authorization.username or "", authorization.password or ""


def _size(received: IO[bytes]) -> int:
    """Bytes of a body that is in memory or in a file; -1 if it is still to be received."""
    if not received.seekable():
        return -1
    size = received.seek(0, os.SEEK_END)
    received.seek(0)
    return size


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY)
