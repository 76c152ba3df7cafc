"""Workflows and their assignments to codesets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from fuseml.client import shapes, transport


class Workflows:
    """`/workflows` and `/workflows/assignments`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, name: str | None = None, limit: int | None = None) -> Iterator[shapes.Workflow]:
        """Workflows in their latest revision."""
        return cast(Iterator[shapes.Workflow], self._http.pages("/workflows", {"name": name}, limit))

    def create(self, document: transport.Document) -> shapes.Workflow:
        """Raises InvalidError with every problem of the document, ConflictError when the name is taken."""
        return cast(shapes.Workflow, self._http.change("POST", "/workflows", document=document))

    def update(self, name: str, document: transport.Document, revision: int | None = None) -> shapes.Workflow:
        """Make a new revision; runs that have begun keep theirs. StaleError when it is no longer at `revision`."""
        path = transport.address("workflows", name)
        return cast(shapes.Workflow, self._http.change("PUT", path, document=document, revision=revision))

    def get(self, name: str) -> shapes.Workflow:
        """Raises NotFoundError."""
        return cast(shapes.Workflow, self._http.get_object(transport.address("workflows", name)))

    def delete(self, name: str) -> None:
        """Removes the workflow and its assignments; its runs stay."""
        self._http.change("DELETE", transport.address("workflows", name))

    def assign(self, name: str, project: str, codeset: str) -> None:
        """Let pushes to the codeset start the workflow; the first run starts at once."""
        self._http.change("POST", "/workflows/assignments", query={"name": name, "codesetProject": project, "codesetName": codeset})

    def unassign(self, name: str, project: str, codeset: str) -> None:
        """Raises NotFoundError when it is not assigned; runs that have begun go on."""
        query = {"codesetProject": project, "codesetName": codeset}
        self._http.change("DELETE", transport.address("workflows", "assignments", name), query=query)

    def assignments(self, name: str | None = None, limit: int | None = None) -> Iterator[shapes.Assignment]:
        """Workflows that are assigned, each with its codesets."""
        return cast(Iterator[shapes.Assignment], self._http.pages("/workflows/assignments", {"name": name}, limit))
