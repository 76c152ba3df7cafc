"""Documents and queries of the API of `artifacts`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from functions.artifacts import contents, naming, service
from fuseml.domain import artifact, times
from fuseml.domain.artifacts import conditions, names, search
from fuseml.domain.registry import selector
from fuseml.runtime import operations
from fuseml.store import artifact_search


class Wire(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(from_attributes=True)


class Framework(Wire):
    name: str
    version: str


class Tag(Wire):
    """A tag that `by` has set. It moves to another version unless it is immutable."""

    tag: str
    immutable: bool
    by: str
    updated: str


class Copy(Wire):
    """The place of a copy of the contents in another store, `extension/service`."""

    store: str
    location: str


class Artifact(Wire):
    """The descriptor of an artifact, and its names. `address` is `kind://project/name/version`; `digest` is `algorithm:value`, `size` is in
    bytes, `location` is the URI of the contents. `step` of `run` produced it. `metadata` describes the contents further.
    `copies` are those that runs have made for steps that read from other stores.
    """

    address: str
    kind: str
    project: str
    name: str
    version: str
    type: str | None
    format: str | None
    framework: Framework | None
    digest: str | None
    size: int | None
    location: str | None
    external: bool
    run: str | None
    step: str | None
    metrics: dict[str, float]
    tags: list[Tag]
    labels: list[str]
    metadata: dict[str, Any]
    copies: list[Copy]
    created: str

    @staticmethod
    def of(view: service.View) -> Artifact:
        """The document of an artifact."""
        row = view.row
        framework = Framework(name=row.framework, version=row.framework_version or "") if row.framework else None
        return Artifact(
            **{name: getattr(row, name) for name in _COLUMNS},
            framework=framework,
            metrics=dict(view.metrics),
            tags=[Tag.model_validate(tag) for tag in view.tags],
            labels=list(view.labels),
            metadata=row.details,
            copies=[Copy.model_validate(copy) for copy in view.copies],
        )


_COLUMNS = Artifact.model_fields.keys() - {"framework", "metrics", "tags", "labels", "metadata", "copies"}


class NewVersion(Wire):
    """The name that a new version is written to; `store` selects another store than the project's for the kind."""

    kind: Literal["model", "dataset", "runnable"]
    project: str
    name: str
    store: selector.Selector | None = None


class Reference(Wire):
    """`address` is one with a version, or a reference by tag."""

    address: str


class Access(Wire):
    """An artifact store and an account for it: `environment` holds the variables of its record, with secrets. `store` is `extension/service`."""

    store: str
    resource: str
    url: str
    environment: dict[str, str]

    @staticmethod
    def of(access: contents.Access) -> Access:
        """The document of an access."""
        connection = access.connection
        return Access(store=access.store, resource=connection.resource, url=connection.url, environment=dict(connection.environment))


class Location(Access):
    """The artifact store that holds the contents of the artifact at `address`."""

    address: str
    digest: str | None
    size: int | None
    location: str | None

    @staticmethod
    def of_artifact(access: contents.Access) -> Location:
        """The document of the access to an artifact."""
        assert access.row is not None
        facts = {name: getattr(access.row, name) for name in ("address", "digest", "size", "location")}
        return Location(**Access.of(access).model_dump(), **facts)


class Page(Wire):
    """The URL at which the tool shows the artifact."""

    address: str
    url: str


class Edge(Wire):
    """`step` of `run` produced `target` from `source`. The run is empty, the step null, where they are unknown."""

    source: str
    target: str
    run: str
    step: str | None


class Node(Wire):
    """An address in a lineage; `recorded` is false for an artifact that is deleted or was never recorded."""

    address: str
    recorded: bool


class Lineage(Wire):
    """The artifacts and edges near an artifact, nearest first. `truncated`: there are more within this depth than one answer holds."""

    address: str
    nodes: list[Node]
    edges: list[Edge]
    truncated: bool

    @staticmethod
    def of(found: service.Lineage) -> Lineage:
        """The document of a lineage."""
        near = found.neighbourhood
        return Lineage(
            address=found.address,
            nodes=[Node(address=address, recorded=recorded) for address, recorded in found.nodes.items()],
            edges=[Edge.model_validate(edge) for edge in near.edges],
            truncated=near.truncated,
        )


class Change(Wire):
    """`by` has changed a name: `change` is tagged, untagged, labelled, unlabelled or deleted, `name` the tag or label. `address` is the
    artifact that has the tag now, `previous` the one that had it before.
    """

    number: int = pydantic.Field(validation_alias="sequence")
    change: str
    name: str
    address: str
    previous: str | None
    immutable: bool | None
    by: str
    made: str


class History(Wire):
    """The changes of an artifact's names, newest first, and the edges to what was made from it. `deleted`: its descriptor is gone."""

    address: str
    deleted: bool
    changes: list[Change]
    products: list[Edge]

    @staticmethod
    def of(found: naming.History) -> History:
        """The document of a history."""
        return History(
            address=found.address,
            deleted=found.deleted,
            changes=[Change.model_validate(change) for change in found.changes],
            products=[Edge.model_validate(edge) for edge in found.products],
        )


Tagged = Annotated[bool | None, pydantic.Field(description="true: the tag does not move any more; false: it does; by default as before")]


class TagQuery(operations.Query):
    immutable: Tagged = None


class LineageQuery(operations.Query):
    direction: Literal["up", "down", "both"] = pydantic.Field("both", description="up: its sources; down: its products")
    depth: int = pydantic.Field(10, ge=1, le=service.MOST_DEPTH, description="steps from the artifact")


class AddressQuery(operations.Query):
    address: Annotated[str, pydantic.Field(description="an artifact's address")]


class ArtifactQuery(operations.PageQuery):
    kind: artifact.Kind | None = None
    project: str | None = None
    name: str | None = None
    type: Annotated[str | None, pydantic.Field(description="media type of the contents")] = None
    format: str | None = None
    framework: Annotated[
        str | None, pydantic.Field(description="`scikit-learn`, or with a constraint on its version: `scikit-learn>=1.4`")
    ] = None
    tag: str | None = None
    label: Annotated[list[str], pydantic.Field(max_length=10, description="may be repeated: all of them")] = []
    run: str | None = None
    step: str | None = None
    producer: Annotated[str | None, pydantic.Field(description="a run, or a workflow for all its runs")] = None
    since: Annotated[pydantic.AwareDatetime | None, pydantic.Field(description="RFC 3339: only those recorded then or later")] = None
    before: Annotated[pydantic.AwareDatetime | None, pydantic.Field(description="RFC 3339: only those recorded earlier")] = None
    where: Annotated[list[str], pydantic.Field(max_length=10, description="`metrics.rmse<0.8`; may be repeated: all of them")] = []
    accepts: Annotated[
        str | None, pydantic.Field(description="`RUNNABLE:INPUT`: only those that the input of a runnable, `NAME@CONSTRAINT`, accepts")
    ] = None
    pattern: Annotated[str | None, pydantic.Field(description="`model://demo/*?format=mlflow&metrics.rmse<0.8`")] = None

    def search(self) -> search.Search:
        """The search, with that of the pattern. Raises InvalidError."""
        own = search.Search(
            self.kind,
            self.project,
            self.name,
            self.type,
            self.format,
            search.framework(self.framework) if self.framework else None,
            names.check_tag(self.tag) if self.tag else None,
            tuple(names.check_label(label) for label in dict.fromkeys(self.label)),
            tuple(conditions.parse(condition) for condition in self.where),
        )
        return own.narrowed(search.parse(self.pattern)) if self.pattern else own

    def origin(self) -> artifact_search.Origin:
        """The filters on where an artifact comes from."""
        since, before = (times.render(time) if time else None for time in (self.since, self.before))
        return artifact_search.Origin(self.run, self.step, self.producer, since, before)
