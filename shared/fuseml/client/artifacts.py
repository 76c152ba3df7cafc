"""Artifacts: immutable results with an address such as `model://project/name/version`, their tags and labels, and their lineage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Unpack, cast
from urllib.parse import quote

from fuseml.client import lineage_shapes, shapes, store_shapes, transport
from fuseml.domain import artifact


class Artifacts:
    """`/artifacts` and `/lineage`. Methods raise InvalidError for a malformed address, and NotFoundError for an unknown artifact."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, *, limit: int | None = None, **filters: Unpack[shapes.ArtifactFilters]) -> Iterator[shapes.Artifact]:
        """Artifacts that match all filters, ordered by address."""
        return cast(Iterator[shapes.Artifact], self._http.pages("/artifacts", cast(transport.Query, filters), limit))

    def register(self, descriptor: shapes.Descriptor) -> shapes.Artifact:
        """Register an artifact; the same facts again change nothing. Raises ConflictError for other facts than those of its address."""
        return cast(shapes.Artifact, self._http.change("POST", "/artifacts", document=cast(transport.Document, descriptor)))

    def place(self, kind: str, project: str, name: str, store: Mapping[str, str] | None = None) -> store_shapes.StoreAccess:
        """The store for a new version, with an account. `store` selects another one than the project's. Raises UnresolvedError without any."""
        wanted: dict[str, object] = {"kind": kind, "project": project, "name": name, **({"store": dict(store)} if store else {})}
        return cast(store_shapes.StoreAccess, self._http.change("POST", "/artifacts/places", document=wanted))

    def location(self, address: str) -> store_shapes.ArtifactLocation:
        """The store that holds an artifact, with an account. Raises InvalidError for an artifact whose contents no store hands out."""
        return cast(store_shapes.ArtifactLocation, self._http.change("POST", "/artifacts/locations", document={"address": address}))

    def page(self, address: str) -> store_shapes.ArtifactPage:
        """The URL at which the tool shows an artifact. Raises PermanentError for a tool without pages."""
        return cast(store_shapes.ArtifactPage, self._http.get_object(self._place(address) + "/page"))

    def get(self, address: str) -> shapes.Artifact:
        """The artifact at `kind://project/name/version`, or the one that the tag of `kind://project/name@tag` is on."""
        return cast(shapes.Artifact, self._http.get_object(_path("artifacts", artifact.reference(address))))

    def delete(self, address: str) -> None:
        """Delete the descriptor. Raises ConflictError while it is tagged or served."""
        self._http.change("DELETE", self._place(address))

    def tag(self, address: str, tag: str, *, immutable: bool | None = None) -> shapes.Artifact:
        """Put a tag on an artifact. By default it stays movable or immutable as it is. Raises ConflictError for an immutable tag elsewhere."""
        query = {"immutable": None if immutable is None else str(immutable).lower()}
        return cast(shapes.Artifact, self._http.change("PUT", self._place(address) + transport.address("tags", tag), query=query))

    def untag(self, address: str, tag: str) -> shapes.Artifact:
        """Remove a tag from an artifact. Raises ConflictError for an immutable one."""
        return cast(shapes.Artifact, self._http.change("DELETE", self._place(address) + transport.address("tags", tag)))

    def label(self, address: str, label: str) -> shapes.Artifact:
        """Put a label on an artifact."""
        return cast(shapes.Artifact, self._http.change("PUT", self._place(address) + transport.address("labels", label)))

    def unlabel(self, address: str, label: str) -> shapes.Artifact:
        """Remove a label from an artifact."""
        return cast(shapes.Artifact, self._http.change("DELETE", self._place(address) + transport.address("labels", label)))

    def history(self, address: str) -> shapes.ArtifactHistory:
        """The changes of an artifact's names, and what was made from it; also of a deleted one."""
        return cast(shapes.ArtifactHistory, self._http.get_object(self._place(address) + "/history"))

    def lineage(self, address: str, direction: str = "both", depth: int | None = None) -> shapes.Lineage:
        """What an artifact was made from (`up`) and what was made from it (`down`), within `depth` steps; 10 by default."""
        path = _path("lineage", artifact.Address.parse(self._exact(address)))
        return cast(shapes.Lineage, self._http.get_object(path, {"direction": direction, "depth": depth}))

    def provenance(self, address: str) -> lineage_shapes.Envelope:
        """The signed SLSA provenance of an artifact, a DSSE envelope. Raises ConflictError where none can be given."""
        return cast(lineage_shapes.Envelope, self._http.get_object(self._place(address) + "/provenance"))

    def public_key(self) -> str:
        """The public key, in PEM, that verifies provenance."""
        return self._http.send("GET", "/artifacts/public-key", headers={"Accept": "application/x-pem-file"}).body.decode()

    def _place(self, address: str) -> str:
        return _path("artifacts", artifact.Address.parse(self._exact(address)))

    def _exact(self, address: str) -> str:
        """The address; a tag is resolved to the version that it is on now."""
        return str(self.get(address)["address"]) if isinstance(artifact.reference(address), artifact.Tagged) else address


def _path(collection: str, reference: artifact.Address | artifact.Tagged) -> str:
    # Escaped twice: no path may hold an escaped slash, and a name may hold a slash.
    match reference:
        case artifact.Tagged(kind, project, name, tag):
            parts = [kind, project, f"{quote(name, safe='')}@{quote(tag, safe='')}"]
        case artifact.Address(kind, project, name, version):
            parts = [kind, project, quote(name, safe=""), quote(version, safe="")]
    return transport.address(collection, *parts)
