"""Workflows and their assignments to codesets."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from fuseml.client import portability_shapes, shapes, transport


class Workflows:
    """`/workflows` and `/workflows/assignments`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, name: str | None = None, limit: int | None = None) -> Iterator[shapes.Workflow]:
        """The latest revisions of all workflows, or of the workflow with that name."""
        return cast(Iterator[shapes.Workflow], self._http.pages("/workflows", {"name": name}, limit))

    def create(self, document: transport.Document) -> shapes.Workflow:
        """Create a workflow. Raises InvalidError with every problem of the document, ConflictError when the name is taken."""
        return cast(shapes.Workflow, self._http.change("POST", "/workflows", document=document))

    def update(self, name: str, document: transport.Document, revision: int | None = None) -> shapes.Workflow:
        """Create a new revision; existing runs keep theirs. Raises StaleError when the workflow is no longer at `revision`."""
        path = transport.address("workflows", name)
        return cast(shapes.Workflow, self._http.change("PUT", path, document=document, revision=revision))

    def get(self, name: str, revision: int | None = None) -> shapes.Workflow:
        """A revision, by default the current one. Raises NotFoundError."""
        return cast(shapes.Workflow, self._http.get_object(transport.address("workflows", name), {"revision": revision}))

    def revisions(self, name: str, limit: int | None = None) -> Iterator[shapes.Revision]:
        """The revisions, newest first. Raises NotFoundError."""
        return cast(Iterator[shapes.Revision], self._http.pages(transport.address("workflows", name, "revisions"), None, limit))

    def diff(self, name: str, before: int | None = None, after: int | None = None) -> str:
        """A unified diff of two revisions' YAML, by default of the previous and the current one. Raises NotFoundError."""
        path = transport.address("workflows", name, "diff")
        response = self._http.send("GET", path, query={"from": before, "to": after}, headers={"Accept": "text/x-diff"})
        return response.body.decode("utf-8", "replace")

    def lint(self, document: transport.Document, project: str | None = None) -> builtins.list[shapes.Finding]:
        """The server's findings about the document, with its selectors resolved for `project`. Nothing is stored."""
        response = self._http.change("POST", "/workflows", query={"dry_run": "true", "project": project}, document=document)
        return cast(builtins.list[shapes.Finding], response.get("findings") or [])

    def plan(self, name: str, request: shapes.RunRequest) -> dict[str, object]:
        """The plan of the requested run. Nothing is stored. Raises as `Runs.start` does."""
        document = {key: value for key, value in request.items() if value}
        return self._http.change("POST", transport.address("workflows", name, "plan"), document=document)

    def compare_instances(
        self, name: str, extensions: Sequence[Mapping[str, object]], project: str = "", zone: str = ""
    ) -> portability_shapes.Portability:
        """The workflow's bindings here, compared with those by the records of another instance, whose steps run in `zone`.

        Values of credentials are not needed. Raises NotFoundError, and InvalidError for a record.
        """
        document = {"extensions": list(extensions), "project": project, "zone": zone}
        answer = self._http.change("POST", transport.address("workflows", name, "portability"), document=document)
        return cast(portability_shapes.Portability, answer)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Delete the workflow and its assignments; its runs stay. `force` cancels active runs, which else raise ConflictError."""
        self._http.change("DELETE", transport.address("workflows", name), query={"force": "true"} if force else None)

    def assign(self, name: str, project: str, codeset: str) -> None:
        """Assign the workflow to the codeset: pushes start runs, and the first run starts at once."""
        self._http.change("POST", "/workflows/assignments", query={"name": name, "codesetProject": project, "codesetName": codeset})

    def unassign(self, name: str, project: str, codeset: str, *, cancel: bool = False) -> None:
        """Remove the assignment; its active runs continue, or are cancelled with `cancel`. Raises NotFoundError when there is no such
        assignment.
        """
        query = {"codesetProject": project, "codesetName": codeset, **({"cancel": "true"} if cancel else {})}
        self._http.change("DELETE", transport.address("workflows", "assignments", name), query=query)

    def assignments(self, name: str | None = None, limit: int | None = None) -> Iterator[shapes.Assignment]:
        """Assigned workflows, each with its codesets and patterns."""
        return cast(Iterator[shapes.Assignment], self._http.pages("/workflows/assignments", {"name": name}, limit))
