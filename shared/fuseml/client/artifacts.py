"""Artifacts: immutable results with an address such as `model://project/name/version`, and their lineage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fuseml.client import shapes, transport
from fuseml.domain import artifact, errors


class Artifacts:
    """`/artifacts` and `/lineage`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(
        self,
        *,
        kind: str | None = None,
        project: str | None = None,
        name: str | None = None,
        run: str | None = None,
        limit: int | None = None,
    ) -> Iterator[shapes.Artifact]:
        """Artifacts that match all filters, ordered by address."""
        query = {"kind": kind, "project": project, "name": name, "run": run}
        return cast(Iterator[shapes.Artifact], self._http.pages("/artifacts", query, limit))

    def get(self, address: str) -> shapes.Artifact:
        """The artifact at `kind://project/name/version`. Raises InvalidError for a malformed address, NotFoundError."""
        parsed = artifact.Address.parse(address)
        versions = self.list(kind=parsed.kind, project=parsed.project, name=parsed.name)
        for version in versions:
            if version.get("address") == address:
                return version
        raise errors.NotFoundError(f"there is no artifact {address}")

    def lineage(self, address: str) -> Iterator[shapes.Edge]:
        """The edges to the artifact's sources and to the artifacts made from it, nearest first."""
        return cast(Iterator[shapes.Edge], self._http.pages("/lineage", {"address": address}))
