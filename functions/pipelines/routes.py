"""HTTP routes of `pipelines`."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import pydantic

from functions.pipelines import catalogs, service
from functions.pipelines.deps import Deps
from fuseml.domain.documents import document
from fuseml.domain.pipelines import templates
from fuseml.runtime import http, operations


class CompositionRequest(document.Model):
    """The runnables of a pipeline in the order of their steps, and what is not left to their matching."""

    name: Annotated[document.Text, pydantic.Field(description="the name of the workflow")]
    runnables: Annotated[list[document.Text], pydantic.Field(description="NAME, NAME@CONSTRAINT or STEP=NAME, in the order of the steps")]
    project: Annotated[document.Text, pydantic.Field(description="the owner of runnables that are not built in")] = ""
    connections: Annotated[list[document.Text], pydantic.Field(description="STEP.INPUT=STEP.OUTPUT")] = []
    inputs: Annotated[
        list[document.Text], pydantic.Field(description="STEP.INPUT, which becomes an input of the workflow, or STEP.INPUT=DEFAULT")
    ] = []
    description: document.Text = ""


class Coupling(pydantic.BaseModel):
    """What an input of a step gets, `STEP.OUTPUT` or `inputs.NAME`, and why."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    input: str
    source: str
    reason: str


class Composition(pydantic.BaseModel):
    """The document of a workflow, to be created, and its couplings."""

    workflow: dict[str, Any]
    couplings: list[Coupling]


class AdditionRequest(document.Model):
    """A template for a project. An input gets a pattern of artifacts, whose members start runs, the address of one artifact, or a value."""

    template: Annotated[document.Text, pydantic.Field(description="NAME of one that ships, or CATALOG/NAME")]
    name: Annotated[document.Text, pydantic.Field(description="the name of the workflow")]
    project: document.Text
    inputs: Annotated[dict[str, document.Text], pydantic.Field(description="code://* means every codeset of the project")] = {}


class Pipeline(pydantic.BaseModel):
    """The workflow that was made from `template`, CATALOG/NAME@COMMIT, and the patterns of artifacts that start it.

    `changed` is false if it was there before.
    """

    name: str
    template: str
    patterns: list[str]
    revision: int
    workflow: dict[str, Any]
    changed: bool


class TemplateInput(pydantic.BaseModel):
    """An input of a template. `pattern`: whether it takes a pattern of artifacts; `needed`: whether an addition must give it."""

    name: str
    type: str
    description: str
    default: str | None
    pattern: bool
    needed: bool


class Template(pydantic.BaseModel):
    """A template; with a `problem` it cannot be added."""

    name: str
    description: str
    inputs: list[TemplateInput]
    outputs: list[str]
    problem: str


class Catalog(pydantic.BaseModel):
    """A catalogue. The one that ships has no `url`."""

    name: str
    description: str
    url: str
    branch: str
    built_in: bool


class CatalogContents(Catalog):
    """A catalogue with its templates. `version` is their commit, or the version of FuseML."""

    version: str
    templates: list[Template]


class NewCatalog(document.Model):
    """A git repository. An account in the address becomes credentials of its record in the registry."""

    name: document.Text
    url: Annotated[document.Text, pydantic.Field(max_length=500)]
    branch: Annotated[document.Text, pydantic.Field(max_length=200, description="the default branch without a name")] = ""
    description: Annotated[document.Text, pydantic.Field(max_length=1000)] = ""


class CatalogQuery(operations.Query):
    project: Annotated[str, pydantic.Field(description="the project whose account is used, where accounts are restricted")] = ""


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("POST", "/pipelines/compose", body=CompositionRequest, returns=Composition, refusals=(404,))
    def compose_pipeline(body: CompositionRequest) -> Composition:
        """Compose a workflow of runnables by matching outputs to inputs. Nothing is stored."""
        found = service.compose(deps, body.name, body.project, body.runnables, body.connections, body.inputs, body.description)
        return Composition(workflow=dict(found.document), couplings=[Coupling.model_validate(item) for item in found.couplings])

    @api.route("POST", "/pipelines", body=AdditionRequest, returns=Pipeline, status=201, refusals=(404, 409, 413, 422, 503))
    def add_pipeline(body: AdditionRequest) -> Pipeline:
        """Add a template to a project: a workflow, assigned to the patterns among the inputs. The same again changes nothing."""
        added = service.add(deps, body.template, body.name, body.project, body.inputs)
        return Pipeline(
            name=added.row.workflow,
            template=added.template,
            patterns=list(added.patterns),
            revision=added.row.revision,
            workflow=service.document_of(added.row),
            changed=added.changed,
        )

    @api.route("GET", "/catalogs", returns=[Catalog])
    def list_catalogs() -> list[Catalog]:
        """List the catalogues of templates: the one that ships first."""
        return [Catalog(**_catalog(catalog)) for catalog in catalogs.listed(deps)]

    @api.route("POST", "/catalogs", body=NewCatalog, returns=CatalogContents, status=201, refusals=(404, 409, 413, 422, 503))
    def add_catalog(body: NewCatalog) -> CatalogContents:
        """Register a git repository as a catalogue, once its templates can be read. The same again changes nothing."""
        return _contents(catalogs.add(deps, body.name, body.url, body.branch, body.description))

    @api.route("GET", "/catalogs/<name>", query=CatalogQuery, returns=CatalogContents, refusals=(413, 422, 503))
    def get_catalog(name: str, query: CatalogQuery) -> CatalogContents:
        """Show the templates of a catalogue, at the newest commit of its repository."""
        return _contents(catalogs.read(deps, name, query.project))


def _catalog(catalog: catalogs.Catalog) -> dict[str, Any]:
    return {**dataclasses.asdict(catalog), "built_in": catalog.is_built_in}


def _contents(contents: catalogs.Contents) -> CatalogContents:
    return CatalogContents(
        **_catalog(contents.catalog),
        version=contents.version,
        templates=[_template(item) for item in service.describe(contents)],
    )


def _template(item: service.Described) -> Template:
    workflow = item.workflow
    return Template(
        name=item.name,
        description=workflow.description.strip() if workflow else "",
        inputs=[
            TemplateInput(
                name=declared.name,
                type=declared.type,
                description=declared.description,
                default=declared.default,
                pattern=templates.takes_patterns(declared.type),
                needed=declared.is_codeset or not declared.is_optional,
            )
            for declared in (workflow.inputs if workflow else ())
        ],
        outputs=[output.name for output in (workflow.outputs if workflow else ())],
        problem=item.problem,
    )
