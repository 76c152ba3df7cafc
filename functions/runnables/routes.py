"""HTTP of `runnables`: the fields of the original's API beside those of the descriptor."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import pydantic

from functions.runnables import filters, service
from functions.runnables.deps import Deps
from fuseml.domain.runnables import descriptor, original
from fuseml.domain.workflows import models
from fuseml.runtime import clients, http, operations

_LABEL = re.compile(r"labels\[([^\[\]]{1,100})\]")


class Runnable(pydantic.BaseModel):
    """A version of a runnable. `built_in` ones belong to every project. `step` of `run` registered it. `fits` names the inputs that accept the
    artifact of the query.

    `id`, `container`, `input`, `output`, `defaultInputPath` and `defaultOutputPath` are the fields of the original's API.
    """

    id: str
    address: str
    project: str
    name: str
    version: str
    kind: descriptor.Kind
    description: str
    author: str
    source: str
    labels: dict[str, str]
    image: str
    build: descriptor.Build | None
    command: list[str]
    args: list[str]
    script: str
    env: list[models.EnvironmentVariable]
    inputs: list[descriptor.Input]
    outputs: list[descriptor.Output]
    extensions: list[models.ExtensionRequirement]
    resources: models.Resources
    capabilities: list[str]
    digest: str
    built_in: bool
    run: str | None
    step: str | None
    by: str
    created: str
    fits: list[str]
    container: dict[str, Any]
    input: dict[str, Any]
    output: dict[str, Any]
    defaultInputPath: str  # noqa: N815 (the original's name)
    defaultOutputPath: str  # noqa: N815

    @staticmethod
    def of(view: service.View) -> Runnable:
        """The document of a runnable. Clients of the original's API know four kinds, and require a time."""
        runnable, row = view.runnable, view.row
        shown = row.original if row and row.original else original.render(runnable)
        described = {name: getattr(runnable, name) for name in _DESCRIBED}
        created = row.created if row else ""
        if clients.is_original():
            described["kind"], created = original.kind_of(runnable), created or clients.ZERO_TIME
        return Runnable(
            **described,
            id=runnable.name,
            address=view.address,
            project=view.project,
            digest=runnable.digest,
            built_in=row is None,
            run=row.run if row else None,
            step=row.step if row else None,
            by=row.by if row else "",
            created=created,
            fits=list(view.fits),
            **{name: shown.get(name, {}) for name in ("container", "input", "output")},
            **{name: shown.get(name, "") for name in ("defaultInputPath", "defaultOutputPath")},
        )


_DESCRIBED = descriptor.Runnable.model_fields.keys()


class NewRunnable(pydantic.RootModel[descriptor.Runnable | original.Original]):
    """A descriptor, or the original API's document."""


class Reason(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)

    criterion: str
    verdict: Literal["fits", "unknown", "refused"]
    sentence: str


class Match(pydantic.BaseModel):
    """Whether `offer`, an artifact or an output, fits `input`, and why."""

    input: str
    offer: str
    verdict: Literal["fits", "unknown", "refused"]
    reasons: list[Reason]


class ProjectQuery(operations.Query):
    project: Annotated[str | None, pydantic.Field(description="the owner; `workspace` by default, as in the original")] = None


class RunnableQuery(operations.PageQuery):
    """Filters. The original's `labels[KEY]=VALUE` are in `labels`."""

    id: Annotated[str | None, pydantic.Field(description="in the name: text, with the operators | . .* ^ $")] = None
    kind: Annotated[str | None, pydantic.Field(description="in the kind: text, with the operators | . .* ^ $")] = None
    labels: Annotated[dict[str, str], pydantic.Field(description="`labels[KEY]=VALUE`: in the value of a label")] = {}
    project: str | None = None
    name: str | None = None
    consumes: Annotated[str | None, pydantic.Field(description="the address of an artifact that an input must accept")] = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _gathered(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "labels" in data:
            return data
        labels = {match[1]: value for key, value in data.items() if (match := _LABEL.fullmatch(key))}
        return {**{key: value for key, value in data.items() if not _LABEL.fullmatch(key)}, **({"labels": labels} if labels else {})}

    def wanted(self) -> service.Wanted:
        """The filters. Raises InvalidError."""
        return service.Wanted(
            project=self.project,
            name=self.name,
            id=filters.matcher("id", self.id) if self.id else None,
            kind=filters.matcher("kind", self.kind) if self.kind else None,
            labels={label: filters.matcher(f"labels[{label}]", text) for label, text in self.labels.items()},
            consumes=self.consumes,
        )


class OneQuery(operations.Query):
    project: Annotated[str | None, pydantic.Field(description="needed if several projects have the name")] = None
    version: Annotated[str | None, pydantic.Field(description="a version or a constraint, `^1.2`; the highest release by default")] = None


class MatchQuery(OneQuery):
    offer: Annotated[str, pydantic.Field(description="the address of an artifact, or a runnable, `NAME@CONSTRAINT`, for its outputs")]


class ExactQuery(operations.Query):
    project: str
    version: str


class VersionsQuery(operations.Query):
    project: str


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", "/runnables", query=RunnableQuery, returns=[Runnable], refusals=(404,))
    def list_runnables(query: RunnableQuery) -> http.ListPage[Runnable]:
        """List the versions of runnables that pass all filters, by address, and then the built-in ones.

        A page may hold fewer than `limit` while the Link header names a next one.
        """
        page = service.page(deps, query.limit, query.cursor, query.wanted())
        return http.ListPage([Runnable.of(view) for view in page.rows], page.next_cursor)

    @api.route("POST", "/runnables", query=ProjectQuery, document=NewRunnable, returns=Runnable, status=201, refusals=(404, 409))
    def register_runnable(query: ProjectQuery) -> Runnable:
        """Register a version of a runnable. The same content again changes nothing; other content needs another version."""
        parsed = http.read_document()
        if original.is_original(parsed.data):
            given, runnable = original.read(parsed)
            stored = given.model_dump(mode="json", exclude={"created"})
        else:
            runnable, stored = descriptor.check(parsed), None
        return Runnable.of(service.register(deps, query.project, runnable, stored, http.caller().name))

    @api.route("GET", "/runnables/<id>", query=OneQuery, returns=Runnable)
    def get_runnable(id: str, query: OneQuery) -> Runnable:
        """Show a runnable: the highest version that the constraint admits."""
        return Runnable.of(service.get(deps, id, query.project, query.version))

    @api.route("GET", "/runnables/<id>/versions", query=VersionsQuery, returns=[Runnable])
    def list_versions(id: str, query: VersionsQuery) -> list[Runnable]:
        """List the versions of a runnable, newest first."""
        return [Runnable.of(view) for view in service.versions(deps, id, query.project)]

    @api.route("GET", "/runnables/<id>/matches", query=MatchQuery, returns=[Match])
    def explain_matches(id: str, query: MatchQuery) -> list[Match]:
        """Explain for each input of a runnable whether an artifact, or the outputs of another runnable, fit."""
        _, matches = service.explain(deps, id, query.project, query.version, query.offer)
        return [
            Match(
                input=item.input,
                offer=item.offer,
                verdict=item.match.verdict,
                reasons=[Reason.model_validate(reason) for reason in item.match.reasons],
            )
            for item in matches
        ]

    @api.route("DELETE", "/runnables/<id>", query=ExactQuery, status=204, refusals=(409,))
    def delete_runnable(id: str, query: ExactQuery) -> None:
        """Delete a version of a runnable that no workflow uses and no tag is on."""
        service.delete(deps, id, query.project, query.version, http.caller().name)
