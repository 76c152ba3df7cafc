"""HTTP of `extensions`. Every level of a record (services, and under each endpoints and credentials) is served alike."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any

import flask
import pydantic

from functions.extensions import service
from fuseml.domain import document, extension, selector
from fuseml.runtime import http

if TYPE_CHECKING:
    from functions.extensions.app import Deps


class ExtensionQuery(http.PageQuery):
    """What to look for; the original's query."""

    extension_id: str = ""
    product: str = ""
    version: str = ""
    zone: str = ""
    service_id: str = ""
    service_resource: str = ""
    service_category: str = ""

    def selector(self) -> selector.Selector:
        """The same as a selector. Raises InvalidError for a malformed version constraint."""
        return document.validate(selector.Selector, self.model_dump(exclude={"limit", "cursor"}), kind="query")


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/extensions", query=ExtensionQuery, returns=[extension.Extension])
    def list_extensions(query: ExtensionQuery) -> http.Listed[extension.Extension]:
        """List extensions, by id. The query may also come as a body, as the original CLI sends it."""
        if flask.request.get_data().strip():
            body: Any = http.read_body(ExtensionQuery)
            query = body
        return service.page(deps, query.selector(), query.limit, query.cursor)

    @api.route("POST", "/extensions", body=extension.Extension, returns=extension.Extension, status=201)
    def register_extension(body: extension.Extension) -> extension.Extension:
        """Register an extension with all its parts."""
        return service.create(deps, body)

    @api.route("GET", "/extensions/<id>", returns=extension.Extension)
    def get_extension(id: str) -> extension.Extension:
        """Show an extension."""
        return service.get(deps, id)

    @api.route("PUT", "/extensions/<id>", body=extension.Extension, returns=extension.Extension)
    def update_extension(id: str, body: extension.Extension) -> extension.Extension:
        """Replace what is named and keep the rest; null or an empty list removes parts. `If-Match` guards against lost changes."""
        return service.update(deps, id, body, _expected())

    @api.route("DELETE", "/extensions/<id>", status=204)
    def delete_extension(id: str) -> None:
        """Delete an extension."""
        service.delete(deps, id, _expected())

    _parts(api, deps, "services", "/extensions/<extension_id>/services")
    for collection in ("endpoints", "credentials"):
        _parts(api, deps, collection, f"/extensions/<extension_id>/services/<service_id>/{collection}")


def _parts(api: http.Api, deps: Deps, collection: str, path: str) -> None:
    model: type[pydantic.BaseModel] = extension.MODELS[collection]
    one = f"{path}/<path:address>" if collection == "endpoints" else f"{path}/<address>"
    noun = {"services": "service", "endpoints": "endpoint", "credentials": "credentials"}[collection]

    def list_parts(**ids: str) -> list[extension.Part]:
        return service.parts(deps, *_place(collection, ids))

    def add_part(body: extension.Part, **ids: str) -> extension.Part:
        return service.add_part(deps, *_place(collection, ids), body)

    def get_part(address: str, **ids: str) -> extension.Part:
        return service.part(deps, *_place(collection, ids, address))

    def update_part(address: str, body: extension.Part, **ids: str) -> extension.Part:
        return service.change_part(deps, *_place(collection, ids, address), body, _expected())

    def delete_part(address: str, **ids: str) -> None:
        service.remove_part(deps, *_place(collection, ids, address), _expected())

    routes = (
        ("GET", path, list_parts, None, [model], 200, f"List the {collection}."),
        ("POST", path, add_part, model, model, 201, f"Add {noun}."),
        ("GET", one, get_part, None, model, 200, f"Show one {noun}."),
        ("PUT", one, update_part, _patch_model(collection), model, 200, f"Update {noun}: replaces what is named, keeps the rest."),
        ("DELETE", one, delete_part, None, None, 204, f"Delete {noun}."),
    )
    for method, where, handler, body, returns, status, summary in routes:
        handler.__doc__, handler.__name__ = summary, f"{handler.__name__.removesuffix('_part').removesuffix('_parts')}_{collection}"
        api.route(method, where, body=body, returns=returns, status=status)(handler)


def _patch_model(collection: str) -> type[pydantic.BaseModel]:
    return EndpointPatch if collection == "endpoints" else extension.MODELS[collection]


class EndpointPatch(extension.Endpoint):
    """An endpoint's change: its URL stands in the path and need not be repeated."""

    url: str = ""


def _place(collection: str, ids: dict[str, str], *address: str) -> tuple[str, tuple[str, ...]]:
    """(extension id, path of the part or of the list)."""
    above = ("services", ids["service_id"]) if "service_id" in ids else ()
    # The original CLI escapes endpoint URLs twice; the server has undone the first.
    return ids["extension_id"], (*above, collection, *(urllib.parse.unquote(part) for part in address))


def _expected() -> int | None:
    """The revision that the caller wants to change (`If-Match`), or None for any."""
    return service.revision_of(flask.request.headers.get("If-Match"))
