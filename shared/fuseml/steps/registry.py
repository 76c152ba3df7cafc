"""A repository of a registry, by the OCI distribution API (specification v1.1): what is pulled and pushed to put a layer on an image.

Blobs are streamed, from a file or from another registry, and never held. What may have failed in passing is asked again: a lost connection,
429, 5xx. Nobody sees half an image: blobs are of no use without the manifest, which the caller pushes last.
Accounts and tokens go to the registry's own host and to the token service that it names, and get into no message.
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
_LONGEST_PAUSE = 60.0  # that a registry may ask for
_TIMEOUT = urllib3.Timeout(connect=10, read=300)  # a registry looks through a large blob before it answers
_LARGEST = 4 * 1024 * 1024  # of what is read as a whole; the specification lets registries refuse larger manifests
_REDIRECTS = 5
_MANIFESTS = (layers.OCI_MANIFEST, layers.OCI_INDEX, layers.DOCKER_MANIFEST, layers.DOCKER_LIST)

T = TypeVar("T")


class Repository:
    """The repository of `image`, with the rights that `scopes` names (`repository:team/name:pull`) on behalf of `account`, or of nobody."""

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
        """Close the connections that are kept for the next question."""
        self._pool.clear()

    def manifest(self, version: str) -> tuple[str, layers.Document]:
        """The digest and the manifest or index of a tag or digest, with its media type in it. Raises StepError when there is none."""

        def ask() -> tuple[str, layers.Document]:
            with self._exchange("GET", self._of(f"manifests/{version}"), accept=_MANIFESTS) as answer:
                self._expect(answer, (200,), f"give the image {self.image.name}:{version}")
                data = answer.read(_LARGEST)
                found = layers.digest(data)
                if version.startswith("sha256:") and found != version:
                    raise access.Refused(f"{self._host} gave another manifest than {self.image.name}@{version}, one of digest {found}")
                document = self._document(data)
                return found, {**document, "mediaType": document.get("mediaType") or answer.headers.get("Content-Type")}

        return self._patiently(ask)

    def find(self, tag: str) -> str | None:
        """The digest of the image under this tag, if there is one."""

        def ask() -> str | None:
            with self._exchange("GET", self._of(f"manifests/{tag}"), accept=_MANIFESTS) as answer:
                if answer.status == 404:
                    return None
                self._expect(answer, (200,), f"tell whether there is an image {self.image.name}:{tag}")
                return layers.digest(answer.read(_LARGEST))

        return self._patiently(ask)

    def document(self, blob: layers.Blob) -> layers.Document:
        """A small blob that is a JSON object."""

        def ask() -> layers.Document:
            with self.open(blob) as content:
                data = content.read(_LARGEST)
            if layers.digest(data) != blob.digest:
                raise access.Refused(f"{self._host} gave another blob of {self.image.name} than {blob.digest}")
            return self._document(data)

        return self._patiently(ask)

    @contextlib.contextmanager
    def open(self, blob: layers.Blob) -> Iterator[IO[bytes]]:
        """The bytes of a blob, as they come. They may stop in between, with an error that `push` knows to begin anew for."""
        with self._exchange("GET", self._of(f"blobs/{blob.digest}")) as answer:
            self._expect(answer, (200,), f"give a layer of {self.image.name}")
            yield answer  # type: ignore[misc]  # it reads like a file

    def push(self, blob: layers.Blob, content: Content, origin: str = "") -> bool:
        """Bring a blob here, and tell whether its bytes had to be sent: it may be there, or in the repository `origin` of this registry."""
        return self._patiently(lambda: self._push(blob, content, origin))

    def push_bytes(self, data: bytes) -> None:
        """`push` for what is at hand."""
        self.push(layers.Blob(layers.digest(data), len(data)), lambda: contextlib.closing(io.BytesIO(data)))

    def tag(self, tag: str, manifest: layers.Document) -> str:
        """Let the image be seen, under `tag`; all that its manifest names must be there. Returns its digest."""
        data = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()

        def ask() -> str:
            sent = self._exchange("PUT", self._of(f"manifests/{tag}"), media_type=manifest["mediaType"], body=data)
            with sent as answer:
                self._expect(answer, (201,), f"take the image {self.image.name}:{tag}")
            return layers.digest(data)

        return self._patiently(ask)

    def _push(self, blob: layers.Blob, content: Content, origin: str) -> bool:
        with self._exchange("HEAD", self._of(f"blobs/{blob.digest}")) as answer:
            if answer.status == 200:
                return False
            self._expect(answer, (404,), f"tell what {self.image.name} holds")
        address = None
        if origin:
            query = urllib.parse.urlencode({"mount": blob.digest, "from": origin})
            with self._exchange("POST", self._of(f"blobs/uploads/?{query}")) as answer:
                if answer.status == 201:
                    return False
                # Registries that do not mount begin an upload instead, or refuse.
                address = answer.headers.get("Location") if answer.status == 202 else None
        if address is None:
            with self._exchange("POST", self._of("blobs/uploads/")) as answer:
                self._expect(answer, (202,), f"take an image for {self.image.name}")
                address = answer.headers.get("Location", "")
        target = urllib.parse.urljoin(f"{self._url}/", address)
        target += ("&" if urllib.parse.urlsplit(target).query else "?") + urllib.parse.urlencode({"digest": blob.digest})
        with self._exchange("PUT", target, media_type="application/octet-stream", body=content, size=blob.size) as answer:
            self._expect(answer, (201,), f"take a layer of {self.image.name}")
        return True

    def _document(self, data: bytes) -> layers.Document:
        found = access.parsed(data)
        if not found:
            raise access.Refused(f"{self._host} gave something else for {self.image.name} than what describes an image: is it a registry?")
        return found

    # What is asked, and who asks

    @property
    def _host(self) -> str:
        return self.image.registry

    def _of(self, path: str) -> str:
        return f"{self._url}/v2/{self.image.repository}/{path}"

    def _patiently(self, ask: Callable[[], T]) -> T:
        for pause in (*self._pauses, None):
            try:
                return ask()
            except (access.PassingError, urllib3.exceptions.HTTPError, OSError) as error:
                cause = str(error) if isinstance(error, access.PassingError) else _plain_words(error)
                if pause is None:
                    raise sdk.StepError(f"the registry {self._host} does not answer as it should: {cause}") from None
                sdk.say(f"the registry {self._host} does not answer as it should ({cause}); asking again")
                time.sleep(max(pause, getattr(error, "pause", 0.0)))
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def _exchange(
        self, method: str, url: str, *, accept: Sequence[str] = (), media_type: str = "", body: bytes | Content | None = None, size: int = 0
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """One question, again with a new token if the one before has expired. Redirections are followed for what is only read."""
        headers = {name: value for name, value in (("Accept", ", ".join(accept)), ("Content-Type", media_type)) if value}
        with contextlib.ExitStack() as stack:

            def send() -> urllib3.BaseHTTPResponse:
                return stack.enter_context(contextlib.closing(self._send(method, url, headers, body, size)))

            answer = send()
            if answer.status == 401 and self._is_own(url) and self._access.take_up(answer.headers.getlist("WWW-Authenticate")):
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

    def _expect(self, answer: urllib3.BaseHTTPResponse, statuses: tuple[int, ...], what: str) -> None:
        """Raises Refused with the registry's own words, and PassingError where it may change its mind."""
        if answer.status in statuses:
            return
        words = access.words(answer.read(_LARGEST))
        if answer.status == 429 or answer.status >= 500:
            asked = answer.headers.get("Retry-After", "")
            raise access.PassingError(f"{answer.status} {words}".strip(), min(float(asked), _LONGEST_PAUSE) if asked.isdigit() else 0.0)
        told = f"the registry {self._host} does not {what}: {answer.status} {words}".rstrip()
        if answer.status in (401, 403):
            who = f"as '{self._account.user}'" if self._account is not None else "without an account"
            told += f" (asked {who}): link a Secret with an account that may do this to the service account of the step's pod"
        raise access.Refused(told)


def _plain_words(error: Exception) -> str:
    """Why there was no answer. The text of a urllib3 error may hold the address of an upload, which is a secret of its own."""
    match error:
        case urllib3.exceptions.NameResolutionError():
            return "its name is not known here"
        case urllib3.exceptions.SSLError():
            return "its certificate is not known here, or it speaks plain HTTP (FUSEML_PLAIN_REGISTRIES)"
        case urllib3.exceptions.NewConnectionError():
            return "no connection"
        case urllib3.exceptions.TimeoutError():
            return "no answer in time"
    return "the connection was lost"
