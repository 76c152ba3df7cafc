"""The registry of extensions: records, their services, endpoints and credentials.

`document` is text (as written, YAML or JSON) or a mapping. Credentials come back with `<hidden>` values; sent back, that keeps what is
stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, cast
from urllib.parse import quote

from fuseml.client import registry_shapes, transport

Part = TypeVar("Part", registry_shapes.Service, registry_shapes.Endpoint, registry_shapes.Credentials)


def _flags(**flags: bool) -> transport.Query:
    """The flags that are set, as a query."""
    return {name: "true" for name, value in flags.items() if value}


class Parts(Generic[Part]):
    """The children of a record at one level: services, endpoints or credentials, reached by `key`."""

    def __init__(self, http: transport.Transport, path: str, key: Callable[[str], str] = str) -> None:
        self._http = http
        self._path = path
        self._key = key

    def _address(self, key: str) -> str:
        return self._path + transport.address(self._key(key))

    def list(self) -> Iterator[Part]:
        """Raises NotFoundError when the parent does not exist."""
        return cast(Iterator[Part], self._http.pages(self._path))

    def add(self, document: transport.Document) -> Part:
        """Raises ConflictError when the key is taken."""
        return cast(Part, self._http.change("POST", self._path, document=document))

    def get(self, key: str) -> Part:
        """Raises NotFoundError."""
        return cast(Part, self._http.get_object(self._address(key)))

    def update(self, key: str, document: transport.Document) -> Part:
        """Replaces what the document names and keeps the rest."""
        return cast(Part, self._http.change("PUT", self._address(key), document=document))

    def delete(self, key: str, *, force: bool = False) -> None:
        """Raises NotFoundError; ConflictError while an assigned workflow needs it, unless it is forced."""
        self._http.change("DELETE", self._address(key), query=_flags(force=force))


class Extensions:
    """`/extensions/**`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, selector: registry_shapes.Selector | None = None, limit: int | None = None) -> Iterator[registry_shapes.Extension]:
        """Extensions that have what the selector asks for; all of them without one."""
        query = cast(transport.Query, selector or {})
        return cast(Iterator[registry_shapes.Extension], self._http.pages("/extensions", query, limit))

    def register(self, document: transport.Document) -> registry_shapes.Extension:
        """Raises InvalidError with every problem of the record, ConflictError when the id is taken."""
        return cast(registry_shapes.Extension, self._http.change("POST", "/extensions", document=document))

    def get(self, extension: str) -> registry_shapes.Extension:
        """Raises NotFoundError."""
        return cast(registry_shapes.Extension, self._http.get_object(transport.address("extensions", extension)))

    def update(
        self, extension: str, document: transport.Document, revision: int | None = None, *, replace: bool = False
    ) -> registry_shapes.Extension:
        """Replaces what the document names and keeps the rest; StaleError when the record is no longer at `revision`.

        With `replace` the document is all that the record shall hold.
        """
        path = transport.address("extensions", extension)
        query = _flags(replace=replace)
        return cast(registry_shapes.Extension, self._http.change("PUT", path, query=query, document=document, revision=revision))

    def delete(self, extension: str, *, force: bool = False) -> None:
        """Raises ConflictError while an assigned workflow needs it, unless it is forced."""
        self._http.change("DELETE", transport.address("extensions", extension), query=_flags(force=force))

    def plan(self, document: transport.Document, *, replace: bool = False) -> registry_shapes.Impact:
        """What registering the record, or updating the one of its id, would do. Nothing is stored."""
        return cast(registry_shapes.Impact, self._http.change("POST", "/extensions/plan", query=_flags(replace=replace), document=document))

    def plan_update(self, extension: str, document: transport.Document, revision: int | None = None) -> registry_shapes.Impact:
        """What `update` would do. Raises as it does."""
        path = transport.address("extensions", extension)
        return cast(
            registry_shapes.Impact, self._http.change("PUT", path, query=_flags(dry_run=True), document=document, revision=revision)
        )

    def plan_deletion(self, extension: str) -> registry_shapes.Impact:
        """What `delete` would do, forced. Raises NotFoundError."""
        path = transport.address("extensions", extension)
        return cast(registry_shapes.Impact, self._http.change("DELETE", path, query=_flags(dry_run=True)))

    def discover(self, urls: Sequence[str], *, apply: bool = False) -> Sequence[registry_shapes.Proposal]:
        """What answers at each URL, as the server sees it; with `apply` what is new gets registered."""
        answer = self._http.change("POST", "/extensions/discover", document={"urls": [*urls], "apply": apply})
        return cast(Sequence[registry_shapes.Proposal], answer["proposals"])

    def webhook(self, extension: str, *, rotate: bool = False, register: bool = False) -> registry_shapes.Webhook:
        """Where a tracking server delivers its events to, and the secret to sign them with, shown this once.

        ConflictError where there is a secret already, unless it is to `rotate`. With `register` the server itself is told.
        """
        path = transport.address("extensions", extension, "webhook")
        return cast(registry_shapes.Webhook, self._http.change("POST", path, query=_flags(rotate=rotate, register=register)))

    def rotate_secrets(self) -> registry_shapes.RotationResult:
        """Seal everything that is secret anew, with the newest key."""
        return cast(registry_shapes.RotationResult, self._http.change("POST", "/extensions/secrets/rotate"))

    def services(self, extension: str) -> Parts[registry_shapes.Service]:
        """The services of one extension."""
        return Parts(self._http, transport.address("extensions", extension, "services"))

    def endpoints(self, extension: str, service: str) -> Parts[registry_shapes.Endpoint]:
        """The endpoints of one service; their key is the URL."""
        # Escaped twice, as the original's client does: a WSGI server undoes one escape before routing, and a bare // would be a path.
        return Parts(
            self._http, transport.address("extensions", extension, "services", service, "endpoints"), key=lambda url: quote(url, safe="")
        )

    def credentials(self, extension: str, service: str) -> Parts[registry_shapes.Credentials]:
        """The credentials of one service."""
        return Parts(self._http, transport.address("extensions", extension, "services", service, "credentials"))
