"""Artifacts: immutable things with an address such as `model://project/name/version`, and where they came from."""

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
        """Artifacts that match all that is given, by address."""
        query = {"kind": kind, "project": project, "name": name, "run": run}
        return cast(Iterator[shapes.Artifact], self._http.pages("/artifacts", query, limit))

    def get(self, address: str) -> shapes.Artifact:
        """The artifact at `kind://project/name/version`. Raises InvalidError for another spelling, NotFoundError."""
        wanted = artifact.Address.parse(address)
        listed = self.list(kind=wanted.kind, project=wanted.project, name=wanted.name)
        found = next((item for item in listed if item.get("address") == address), None)
        if found is None:
            raise errors.NotFoundError(f"there is no artifact {address}")
        return found

    def lineage(self, address: str) -> Iterator[shapes.Edge]:
        """What the artifact was made from and what was made of it, nearest first."""
        return cast(Iterator[shapes.Edge], self._http.pages("/lineage", {"address": address}))
