"""Workflows and their assignments to codesets."""

from __future__ import annotations

import builtins
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

    def get(self, name: str, revision: int | None = None) -> shapes.Workflow:
        """One revision, the current one by default. Raises NotFoundError."""
        return cast(shapes.Workflow, self._http.get_object(transport.address("workflows", name), {"revision": revision}))

    def revisions(self, name: str, limit: int | None = None) -> Iterator[shapes.Revision]:
        """The revisions, newest first. Raises NotFoundError."""
        return cast(Iterator[shapes.Revision], self._http.pages(transport.address("workflows", name, "revisions"), None, limit))

    def diff(self, name: str, before: int | None = None, after: int | None = None) -> str:
        """A unified diff of two revisions' YAML, by default the current one and the one before it. Raises NotFoundError."""
        path = transport.address("workflows", name, "diff")
        answer = self._http.send("GET", path, query={"from": before, "to": after}, headers={"Accept": "text/x-diff"})
        return answer.body.decode("utf-8", "replace")

    def lint(self, document: transport.Document, project: str | None = None) -> builtins.list[shapes.Finding]:
        """What the server would say to the document, its selectors resolved for `project` as the registry stands; nothing is stored."""
        answer = self._http.change("POST", "/workflows", query={"dry_run": "true", "project": project}, document=document)
        return cast(builtins.list[shapes.Finding], answer.get("findings") or [])

    def plan(self, name: str, wish: shapes.RunRequest) -> dict[str, object]:
        """The plan that a run would have now. Raises what asking for the run raises."""
        given = {key: value for key, value in wish.items() if value}
        return self._http.change("POST", transport.address("workflows", name, "plan"), document=given)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Removes the workflow and its assignments; its runs stay. ConflictError while runs are active, unless they are cancelled by force."""
        self._http.change("DELETE", transport.address("workflows", name), query={"force": "true"} if force else None)

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
