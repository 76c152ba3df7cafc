"""Documents of the API of pipelines and catalogues, as dictionaries with known keys; a test holds them equal to the server's OpenAPI document."""

from __future__ import annotations

from typing import Required, TypedDict


class CompositionRequest(TypedDict, total=False):
    """The runnables of a pipeline in the order of their steps (`NAME`, `NAME@CONSTRAINT`, `STEP=NAME`), and what is not left to their matching:
    `connections` are `STEP.INPUT=STEP.OUTPUT`, `inputs` are `STEP.INPUT` or `STEP.INPUT=DEFAULT`.
    """

    name: Required[str]
    runnables: Required[list[str]]
    project: str
    connections: list[str]
    inputs: list[str]
    description: str


class Coupling(TypedDict):
    """What an input of a step gets: an output, `STEP.OUTPUT`, or an input of the workflow, `inputs.NAME`."""

    input: str
    source: str
    reason: str


class Composition(TypedDict):
    """The document of a workflow, which is not stored, and its couplings."""

    workflow: dict[str, object]
    couplings: list[Coupling]


class Pipeline(TypedDict):
    """The workflow that was made from `template`, CATALOG/NAME@COMMIT, and the patterns of artifacts that start it."""

    name: str
    template: str
    patterns: list[str]
    revision: int
    workflow: dict[str, object]
    changed: bool


class TemplateInput(TypedDict):
    """An input of a template: whether it takes a pattern of artifacts, and whether it has to be given."""

    name: str
    type: str
    description: str
    default: str | None
    pattern: bool
    needed: bool


class Template(TypedDict):
    """A template; with a `problem` it cannot be added."""

    name: str
    description: str
    inputs: list[TemplateInput]
    outputs: list[str]
    problem: str


class Catalog(TypedDict):
    """A catalogue of templates. The one that ships has no `url`."""

    name: str
    description: str
    url: str
    branch: str
    built_in: bool


class CatalogContents(Catalog):
    """A catalogue with its templates at a version, the commit of its repository."""

    version: str
    templates: list[Template]
