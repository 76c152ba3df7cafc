"""HTTP routes of `sources`."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from functions.sources import service
from functions.sources.deps import Deps
from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.runtime import http, operations


class Refusal(pydantic.BaseModel):
    """The fault of a file; line and column are 0 where they are not known, `file` is empty for a fault of the whole source."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    file: str
    message: str
    line: int
    column: int


class Change(pydantic.BaseModel):
    """The change of an item. `by_hand`: it was changed or deleted by hand since the source has made it, and the change undoes that."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    kind: str
    name: str
    effect: Literal["created", "updated", "deleted", "adopted", "released"]
    file: str
    fields: list[str]
    by_hand: bool


class Item(pydantic.BaseModel):
    """An item of a source. `drifted`: it was changed or deleted by hand since."""

    kind: str
    name: str
    file: str
    adopted: bool
    drifted: bool


class Source(pydantic.BaseModel):
    """A source: a codeset, or the repository at `url`. `state` is that of the last look, with a `message` where nothing was applied.

    `commit` was applied last, `seen` was looked at last. `drifted` is the number of items that were changed by hand.
    """

    name: str
    project: str
    codeset: str
    url: str
    branch: str
    path: str
    state: Literal["waiting", "synced", "refused", "unreadable"]
    message: str
    commit: str
    seen: str
    checked: str
    synced: str
    by: str
    created: str
    items: int
    drifted: int


class SourceDetails(Source):
    """A source with its items, the faults of its files, and the changes of the last sync that made any."""

    contents: list[Item]
    refusals: list[Refusal]
    changes: list[Change]


class SourceDifference(pydantic.BaseModel):
    """What a sync at `commit` would change, or why it would be refused; nothing was stored."""

    commit: str
    changes: list[Change]
    refusals: list[Refusal]


class NewSource(document.Model):
    """A repository: `codeset` as PROJECT/NAME, or `url`. An account in the address becomes credentials of a record in the registry."""

    name: document.Text
    url: Annotated[document.Text, pydantic.Field(max_length=500)] = ""
    codeset: Annotated[document.Text, pydantic.Field(max_length=201, description="PROJECT/NAME")] = ""
    branch: Annotated[document.Text, pydantic.Field(max_length=200, description="the default branch without a name")] = ""
    path: Annotated[document.Text, pydantic.Field(max_length=500, description="the folder with registry/, workflows/ and the others")] = ""
    adopt: Annotated[bool, pydantic.Field(description="take over what exists already")] = False


class Sync(document.Model):
    adopt: Annotated[bool, pydantic.Field(description="take over what exists already")] = False


class DifferenceQuery(operations.Query):
    adopt: Annotated[bool, pydantic.Field(description="as a sync that takes over what exists already")] = False


class Removal(operations.Query):
    delete: Annotated[bool, pydantic.Field(description="also delete what the source has made")] = False


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/sources", returns=[Source])
    def list_sources() -> list[Source]:
        """List sources, by name. No repository is read."""
        return [Source(**_source(view)) for view in service.listed(deps)]

    @api.route("POST", "/sources", body=NewSource, returns=SourceDetails, status=201, refusals=(404, 409, 413, 422, 503))
    def add_source(body: NewSource) -> SourceDetails:
        """Add a source, once its repository can be read, and reconcile it. Files that are refused are a result. The same again reconciles it."""
        return _details(service.add(deps, _place(body), http.caller().name, adopt=body.adopt))

    @api.route("GET", "/sources/<name>", returns=SourceDetails)
    def get_source(name: str) -> SourceDetails:
        """Show a source with its items, and those of them that were changed by hand."""
        return _details(service.get(deps, name))

    @api.route("POST", "/sources/<name>/sync", body=Sync, returns=SourceDetails, refusals=(503,))
    def sync_source(name: str, body: Sync) -> SourceDetails:
        """Bring everything to the newest commit of the source, and undo changes by hand. All is applied, or nothing."""
        return _details(service.sync(deps, name, adopt=body.adopt))

    @api.route("GET", "/sources/<name>/diff", query=DifferenceQuery, returns=SourceDifference, refusals=(503,))
    def compare_source(name: str, query: DifferenceQuery) -> SourceDifference:
        """Show what a sync would change now, or why it would be refused. Nothing is stored."""
        found = service.difference(deps, name, adopt=query.adopt)
        return SourceDifference(
            commit=found.commit,
            changes=[Change.model_validate(change) for change in found.changes],
            refusals=[Refusal.model_validate(refusal) for refusal in found.refusals],
        )

    @api.route("DELETE", "/sources/<name>", query=Removal, status=204, refusals=(409,))
    def remove_source(name: str, query: Removal) -> None:
        """Remove a source. What it has made stays, or is deleted with `delete`, all or nothing."""
        service.remove(deps, name, delete=query.delete)


def _place(body: NewSource) -> service.Place:
    if bool(body.url) == bool(body.codeset):
        raise errors.InvalidError("name either a codeset, PROJECT/NAME, or the url of a repository")
    project, slash, codeset = body.codeset.partition("/")
    if body.codeset and not (project and codeset and slash):
        problem = errors.Problem("codeset", f"{body.codeset[:100]!r} is not PROJECT/NAME")
        raise errors.InvalidError(str(problem), [problem])
    return service.Place(name=body.name, address=body.url, project=project, codeset=codeset, branch=body.branch, path=body.path)


def _source(view: service.View) -> dict[str, object]:
    counts = {"items": len(view.items), "drifted": len(view.drifted)}
    return {
        **view.row.model_dump(exclude={"registered", "generation", "refusals", "changes"}),
        "url": view.url,
        "branch": view.branch,
        **counts,
    }


def _details(view: service.View) -> SourceDetails:
    drifted = {(item.kind, item.name) for item in view.drifted}
    return SourceDetails.model_validate(
        {
            **_source(view),
            "contents": [
                {**item.model_dump(exclude={"source", "fingerprint"}), "drifted": (item.kind, item.name) in drifted} for item in view.items
            ],
            "refusals": view.row.refusals,
            "changes": view.row.changes,
        }
    )
