"""HTTP routes of `extensions`. All levels of a record (services, their endpoints and credentials) have the same routes."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any

import flask
import pydantic

from functions.extensions import discovery, hooks, rotation, service
from functions.extensions.deps import Deps
from fuseml.domain.documents import document
from fuseml.domain.registry import extension
from fuseml.domain.registry.selector import Selector
from fuseml.domain.workflows import impact
from fuseml.runtime import http, operations


class ExtensionQuery(operations.PageQuery):
    """The filters of the original's query."""

    extension_id: str = ""
    product: str = ""
    version: str = ""
    zone: str = ""
    service_id: str = ""
    service_resource: str = ""
    service_category: str = ""

    def selector(self) -> Selector:
        """The query as a selector. Raises InvalidError for a malformed version constraint."""
        return document.validate(Selector, self.model_dump(exclude={"limit", "cursor"}), kind="query")


class PartUpdate(operations.Query):
    replace_lists: Annotated[
        bool, pydantic.Field(description="a list of parts removes the parts that it lacks; otherwise listed parts are updated or added")
    ] = False


class PlanQuery(PartUpdate):
    replace: Annotated[bool, pydantic.Field(description="the record replaces the stored one; parts that it does not name are removed")] = (
        False
    )

    def scope(self) -> service.Scope:
        """What the document replaces."""
        return "record" if self.replace else "lists" if self.replace_lists else "fields"


class UpdateQuery(PlanQuery):
    dry_run: Annotated[bool, pydantic.Field(description="report the impact without a change")] = False


class WebhookQuery(operations.Query):
    rotate: Annotated[bool, pydantic.Field(description="replace the present secret, which stays valid for a day")] = False
    register_: Annotated[bool, pydantic.Field(alias="register", description="also set the webhook up on the tracking server")] = False


class PartDeletion(operations.Query):
    force: Annotated[bool, pydantic.Field(description="even if it breaks assigned workflows")] = False


class Deletion(PartDeletion):
    dry_run: Annotated[bool, pydantic.Field(description="report the impact without a change (200)")] = False


class UpdateResult(pydantic.RootModel[extension.Extension | impact.Impact]):
    """The record or, in a dry run, the impact."""


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/extensions", query=ExtensionQuery, returns=[extension.Extension])
    def list_extensions(query: ExtensionQuery) -> http.ListPage[extension.Extension]:
        """List extensions, by id. The query can also be a body, as the original CLI sends it."""
        if flask.request.get_data().strip():
            body: Any = http.read_body(ExtensionQuery)
            query = body
        return service.page(deps, query.selector(), query.limit, query.cursor)

    @api.route("POST", "/extensions", body=extension.Extension, returns=extension.Extension, status=201, refusals=(409,))
    def register_extension(body: extension.Extension) -> extension.Extension:
        """Register an extension with all its parts."""
        return service.create(deps, body)

    @api.route("POST", "/extensions/discover", body=discovery.Search, returns=discovery.Proposals)
    def discover_extensions(body: discovery.Search) -> discovery.Proposals:
        """Probe the URLs, and propose records for the recognised tools."""
        return discovery.discover(deps, body)

    @api.route("POST", "/extensions/secrets/rotate", returns=rotation.RotationResult)
    def rotate_secrets() -> rotation.RotationResult:
        """Seal all secrets again with the newest key. A server that owns its keys creates a fresh one."""
        return rotation.rotate(deps)

    @api.route("POST", "/extensions/<id>/webhook", query=WebhookQuery, returns=hooks.Webhook, status=201, refusals=(409,))
    def make_extension_webhook(id: str, query: WebhookQuery) -> hooks.Webhook:
        """Create or replace the webhook secret of a tracking server. The secret is shown only once."""
        return hooks.renew(deps, id, rotate=query.rotate, register=query.register_)

    @api.route("GET", "/extensions/<id>", returns=extension.Extension)
    def get_extension(id: str) -> extension.Extension:
        """Show an extension."""
        return service.get(deps, id)

    @api.route("POST", "/extensions/plan", query=PlanQuery, body=extension.Extension, returns=impact.Impact, refusals=(409,))
    def plan_extension(query: PlanQuery, body: extension.Extension) -> impact.Impact:
        """Report the impact of registering a record, or of updating the one of its id. Nothing is stored."""
        return service.plan(deps, body, query.scope())

    @api.route("PUT", "/extensions/<id>", query=UpdateQuery, body=extension.Extension, returns=UpdateResult, refusals=(409, 412))
    def update_extension(id: str, query: UpdateQuery, body: extension.Extension) -> extension.Extension | impact.Impact:
        """Replace the named fields and keep the others; null or an empty list removes parts. `If-Match` prevents lost updates."""
        change = service.plan_update if query.dry_run else service.update
        return change(deps, id, body, _expected(), query.scope())

    @api.route("DELETE", "/extensions/<id>", query=Deletion, dry_run=impact.Impact, status=204, refusals=(409, 412))
    def delete_extension(id: str, query: Deletion) -> flask.Response | None:
        """Delete an extension. A deletion that breaks assigned workflows is refused (409) unless forced."""
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

    def update_part(address: str, query: PartUpdate, body: extension.Part, **ids: str) -> extension.Part:
        return service.change_part(deps, *_place(collection, ids, address), body, _expected(), replace_lists=query.replace_lists)

    def delete_part(address: str, query: PartDeletion, **ids: str) -> None:
        service.remove_part(deps, *_place(collection, ids, address), _expected(), force=query.force)

    routes = (
        ("GET", path, list_parts, None, [model], 200, f"List the {collection}."),
        ("POST", path, add_part, model, model, 201, f"Add {noun}."),
        ("GET", one, get_part, None, model, 200, f"Show one {noun}."),
        (
            "PUT",
            one,
            update_part,
            _patch_model(collection),
            model,
            200,
            f"Update {noun}: replaces the named fields, keeps the others.",
        ),
        (
            "DELETE",
            one,
            delete_part,
            None,
            None,
            204,
            f"Delete {noun}. A deletion that breaks assigned workflows is refused (409) unless forced.",
        ),
    )
    for method, where, handler, body, returns, status, summary in routes:
        handler.__doc__, handler.__name__ = summary, f"{handler.__name__.removesuffix('_part').removesuffix('_parts')}_{collection}"
        query: type[operations.Query] | None = PartDeletion if method == "DELETE" else PartUpdate if method == "PUT" else None
        refusals = {"POST": (409,), "PUT": (409, 412), "DELETE": (409, 412)}.get(method, ())
        api.route(method, where, query=query, body=body, returns=returns, status=status, refusals=refusals)(handler)


def _patch_model(collection: str) -> type[pydantic.BaseModel]:
    return EndpointPatch if collection == "endpoints" else extension.MODELS[collection]


class EndpointPatch(extension.Endpoint):
    """A patch of an endpoint: the URL is in the path and can be omitted here."""

    url: str = ""


def _place(collection: str, ids: dict[str, str], *address: str) -> tuple[str, tuple[str, ...]]:
    """The extension id, and the path of the part or of the list."""
    above = ("services", ids["service_id"]) if "service_id" in ids else ()
    # The original CLI escapes endpoint URLs twice (infra/platform-facts.md 6.1); the server has undone one of them.
    return ids["extension_id"], (*above, collection, *(urllib.parse.unquote(part) for part in address))


def _expected() -> int | None:
    """The expected revision (`If-Match`), or None for any."""
    return service.revision_of(flask.request.headers.get("If-Match"))
