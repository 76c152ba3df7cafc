"""Mirrors: the stores that the steps of a project read the artifacts of a kind from."""

from __future__ import annotations

from typing import cast

from fuseml.client import registry_shapes, store_shapes, transport


class Mirrors:
    """`/artifacts/mirrors`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def mirrors(self, project: str = "", kind: str = "") -> list[store_shapes.Mirror]:
        """The mirrors, by project and kind."""
        query = {"project": project or None, "kind": kind or None}
        return cast(list[store_shapes.Mirror], list(self._http.pages("/artifacts/mirrors", query, None)))

    def set(self, project: str, kind: str, store: registry_shapes.Selector) -> store_shapes.Mirror:
        """Set the mirror of a kind of a project. Raises NotFoundError for an unknown project, InvalidError without a criterion."""
        path = transport.address("artifacts", "mirrors", project, kind)
        return cast(store_shapes.Mirror, self._http.change("PUT", path, document={"store": dict(store)}))

    def remove(self, project: str, kind: str) -> None:
        """Remove the mirror of a kind of a project. Raises NotFoundError without one."""
        self._http.change("DELETE", transport.address("artifacts", "mirrors", project, kind))
