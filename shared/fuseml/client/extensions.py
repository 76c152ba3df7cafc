"""The registry: extensions, their services, endpoints and credentials.

`document` is a text (YAML or JSON) or a mapping. The values of credentials are `<hidden>` in responses; sent back, `<hidden>` keeps the
stored value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, cast
from urllib.parse import quote

from fuseml.client import registry_shapes, transport

Part = TypeVar("Part", registry_shapes.Service, registry_shapes.Endpoint, registry_shapes.Credentials)


def _flags(**flags: bool) -> transport.Query:
    return {name: "true" for name, value in flags.items() if value}


class Parts(Generic[Part]):
    """The services, endpoints or credentials below one path; `key` encodes the key of a part for the path."""

    def __init__(self, http: transport.Transport, path: str, key: Callable[[str], str] = str) -> None:
        self._http = http
        self._path = path
        self._key = key

    def _address(self, key: str) -> str:
        return self._path + transport.address(self._key(key))

    def list(self) -> Iterator[Part]:
        """All parts. Raises NotFoundError when the extension or service does not exist."""
        return cast(Iterator[Part], self._http.pages(self._path))

    def add(self, document: transport.Document) -> Part:
        """Add a part. Raises InvalidError with every problem of the document, ConflictError when the key is taken."""
        return cast(Part, self._http.change("POST", self._path, document=document))

    def get(self, key: str) -> Part:
        """The part with that key. Raises NotFoundError."""
        return cast(Part, self._http.get_object(self._address(key)))

    def update(self, key: str, document: transport.Document, *, replace_lists: bool = False) -> Part:
        """Replace the fields of the document and keep the others; with `replace_lists` a list removes the parts that it lacks."""
        query = _flags(replace_lists=replace_lists)
        return cast(Part, self._http.change("PUT", self._address(key), query=query, document=document))

    def delete(self, key: str, *, force: bool = False) -> None:
        """Delete a part. Raises NotFoundError, and without `force` ConflictError while an assigned workflow needs it."""
        self._http.change("DELETE", self._address(key), query=_flags(force=force))


class Extensions:
    """`/extensions/**`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, selector: registry_shapes.Selector | None = None, limit: int | None = None) -> Iterator[registry_shapes.Extension]:
        """Extensions that match the selector; all extensions without a selector."""
        query = cast(transport.Query, selector or {})
        return cast(Iterator[registry_shapes.Extension], self._http.pages("/extensions", query, limit))

    def register(self, document: transport.Document) -> registry_shapes.Extension:
        """Register an extension. Raises InvalidError with every problem of the document, ConflictError when the id is taken."""
        return cast(registry_shapes.Extension, self._http.change("POST", "/extensions", document=document))

    def get(self, extension: str) -> registry_shapes.Extension:
        """The extension of that id. Raises NotFoundError."""
        return cast(registry_shapes.Extension, self._http.get_object(transport.address("extensions", extension)))

    def update(
        self,
        extension: str,
        document: transport.Document,
        revision: int | None = None,
        *,
        replace: bool = False,
        replace_lists: bool = False,
    ) -> registry_shapes.Extension:
        """Replace the fields of the document and keep the others; with `replace` delete the others.

        With `replace_lists` a list removes the parts that it lacks; otherwise listed parts are updated or added.
        Raises StaleError when the extension is no longer at `revision`.
        """
        path = transport.address("extensions", extension)
        query = _flags(replace=replace, replace_lists=replace_lists)
        return cast(registry_shapes.Extension, self._http.change("PUT", path, query=query, document=document, revision=revision))

    def delete(self, extension: str, *, force: bool = False) -> None:
        """Delete an extension. Raises NotFoundError, and without `force` ConflictError while an assigned workflow needs it."""
        self._http.change("DELETE", transport.address("extensions", extension), query=_flags(force=force))

    def plan(self, document: transport.Document, *, replace: bool = False) -> registry_shapes.Impact:
        """The impact of registering the document, or of updating the extension of its id. Nothing is stored."""
        return cast(registry_shapes.Impact, self._http.change("POST", "/extensions/plan", query=_flags(replace=replace), document=document))

    def plan_update(
        self,
        extension: str,
        document: transport.Document,
        revision: int | None = None,
        *,
        replace: bool = False,
        replace_lists: bool = False,
    ) -> registry_shapes.Impact:
        """The impact of `update`. Raises as `update` does."""
        path = transport.address("extensions", extension)
        query = _flags(dry_run=True, replace=replace, replace_lists=replace_lists)
        return cast(registry_shapes.Impact, self._http.change("PUT", path, query=query, document=document, revision=revision))

    def plan_deletion(self, extension: str) -> registry_shapes.Impact:
        """The impact of `delete` with `force`. Raises NotFoundError."""
        path = transport.address("extensions", extension)
        return cast(registry_shapes.Impact, self._http.change("DELETE", path, query=_flags(dry_run=True)))

    def discover(self, urls: Sequence[str], *, apply: bool = False) -> Sequence[registry_shapes.Proposal]:
        """Proposals for the tools at the URLs, which the server probes; with `apply` the server registers new ones."""
        response = self._http.change("POST", "/extensions/discover", document={"urls": [*urls], "apply": apply})
        return cast(Sequence[registry_shapes.Proposal], response["proposals"])

    def webhook(self, extension: str, *, rotate: bool = False, register: bool = False) -> registry_shapes.Webhook:
        """Create the webhook of a tracking server: the URL for its deliveries and the secret that signs them, shown only once.

        `rotate` replaces an existing secret. `register` also sets the webhook up on the tracking server. Raises ConflictError when a
        secret exists and `rotate` is not given.
        """
        path = transport.address("extensions", extension, "webhook")
        return cast(registry_shapes.Webhook, self._http.change("POST", path, query=_flags(rotate=rotate, register=register)))

    def rotate_secrets(self) -> registry_shapes.RotationResult:
        """Seal all secrets again with the newest key."""
        return cast(registry_shapes.RotationResult, self._http.change("POST", "/extensions/secrets/rotate"))

    def services(self, extension: str) -> Parts[registry_shapes.Service]:
        """The services of the extension."""
        return Parts(self._http, transport.address("extensions", extension, "services"))

    def endpoints(self, extension: str, service: str) -> Parts[registry_shapes.Endpoint]:
        """The endpoints of the service; their key is the URL."""
        # Escaped twice, as in the original's client: a WSGI server decodes the path before it routes, and an unescaped // would be a path.
        return Parts(
            self._http, transport.address("extensions", extension, "services", service, "endpoints"), key=lambda url: quote(url, safe="")
        )

    def credentials(self, extension: str, service: str) -> Parts[registry_shapes.Credentials]:
        """The credentials of the service."""
        return Parts(self._http, transport.address("extensions", extension, "services", service, "credentials"))
