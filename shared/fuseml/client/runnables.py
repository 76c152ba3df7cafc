"""Runnables: the reusable steps of workflows, their versions, and the artifacts that fit their inputs."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Unpack, cast

from fuseml.client import runnable_shapes, transport


class Runnables:
    """`/runnables`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(
        self, *, labels: Mapping[str, str] | None = None, limit: int | None = None, **filters: Unpack[runnable_shapes.RunnableFilters]
    ) -> Iterator[runnable_shapes.Runnable]:
        """The versions of runnables that match all filters, and then the built-in ones. `labels` are parts of the values of labels."""
        query = {**filters, **{f"labels[{label}]": value for label, value in (labels or {}).items()}}
        return cast(Iterator[runnable_shapes.Runnable], self._http.pages("/runnables", cast(transport.Query, query), limit))

    def register(self, document: transport.Document, project: str | None = None) -> runnable_shapes.Runnable:
        """Register a version; the same content again changes nothing. Raises InvalidError with every problem of the document, ConflictError for
        other content under the version.
        """
        return cast(runnable_shapes.Runnable, self._http.change("POST", "/runnables", query={"project": project}, document=document))

    def get(self, name: str, project: str | None = None, version: str | None = None) -> runnable_shapes.Runnable:
        """The highest version that the constraint admits; the highest release without one. Raises NotFoundError."""
        path = transport.address("runnables", name)
        return cast(runnable_shapes.Runnable, self._http.get_object(path, {"project": project, "version": version}))

    def versions(self, name: str, project: str) -> Iterator[runnable_shapes.Runnable]:
        """All versions of a project's runnable, newest first. Raises NotFoundError."""
        path = transport.address("runnables", name, "versions")
        return cast(Iterator[runnable_shapes.Runnable], self._http.pages(path, {"project": project}))

    def explain(
        self, name: str, offer: str, project: str | None = None, version: str | None = None
    ) -> builtins.list[runnable_shapes.Match]:
        """Whether an artifact (its address) or the outputs of another runnable (`NAME@CONSTRAINT`) fit each input, and why."""
        path = transport.address("runnables", name, "matches")
        return cast(
            builtins.list[runnable_shapes.Match], list(self._http.pages(path, {"offer": offer, "project": project, "version": version}))
        )

    def delete(self, name: str, project: str, version: str) -> None:
        """Delete a version. Raises ConflictError while a workflow uses it."""
        self._http.change("DELETE", transport.address("runnables", name), query={"project": project, "version": version})
