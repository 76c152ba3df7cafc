"""Sources: repositories that the registry and the workflows follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fuseml.client import source_shapes, transport


class Sources:
    """`/sources`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self) -> Iterator[source_shapes.Source]:
        """All sources, by name. The server reads no repository."""
        return cast(Iterator[source_shapes.Source], self._http.pages("/sources"))

    def get(self, name: str) -> source_shapes.SourceDetails:
        """Raises NotFoundError."""
        return cast(source_shapes.SourceDetails, self._http.get_object(transport.address("sources", name)))

    def add(
        self, name: str, *, url: str = "", codeset: str = "", branch: str = "", path: str = "", adopt: bool = False
    ) -> source_shapes.SourceDetails:
        """Add the repository at `url`, or the codeset PROJECT/NAME, and reconcile it; refused files are a result. The same again reconciles it.

        Raises NotFoundError for the codeset or branch, ConflictError for another source of the name, TemporaryError while the repository cannot be
        read.
        """
        document = {"name": name, "url": url, "codeset": codeset, "branch": branch, "path": path, "adopt": adopt}
        return cast(source_shapes.SourceDetails, self._http.change("POST", "/sources", document=document))

    def sync(self, name: str, *, adopt: bool = False) -> source_shapes.SourceDetails:
        """Bring everything to the newest commit of the source, and undo changes by hand; a refusal is a result. Raises NotFoundError."""
        path = transport.address("sources", name, "sync")
        return cast(source_shapes.SourceDetails, self._http.change("POST", path, document={"adopt": adopt}))

    def diff(self, name: str, *, adopt: bool = False) -> source_shapes.SourceDifference:
        """What a sync would change now. Raises NotFoundError, and TemporaryError while the repository cannot be read."""
        path = transport.address("sources", name, "diff")
        return cast(source_shapes.SourceDifference, self._http.get_object(path, {"adopt": "true"} if adopt else {}))

    def remove(self, name: str, *, delete: bool = False) -> None:
        """Remove a source. What it has made stays or, with `delete`, is deleted, all or nothing.

        Raises NotFoundError, and ConflictError where an item is needed.
        """
        self._http.change("DELETE", transport.address("sources", name), query={"delete": "true"} if delete else {})
