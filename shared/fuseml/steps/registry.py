"""A repository of a registry, by the OCI distribution API (specification v1.1): pull and push of an image's blobs and manifest.

Blobs are streamed from a file or from another registry. Transient failures are retried: a lost connection, 429, 5xx. No incomplete image is
visible, because the caller pushes the manifest last.
Accounts and tokens go only to the registry's own host and its token service, and into no message.
"""

from __future__ import annotations

import contextlib
import io
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import IO, TypeVar

import urllib3

from fuseml.steps import access, layers, references, sdk

Content = Callable[[], "AbstractContextManager[IO[bytes]]"]
"""Opens a blob's bytes, from the beginning at each call."""

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_PAUSE = 60.0  # limit of Retry-After
_TIMEOUT = urllib3.Timeout(connect=10, read=300)  # a registry verifies a large blob before it answers
_LARGEST = 4 * 1024 * 1024  # limit of a manifest; the specification lets registries refuse larger ones
_REDIRECTS = 5
_MANIFESTS = (layers.OCI_MANIFEST, layers.OCI_INDEX, layers.DOCKER_MANIFEST, layers.DOCKER_LIST)

T = TypeVar("T")


class Repository:
    """The repository of `image`, accessed with `scopes` (`repository:team/name:pull`) as `account`, or anonymously."""

    def __init__(
        self,
        image: references.Reference,
        *,
        account: references.Account | None = None,
        plain: Sequence[str] = (),
        scopes: Sequence[str] = (),
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        self.image = image
        self._account = account
        self._url = image.url(plain)
        self._pauses = pauses
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT, blocksize=1 << 20)
        self._access = access.Access(self._pool, self._url, account, scopes)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def manifest(self, version: str) -> tuple[str, layers.Document]:
        """Digest and manifest (or index) of a tag or digest; the document includes its media type. Raises StepError for an unknown one."""

        def request() -> tuple[str, layers.Document]:
            with self._exchange("GET", self._of(f"manifests/{version}"), accept=_MANIFESTS) as answer:
                self._expect(answer, (200,), f"serve the image {self.image.name}:{version}")
                data = answer.read(_LARGEST)
                digest = layers.digest(data)
                if version.startswith("sha256:") and digest != version:
                    raise access.RefusalError(f"{self._host} served the manifest {digest} instead of {self.image.name}@{version}")
                document = self._document(data)
                return digest, {**document, "mediaType": document.get("mediaType") or answer.headers.get("Content-Type")}

        return self._retry(request)

    def find(self, tag: str) -> str | None:
        """The digest of the image with this tag; None without one."""

        def request() -> str | None:
            with self._exchange("GET", self._of(f"manifests/{tag}"), accept=_MANIFESTS) as answer:
                if answer.status == 404:
                    return None
                self._expect(answer, (200,), f"look up the image {self.image.name}:{tag}")
                return layers.digest(answer.read(_LARGEST))

        return self._retry(request)

    def document(self, blob: layers.Blob) -> layers.Document:
        """A small blob that is a JSON object."""

        def request() -> layers.Document:
            with self.open(blob) as content:
                data = content.read(_LARGEST)
            if layers.digest(data) != blob.digest:
                raise access.RefusalError(f"{self._host} served another blob of {self.image.name} than {blob.digest}")
            return self._document(data)

        return self._retry(request)

    @contextlib.contextmanager
    def open(self, blob: layers.Blob) -> Iterator[IO[bytes]]:
        """The bytes of a blob, as a stream. It may end early with an error, for which `push` starts again."""
        with self._exchange("GET", self._of(f"blobs/{blob.digest}")) as answer:
            self._expect(answer, (200,), f"serve a layer of {self.image.name}")
            yield answer  # type: ignore[misc]  # it reads like a file

    def read(self, blob: layers.Blob, reader: Callable[[IO[bytes]], T]) -> T:
        """The result of `reader` for the bytes of a blob; it starts again after a lost connection."""

        def request() -> T:
            with self.open(blob) as content:
                return reader(content)

        return self._retry(request)

    def push(self, blob: layers.Blob, content: Content, origin: str = "") -> bool:
        """Push a blob. Returns whether its bytes were sent: it may exist here, or in the repository `origin` of this registry."""
        return self._retry(lambda: self._push(blob, content, origin))

    def push_bytes(self, data: bytes) -> None:
        """Push a blob from memory."""
        self.push(layers.Blob(layers.digest(data), len(data)), lambda: contextlib.closing(io.BytesIO(data)))

    def tag(self, tag: str, manifest: layers.Document) -> str:
        """Push the manifest under `tag`, which makes the image visible; its blobs must exist. Returns its digest."""
        data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()

        def request() -> str:
            sent = self._exchange("PUT", self._of(f"manifests/{tag}"), media_type=manifest["mediaType"], body=data)
            with sent as answer:
                self._expect(answer, (201,), f"accept the image {self.image.name}:{tag}")
            return layers.digest(data)

        return self._retry(request)

    def _push(self, blob: layers.Blob, content: Content, origin: str) -> bool:
        with self._exchange("HEAD", self._of(f"blobs/{blob.digest}")) as answer:
            if answer.status == 200:
                return False
            self._expect(answer, (404,), f"look up a layer of {self.image.name}")
        address = None
        if origin:
            query = urllib.parse.urlencode({"mount": blob.digest, "from": origin})
            with self._exchange("POST", self._of(f"blobs/uploads/?{query}")) as answer:
                if answer.status == 201:
                    return False
                # A registry without support for mounts starts an upload instead, or refuses.
                address = answer.headers.get("Location") if answer.status == 202 else None
        if address is None:
            with self._exchange("POST", self._of("blobs/uploads/")) as answer:
                self._expect(answer, (202,), f"accept an image for {self.image.name}")
                address = answer.headers.get("Location", "")
        target = urllib.parse.urljoin(f"{self._url}/", address)
        target += ("&" if urllib.parse.urlsplit(target).query else "?") + urllib.parse.urlencode({"digest": blob.digest})
        with self._exchange("PUT", target, media_type="application/octet-stream", body=content, size=blob.size) as answer:
            self._expect(answer, (201,), f"accept a layer of {self.image.name}")
        return True

    def _document(self, data: bytes) -> layers.Document:
        document = access.parsed(data)
        if not document:
            raise access.RefusalError(f"{self._host} served no manifest for {self.image.name}: is it a registry?")
        return document

    # Requests

    @property
    def _host(self) -> str:
        return self.image.registry

    def _of(self, path: str) -> str:
        return f"{self._url}/v2/{self.image.repository}/{path}"

    def _retry(self, request: Callable[[], T]) -> T:
        for pause in (*self._pauses, None):
            try:
                return request()
            except (access.TransientError, urllib3.exceptions.HTTPError, OSError) as error:
                cause = str(error) if isinstance(error, access.TransientError) else _reason(error)
                if pause is None:
                    raise sdk.StepError(f"the registry {self._host} does not answer correctly: {cause}") from None
                sdk.say(f"the registry {self._host} does not answer correctly ({cause}); retrying")
                time.sleep(max(pause, getattr(error, "pause", 0.0)))
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _exchange(
        self, method: str, url: str, *, accept: Sequence[str] = (), media_type: str = "", body: bytes | Content | None = None, size: int = 0
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """One request, repeated with a new token after an expired one. Redirections of reads are followed."""
        headers = {name: value for name, value in (("Accept", ", ".join(accept)), ("Content-Type", media_type)) if value}
        with contextlib.ExitStack() as stack:

            def send() -> urllib3.BaseHTTPResponse:
                return stack.enter_context(contextlib.closing(self._send(method, url, headers, body, size)))

            answer = send()
            if answer.status == 401 and self._is_own(url) and self._access.answer(answer.headers.getlist("WWW-Authenticate")):
                answer = send()
            for _ in range(_REDIRECTS):
                if method not in ("GET", "HEAD") or answer.status not in (301, 302, 303, 307, 308):
                    break
                url = urllib.parse.urljoin(url, answer.headers.get("Location", ""))
                answer = send()
            yield answer

    def _send(self, method: str, url: str, headers: dict[str, str], body: bytes | Content | None, size: int) -> urllib3.BaseHTTPResponse:
        sent = dict(headers)
        if self._access.header and self._is_own(url):
            sent["Authorization"] = self._access.header
        if not callable(body):
            return self._pool.request(method, url, headers=sent, body=body, redirect=False, preload_content=False)
        sent["Content-Length"] = str(size)
        with body() as content:
            return self._pool.request(method, url, headers=sent, body=content, redirect=False, preload_content=False)

    def _is_own(self, url: str) -> bool:
        return urllib.parse.urlsplit(url)[:2] == urllib.parse.urlsplit(self._url)[:2]

    def _expect(self, answer: urllib3.BaseHTTPResponse, statuses: tuple[int, ...], action: str) -> None:
        """Raises RefusalError with the registry's reasons, and TransientError for 429 and 5xx."""
        if answer.status in statuses:
            return
        reasons = access.reasons(answer.read(_LARGEST))
        if answer.status == 429 or answer.status >= 500:
            delay = answer.headers.get("Retry-After", "")
            raise access.TransientError(f"{answer.status} {reasons}".strip(), min(float(delay), _LONGEST_PAUSE) if delay.isdigit() else 0.0)
        message = f"the registry {self._host} does not {action}: {answer.status} {reasons}".rstrip()
        if answer.status in (401, 403):
            who = f"as '{self._account.user}'" if self._account is not None else "without an account"
            message += f" (requested {who}): link a Secret with an account that may do this to the service account of the step's pod"
        raise access.RefusalError(message)


def _reason(error: Exception) -> str:
    """The reason of a failed request. The text of a urllib3 error may hold the URL of an upload, which is a secret."""
    match error:
        case urllib3.exceptions.NameResolutionError():
            return "its name cannot be resolved"
        case urllib3.exceptions.SSLError():
            return "its certificate is not trusted, or it speaks plain HTTP (FUSEML_PLAIN_REGISTRIES)"
        case urllib3.exceptions.NewConnectionError():
            return "no connection"
        case urllib3.exceptions.TimeoutError():
            return "no answer in time"
    return "the connection was lost"
