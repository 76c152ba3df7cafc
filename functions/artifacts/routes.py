"""HTTP of `artifacts`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from functions.artifacts import service
from functions.artifacts.deps import Deps
from fuseml.runtime import http, operations


class Artifact(pydantic.BaseModel):
    """`address` is `kind://project/name/version`; `metadata` describes the contents (uri, metrics, message)."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    address: str
    kind: str
    project: str
    name: str
    version: str
    run: str | None
    metadata: dict[str, Any] = pydantic.Field(validation_alias="details")
    created: str


class Edge(pydantic.BaseModel):
    """`run` produced `target` from `source`."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    source: str
    target: str
    run: str


class ArtifactQuery(operations.PageQuery):
    kind: Literal["code", "model", "dataset", "runnable", "image"] | None = None
    project: str | None = None
    name: str | None = None
    run: str | None = None


class LineageQuery(operations.Query):
    address: Annotated[str, pydantic.Field(description="an artifact's address")]


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/artifacts", query=ArtifactQuery, returns=[Artifact])
    def list_artifacts(query: ArtifactQuery) -> http.ListPage[Artifact]:
        """List artifacts, by address."""
        artifacts = service.page(deps, query.limit, query.cursor, kind=query.kind, project=query.project, name=query.name, run=query.run)
        return http.ListPage([Artifact.model_validate(row) for row in artifacts.rows], artifacts.next_cursor)

    @api.route("GET", "/lineage", query=LineageQuery, returns=[Edge])
    def show_lineage(query: LineageQuery) -> list[Edge]:
        """Show the sources of an artifact and its products, as edges, nearest first."""
        return [Edge.model_validate(row) for row in service.lineage(deps, query.address)]
