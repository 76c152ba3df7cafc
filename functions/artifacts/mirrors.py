"""Mirrors: the stores that the steps of a project read the artifacts of a kind from."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pydantic

from functions.artifacts.deps import Deps
from fuseml.domain import errors
from fuseml.domain.registry import selector
from fuseml.runtime import clock, http, operations
from fuseml.store import codesets, mirrors

Kind = Literal["model", "dataset", "runnable"]
"""The kinds that steps read as artifacts."""

_ONE = "/artifacts/mirrors/<project>/<kind>"


class NewMirror(pydantic.BaseModel):
    """`store` selects the stores; at least one criterion is given."""

    model_config = pydantic.ConfigDict(extra="forbid")

    store: selector.Selector


class Mirror(pydantic.BaseModel):
    """The mirror of a kind of a project, which `by` has set."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    project: str
    kind: str
    store: dict[str, Any]
    by: str
    updated: str


class MirrorQuery(operations.Query):
    project: str | None = None
    kind: Kind | None = None


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/artifacts/mirrors", query=MirrorQuery, returns=[Mirror])
    def list_mirrors(query: MirrorQuery) -> list[Mirror]:
        """List the mirrors, by project and kind. Without a mirror, steps read artifacts where they are."""
        with deps.store.read() as session:
            return [Mirror.model_validate(row) for row in mirrors.mirrors(session, query.project or "", query.kind or "")]

    @api.route("GET", _ONE, returns=Mirror)
    def get_mirror(project: str, kind: str) -> Mirror:
        """Show the mirror of a kind of a project."""
        with deps.store.read() as session:
            return Mirror.model_validate(mirrors.get(session, project, _kind(kind)))

    @api.route("PUT", _ONE, body=NewMirror, returns=Mirror)
    def set_mirror(project: str, kind: str, body: NewMirror) -> Mirror:
        """Set the mirror of a kind of a project. From the next run on, steps read artifacts of other stores from a copy there."""
        store = body.store.model_dump(exclude_defaults=True, exclude={"name"})
        if not store.keys() - {"ambiguity", "healthy"}:
            raise errors.InvalidError("a mirror needs a criterion for its stores: product, extension_id, service_resource, ...")
        with deps.store.write() as session:
            codesets.project(session, project)
            return Mirror.model_validate(mirrors.put(session, project, _kind(kind), store, http.caller().name, clock.now()))

    @api.route("DELETE", _ONE, status=204)
    def remove_mirror(project: str, kind: str) -> None:
        """Remove the mirror of a kind of a project. Steps read its artifacts where they are; copies stay as long as the artifacts."""
        with deps.store.write() as session:
            mirrors.remove(session, project, _kind(kind))


def _kind(text: str) -> str:
    if text not in get_args(Kind):
        raise errors.InvalidError(f"steps read no {text[:50]!r} as an artifact; the kinds of a mirror are {', '.join(get_args(Kind))}")
    return text
