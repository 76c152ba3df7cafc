"""Pipelines of runnables, and the catalogues of their templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from fuseml.client import pipeline_shapes, transport


class Pipelines:
    """`/pipelines`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def compose(self, request: pipeline_shapes.CompositionRequest) -> pipeline_shapes.Composition:
        """The workflow of some runnables. Nothing is stored. Raises NotFoundError for a runnable, InvalidError with every input that is missing
        or ambiguous.
        """
        document = cast(Mapping[str, object], request)
        return cast(pipeline_shapes.Composition, self._http.change("POST", "/pipelines/compose", document=document))

    def add(self, template: str, name: str, project: str, inputs: Mapping[str, str]) -> pipeline_shapes.Pipeline:
        """Create the workflow `name` of a template in the project, assigned to the patterns among the inputs; the same again changes nothing.

        Raises NotFoundError, InvalidError with every wrong input, ConflictError for another workflow of the name, TemporaryError while the
        catalogue cannot be read.
        """
        document = {"template": template, "name": name, "project": project, "inputs": dict(inputs)}
        return cast(pipeline_shapes.Pipeline, self._http.change("POST", "/pipelines", document=document))


class Catalogs:
    """`/catalogs`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self) -> Iterator[pipeline_shapes.Catalog]:
        """The catalogue that ships, and then the registered ones."""
        return cast(Iterator[pipeline_shapes.Catalog], self._http.pages("/catalogs"))

    def get(self, name: str, project: str = "") -> pipeline_shapes.CatalogContents:
        """The templates of a catalogue, at the newest commit. Raises NotFoundError, TemporaryError while its repository cannot be read."""
        path = transport.address("catalogs", name)
        return cast(pipeline_shapes.CatalogContents, self._http.get_object(path, {"project": project}))

    def add(self, name: str, url: str, branch: str = "", description: str = "") -> pipeline_shapes.CatalogContents:
        """Register a git repository, once its templates can be read; the same again changes nothing. Raises ConflictError for the name of another
        record, TemporaryError while the repository cannot be read.
        """
        document = {"name": name, "url": url, "branch": branch, "description": description}
        return cast(pipeline_shapes.CatalogContents, self._http.change("POST", "/catalogs", document=document))
