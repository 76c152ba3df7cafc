"""HTTP of `extensions`. Every level of a record (services, and under each endpoints and credentials) is served alike."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any

import flask
import pydantic

from functions.extensions import discovery, hooks, rotation, service
from functions.extensions.deps import Deps
from fuseml.domain.documents import document
from fuseml.domain.registry import extension, selector
from fuseml.domain.workflows import impact
from fuseml.runtime import http


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


class PlanQuery(http.Query):
    replace: Annotated[bool, pydantic.Field(description="the record is all that there shall be; what it does not name is removed")] = False


class UpdateQuery(PlanQuery):
    dry_run: Annotated[bool, pydantic.Field(description="only tell what it would do")] = False


class WebhookQuery(http.Query):
    rotate: Annotated[bool, pydantic.Field(description="replace a secret that there is; it stays good for a day")] = False
    register_: Annotated[bool, pydantic.Field(alias="register", description="set the webhook up on the tracking server as well")] = False


class PartDeletion(http.Query):
    force: Annotated[bool, pydantic.Field(description="also when assigned workflows need it")] = False


class Deletion(PartDeletion):
    dry_run: Annotated[bool, pydantic.Field(description="only tell what it would do (200)")] = False


class Updated(pydantic.RootModel[extension.Extension | impact.Impact]):
    """The record, or what would be done to it."""


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/extensions", query=ExtensionQuery, returns=[extension.Extension])
    def list_extensions(query: ExtensionQuery) -> http.ListPage[extension.Extension]:
        """List extensions, by id. The query may also come as a body, as the original CLI sends it."""
        if flask.request.get_data().strip():
            body: Any = http.read_body(ExtensionQuery)
            query = body
        return service.page(deps, query.selector(), query.limit, query.cursor)

    @api.route("POST", "/extensions", body=extension.Extension, returns=extension.Extension, status=201)
    def register_extension(body: extension.Extension) -> extension.Extension:
        """Register an extension with all its parts."""
        return service.create(deps, body)

    @api.route("POST", "/extensions/discover", body=discovery.Search, returns=discovery.Found)
    def discover_extensions(body: discovery.Search) -> discovery.Found:
        """Ask what answers at the URLs, and propose records for the tools that are recognised."""
        return discovery.discover(deps, body)

    @api.route("POST", "/extensions/secrets/rotate", returns=rotation.Rotated)
    def rotate_secrets() -> rotation.Rotated:
        """Seal all secrets anew with the newest key. A server that keeps its keys itself makes a fresh one."""
        return rotation.rotate(deps)

    @api.route("POST", "/extensions/<id>/webhook", query=WebhookQuery, returns=hooks.Webhook, status=201)
    def make_extension_webhook(id: str, query: WebhookQuery) -> hooks.Webhook:
        """Make the secret with which a tracking server signs its webhooks, or replace it. It is shown this once."""
        return hooks.renew(deps, id, rotate=query.rotate, register=query.register_)

    @api.route("GET", "/extensions/<id>", returns=extension.Extension)
    def get_extension(id: str) -> extension.Extension:
        """Show an extension."""
        return service.get(deps, id)

    @api.route("POST", "/extensions/plan", query=PlanQuery, body=extension.Extension, returns=impact.Impact)
    def plan_extension(query: PlanQuery, body: extension.Extension) -> impact.Impact:
        """Tell what registering a record, or updating the one of its id, would do. Nothing is stored."""
        return service.plan(deps, body, whole=query.replace)

    @api.route("PUT", "/extensions/<id>", query=UpdateQuery, body=extension.Extension, returns=Updated)
    def update_extension(id: str, query: UpdateQuery, body: extension.Extension) -> extension.Extension | impact.Impact:
        """Replace what is named and keep the rest; null or an empty list removes parts. `If-Match` guards against lost changes."""
        change = service.plan_update if query.dry_run else service.update
        return change(deps, id, body, _expected(), whole=query.replace)

    @api.route("DELETE", "/extensions/<id>", query=Deletion, status=204)
    def delete_extension(id: str, query: Deletion) -> flask.Response | None:
        """Delete an extension. What assigned workflows need is refused (409) unless forced."""
        if query.dry_run:
            return http.respond(service.plan_deletion(deps, id, _expected()), 200)
        service.delete(deps, id, _expected(), force=query.force)
        return None

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

    def delete_part(address: str, query: PartDeletion, **ids: str) -> None:
        service.remove_part(deps, *_place(collection, ids, address), _expected(), force=query.force)

    routes = (
        ("GET", path, list_parts, None, [model], 200, f"List the {collection}."),
        ("POST", path, add_part, model, model, 201, f"Add {noun}."),
        ("GET", one, get_part, None, model, 200, f"Show one {noun}."),
        ("PUT", one, update_part, _patch_model(collection), model, 200, f"Update {noun}: replaces what is named, keeps the rest."),
        ("DELETE", one, delete_part, None, None, 204, f"Delete {noun}. What assigned workflows need is refused (409) unless forced."),
    )
    for method, where, handler, body, returns, status, summary in routes:
        handler.__doc__, handler.__name__ = summary, f"{handler.__name__.removesuffix('_part').removesuffix('_parts')}_{collection}"
        query = PartDeletion if method == "DELETE" else None
        api.route(method, where, query=query, body=body, returns=returns, status=status)(handler)


def _patch_model(collection: str) -> type[pydantic.BaseModel]:
    return EndpointPatch if collection == "endpoints" else extension.MODELS[collection]


class EndpointPatch(extension.Endpoint):
    """An endpoint's change: its URL stands in the path and need not be repeated."""

    url: str = ""


def _place(collection: str, ids: dict[str, str], *address: str) -> tuple[str, tuple[str, ...]]:
    """(extension id, path of the part or of the list)."""
    above = ("services", ids["service_id"]) if "service_id" in ids else ()
    # The original CLI escapes endpoint URLs twice (infra/platform-facts.md 6.1); the server has undone the first.
    return ids["extension_id"], (*above, collection, *(urllib.parse.unquote(part) for part in address))


def _expected() -> int | None:
    """The revision that the caller wants to change (`If-Match`), or None for any."""
    return service.revision_of(flask.request.headers.get("If-Match"))
