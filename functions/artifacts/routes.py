"""HTTP of `artifacts`.

The path of an artifact has the four parts of its address: `/artifacts/model/demo/diabetes/1`. A slash in a name is escaped twice, because no
path may hold an escaped slash (`runtime.targets`): `/artifacts/dataset/demo/raw%252Ftrain/7`.
"""

from __future__ import annotations

import urllib.parse

from functions.artifacts import contents, mirrors, naming, provenance, retention, service, wire
from functions.artifacts.deps import Deps
from functions.artifacts.paths import ONE, address_of
from fuseml.domain import artifact, errors
from fuseml.domain.artifacts import descriptor
from fuseml.runtime import http
from fuseml.usecases import ownership


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""
    _register_descriptors(api, deps)
    _register_contents(api, deps)
    _register_names(api, deps)
    _register_lineage(api, deps)
    provenance.register(api, deps)
    mirrors.register(api, deps)
    retention.register(api, deps)


def _register_descriptors(api: http.Api, deps: Deps) -> None:
    @api.route("GET", "/artifacts", query=wire.ArtifactQuery, returns=[wire.Artifact], refusals=(404,))
    def list_artifacts(query: wire.ArtifactQuery) -> http.ListPage[wire.Artifact]:
        """List the artifacts that pass all filters, by address.

        A page may hold fewer than `limit` while the Link header names a next one.
        """
        found = service.page(deps, query.limit, query.cursor, query.search(), query.origin(), query.accepts)
        return http.ListPage([wire.Artifact.of(view) for view in found.rows], found.next_cursor)

    @api.route(
        "POST",
        "/artifacts",
        body=descriptor.Descriptor,
        returns=wire.Artifact,
        status=201,
        step=ownership.SCOPE,
        refusals=(404, 409),
    )
    def register_artifact(body: descriptor.Descriptor) -> wire.Artifact:
        """Register an artifact. The same facts again change nothing; other ones need another version.

        Facts that the first registration lacked are filled in. An external artifact is a reference: it is shown and linked, and starts nothing.
        A step registers artifacts of its own project, run and step only.
        """
        return wire.Artifact.of(service.register(deps, body, http.caller()))

    @api.route("GET", "/artifacts/<kind>/<project>/<name>", returns=wire.Artifact, step=ownership.SCOPE)
    def resolve_artifact(kind: str, project: str, name: str) -> wire.Artifact:
        """Show the artifact that a tag is on: `name` is `NAME@TAG`. To a step, one of its own project."""
        name, at, tag = (urllib.parse.unquote(part) for part in name.rpartition("@"))
        text = f"{kind}://{urllib.parse.unquote(project)}/{name}{at}{tag}"
        reference = artifact.reference(text)
        if isinstance(reference, artifact.Address):
            raise errors.InvalidError(f"{text!r} is an address; its path has four parts")
        return wire.Artifact.of(service.get(deps, reference, http.caller()))

    @api.route("GET", ONE, returns=wire.Artifact, step=ownership.SCOPE)
    def get_artifact(kind: str, project: str, name: str, version: str) -> wire.Artifact:
        """Show an artifact; to a step, one of its own project."""
        return wire.Artifact.of(service.get(deps, address_of(kind, project, name, version), http.caller()))

    @api.route("DELETE", ONE, status=204, refusals=(409,))
    def delete_artifact(kind: str, project: str, name: str, version: str) -> None:
        """Delete the descriptor of an artifact that is neither tagged nor served. Its contents, lineage and history stay."""
        service.delete(deps, address_of(kind, project, name, version), http.caller().name)

    @api.route("GET", f"{ONE}/history", returns=wire.History)
    def get_artifact_history(kind: str, project: str, name: str, version: str) -> wire.History:
        """Show the changes of an artifact's names, and what was made from it; also of a deleted one."""
        return wire.History.of(naming.history(deps, address_of(kind, project, name, version)))


def _register_contents(api: http.Api, deps: Deps) -> None:
    @api.route("POST", "/artifacts/places", body=wire.NewVersion, returns=wire.Access, refusals=(404, 422))
    def open_place(body: wire.NewVersion) -> wire.Access:
        """Give the store for a new version, with an account that the caller may use there.

        Its contents go straight to the store. It is an artifact when it is registered, with the address that the store gives it.
        """
        address = artifact.Address(body.kind, body.project, body.name, "new")
        return wire.Access.of(contents.place(deps, address, body.store, http.caller()))

    @api.route("POST", "/artifacts/locations", body=wire.Reference, returns=wire.Location, refusals=(404, 422))
    def open_location(body: wire.Reference) -> wire.Location:
        """Give the store that holds an artifact, with an account that the caller may use there. The contents come straight from the store."""
        return wire.Location.of_artifact(contents.location(deps, artifact.reference(body.address), http.caller()))

    @api.route("GET", f"{ONE}/page", returns=wire.Page, refusals=(422,))
    def get_artifact_page(kind: str, project: str, name: str, version: str) -> wire.Page:
        """Show the address at which the tool shows the artifact."""
        found, url = contents.page(deps, address_of(kind, project, name, version), http.caller())
        return wire.Page(address=found, url=url)


def _register_names(api: http.Api, deps: Deps) -> None:
    @api.route("GET", f"{ONE}/tags", returns=[wire.Tag])
    def list_tags(kind: str, project: str, name: str, version: str) -> list[wire.Tag]:
        """List the tags of an artifact."""
        return [wire.Tag.model_validate(tag) for tag in naming.tags(deps, address_of(kind, project, name, version))]

    @api.route("PUT", f"{ONE}/tags/<tag>", query=wire.TagQuery, returns=wire.Artifact, refusals=(409,))
    def tag_artifact(kind: str, project: str, name: str, version: str, tag: str, query: wire.TagQuery) -> wire.Artifact:
        """Put a tag on an artifact. It moves there from another version of the name, unless it is immutable."""
        return wire.Artifact.of(naming.tag(deps, address_of(kind, project, name, version), tag, query.immutable, http.caller().name))

    @api.route("DELETE", f"{ONE}/tags/<tag>", returns=wire.Artifact, refusals=(409,))
    def untag_artifact(kind: str, project: str, name: str, version: str, tag: str) -> wire.Artifact:
        """Remove a tag from an artifact, unless it is immutable."""
        return wire.Artifact.of(naming.untag(deps, address_of(kind, project, name, version), tag, http.caller().name))

    @api.route("PUT", f"{ONE}/labels/<label>", returns=wire.Artifact, refusals=(409,))
    def label_artifact(kind: str, project: str, name: str, version: str, label: str) -> wire.Artifact:
        """Put a label on an artifact."""
        return wire.Artifact.of(naming.label(deps, address_of(kind, project, name, version), label, http.caller().name))

    @api.route("DELETE", f"{ONE}/labels/<label>", returns=wire.Artifact)
    def unlabel_artifact(kind: str, project: str, name: str, version: str, label: str) -> wire.Artifact:
        """Remove a label from an artifact."""
        return wire.Artifact.of(naming.unlabel(deps, address_of(kind, project, name, version), label, http.caller().name))


def _register_lineage(api: http.Api, deps: Deps) -> None:
    @api.route("GET", "/lineage/<kind>/<project>/<name>/<version>", query=wire.LineageQuery, returns=wire.Lineage)
    def get_lineage(kind: str, project: str, name: str, version: str, query: wire.LineageQuery) -> wire.Lineage:
        """Show what an artifact was made from, and what was made from it, within some steps."""
        return wire.Lineage.of(service.lineage_of(deps, address_of(kind, project, name, version), query.direction, query.depth))

    @api.route("GET", "/lineage", query=wire.AddressQuery, returns=[wire.Edge], refusals=(404,))
    def show_lineage(query: wire.AddressQuery) -> list[wire.Edge]:
        """Show the sources of an artifact and its products within ten steps, as edges, nearest first."""
        return wire.Lineage.of(service.lineage_of(deps, artifact.Address.parse(query.address))).edges
